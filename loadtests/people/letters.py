"""What stands in a message of the load test: its run, its target, its sender, its number, and when it was sent.

All of it is in the `clientId`, which comes to every recipient as it went; a broadcast, whose clientId stays with
the server, has it in its title. So whoever gets one can say how long it took and whose it was, in whatever
process they are.
"""

from typing import NamedTuple, Self

_MICROS = 1_000_000


class Letter(NamedTuple):
    """One message. `sent_at` is in seconds of the clock that all workers share."""

    run: str
    target: str
    sender: int
    number: int
    sent_at: float

    @classmethod
    def read(cls, key: str) -> Self | None:
        """The letter that `key` names, or None if it is none: somebody else's message, or an older one."""
        parts = key.split(".")
        if len(parts) != 5:
            return None
        run, target, sender, number, micros = parts
        try:
            return cls(run, target, int(sender), int(number), int(micros) / _MICROS)
        except ValueError:
            return None

    @property
    def key(self) -> str:
        """What names it."""
        return f"{self.run}.{self.target}.{self.sender}.{self.number}.{round(self.sent_at * _MICROS)}"
