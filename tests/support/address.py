"""One address for a broker that moves, as a DNS name or a Service is: new connections go where it points now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from libs import lifecycle

_HOST: Final = "127.0.0.1"
_CHUNK: Final = 65_536


class Address:
    """Passes bytes on. `target` is the port that it points to; connections that are there stay where they went."""

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self._passing: set[asyncio.Task[None]] = set()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            with suppress(OSError):
                there = await asyncio.open_connection(_HOST, self.target)
                try:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(_pass(reader, there[1]))
                        tasks.create_task(_pass(there[0], writer))
                finally:
                    there[1].close()
        finally:
            writer.close()
            self._passing.discard(task)


@asynccontextmanager
async def one_address() -> AsyncIterator[Address]:
    """Listens until the block ends."""
    address = Address()
    server = await asyncio.start_server(address._take, _HOST, 0)
    address.port = server.sockets[0].getsockname()[1]
    try:
        yield address
    finally:
        server.close()
        await lifecycle.cancel(list(address._passing))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()
