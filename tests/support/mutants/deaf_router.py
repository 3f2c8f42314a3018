"""A router that reads the messages of its partitions no more, and keeps their leases."""

from typing import Any

from libs.streams.consumer import Reads
from tests.support.mutants.hanging import hang_if_told


def break_it() -> None:
    """Hang in place of a read of several partitions, which is never that of broadcasts, once told to."""
    read = Reads.read

    async def hanging(self: Reads, positions: Any, **options: Any) -> Any:
        if len(positions) > 1:
            await hang_if_told()
        return await read(self, positions, **options)

    Reads.read = hanging  # type: ignore[method-assign]
