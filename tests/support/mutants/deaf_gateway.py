"""A gateway that reads its streams no more: what is said to its sockets stays there."""

from collections.abc import Mapping
from typing import Any

from libs.streams import consumer
from tests.support.mutants.hanging import hang_if_told


def break_it() -> None:
    """Hang in place of a read, once told to."""
    read = consumer._read

    async def hanging(reader: Any, positions: Mapping[str, str], *rest: Any, **more: Any) -> Any:
        await hang_if_told()
        return await read(reader, positions, *rest, **more)

    consumer._read = hanging
