"""A gateway that publishes nothing more: what its sockets say stays here."""

from typing import Any

from libs.streams.producer import Producer
from tests.support.mutants.hanging import hang_if_told


def break_it() -> None:
    """Hang in place of a write, once told to."""
    flush = Producer._flush

    async def hanging(self: Producer, items: list[Any]) -> None:
        await hang_if_told()
        await flush(self, items)

    Producer._flush = hanging  # type: ignore[method-assign] # that is the point
