"""What a process asked of the broker: counted where commands go out, told by `libs.telemetry.process`."""

from collections import Counter
from collections.abc import Callable


class Usage:
    """Counts since the process started."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()
        # Of the commands that run one: by the name of the file.
        self.scripts: Counter[str] = Counter()
        # By the class of what was raised, or stood in the place of a reply.
        self.errors: Counter[str] = Counter()
        # Is given the seconds of each round trip.
        self.took: Callable[[float], None] | None = None

    def timed(self, took: Callable[[float], None]) -> None:
        """Tell how long each round trip takes."""
        self.took = took

    def failed(self, error: BaseException) -> None:
        """Count an error."""
        self.errors[type(error).__name__] += 1
