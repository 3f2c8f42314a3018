"""A gateway that takes sections under any token: what a router says that was paused and lost its partition, too."""

from libs.wire.frames import Section
from services.gateway.fence import Fence


def break_it() -> None:
    """Let everything pass."""

    def let_pass(self: Fence, section: Section) -> bool:
        return True

    Fence.passes = let_pass  # type: ignore[method-assign]
