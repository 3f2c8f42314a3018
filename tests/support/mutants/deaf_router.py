"""A router that reads the messages of its partitions no more, and keeps their leases."""

from collections.abc import Mapping
from typing import Any

from libs.streams import consumer
from tests.support.mutants.hanging import hang_if_told


def break_it() -> None:
    """Hang in place of a read of several partitions, which is never that of broadcasts, once told to."""
    read = consumer._read

    async def hanging(reader: Any, positions: Mapping[str, str], *rest: Any, **more: Any) -> Any:
        if len(positions) > 1:
            await hang_if_told()
        return await read(reader, positions, *rest, **more)

    consumer._read = hanging
