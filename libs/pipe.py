"""One connection to the broker that many callers share: commands go out as they come, replies come back in order.

redis-py makes the connection (address, TLS, password, Sentinel) and knows the errors; from then on the bytes go
through here. Its own client takes a connection out of a pool for each call and arms a timer for each reply, which
cost three quarters of a round trip (docs/adr/0015).

Who is cancelled leaves a reply that is dropped when it comes, so that the connection stays in step. One timer watches
over the oldest call: when that has waited too long the connection ends, and every call on it fails.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, ConnectionPool

from libs.lives import QUESTION
from libs.servers import CONNECT_TIMEOUT_S

type_of_command = tuple[str | bytes | int | float, ...]

_NO_REPLY: Final = object()
_pack: Final[Callable[[Any], bytes]] = hiredis.pack_command
# After one of these the server is not, or no more, the one that we want: the next command looks for it anew.
_PARTING: Final = (exceptions.ConnectionError, exceptions.ReadOnlyError)
# So it is with a primary that has lost its replicas: perhaps one of them is the primary now.
_PARTING_WORD: Final = "NOREPLICAS"


class Pipe:
    """Connects when there is a command, and anew after the connection was lost.

    `pool` is redis-py's, and closes what is left open; `errors` makes an exception of what a server says. `meet` is
    given what the server of each new connection says to `libs.lives.QUESTION`, before any command goes out.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        errors: Callable[[str], Exception],
        timeout_s: float,
        meet: Callable[[object], None] | None = None,
    ) -> None:
        self._pool = pool
        self._errors = errors
        self._timeout_s = timeout_s
        self._meet = meet
        self._connecting = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._wire: _Wire | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no reply is still to come."""
        return self._wire is None or not self._wire.calls

    @property
    def is_over(self) -> bool:
        """Whether the next command connects anew."""
        return self._wire is None or self._wire.is_over

    def part(self, primary: tuple[str, int]) -> None:
        """Hang up if the server is another than this one; the next command connects to it."""
        server = getattr(self._connection, "host", None), getattr(self._connection, "port", None)
        if self._wire is not None and server != primary:
            self._wire.end(exceptions.ConnectionError("another server is the primary now"))

    async def call(self, commands: Sequence[type_of_command]) -> list[Any]:
        """The reply to each, errors in their places. Raises redis-py's `ConnectionError`, `TimeoutError`; `OSError`."""
        return await (await self.begin(commands))

    async def begin(self, commands: Sequence[type_of_command]) -> asyncio.Future[list[Any]]:
        """Send them, after what was sent before; gives what will have the replies. Raises if it cannot connect."""
        wire = self._wire
        if wire is None or wire.is_over:
            wire = await self._connected()
        return wire.start(commands, self._timeout_s)

    async def close(self) -> None:
        """End the connection; what waits for a reply gets none."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.end(exceptions.ConnectionError("the connection was closed"))
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def _connected(self) -> "_Wire":
        async with self._connecting:
            if self._wire is not None and not self._wire.is_over:
                return self._wire
            await self.close()
            with heeding_cancellation():
                self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            writer = self._connection._writer  # noqa: SLF001 - it has no other name
            if writer is None:
                raise exceptions.ConnectionError("the connection was lost as it was made")
            # All that redis-py asked is answered: its own reader would get nothing more.
            wire = _Wire(writer.transport, self._errors)
            if self._meet is not None:
                try:
                    (said,) = await wire.start([QUESTION], CONNECT_TIMEOUT_S)
                    self._meet(said)
                except BaseException:
                    wire.end(exceptions.ConnectionError("the connection was given up"))
                    raise
            self._wire = wire
            return wire


@contextmanager
def heeding_cancellation() -> Iterator[None]:
    """Not let redis-py swallow a cancellation, for its task would never end.

    It sends through `asyncio.wait_for`, which on Python 3.11 gives its result when a cancellation comes as it
    completes: of the task groups that one of their tasks ended, a third lived on.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


class _Call:
    """Commands on their way, and the replies so far."""

    __slots__ = ("count", "deadline", "done", "replies")

    def __init__(self, done: asyncio.Future[list[Any]], count: int, deadline: float) -> None:
        self.done = done
        self.count = count
        self.deadline = deadline
        self.replies: list[Any] = []


class _Wire(asyncio.Protocol):
    """One life of a connection."""

    def __init__(self, transport: asyncio.WriteTransport, errors: Callable[[str], Exception]) -> None:
        self.calls: deque[_Call] = deque()
        self.is_over = False
        self._errors = errors
        self._is_parting = False
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._reader = hiredis.Reader(
            protocolError=exceptions.InvalidResponse, replyError=self._error, notEnoughData=_NO_REPLY
        )
        self._transport = transport
        # Whoever closes redis-py's connection waits for its protocol to be told.
        self._before = transport.get_protocol()
        transport.set_protocol(self)

    def start(self, commands: Sequence[type_of_command], timeout_s: float) -> asyncio.Future[list[Any]]:
        self._transport.write(b"".join(map(_pack, commands)))
        done: asyncio.Future[list[Any]] = self._loop.create_future()
        deadline = self._loop.time() + timeout_s
        self.calls.append(_Call(done, len(commands), deadline))
        if self._watch is None:
            self._watch = self._loop.call_at(deadline, self._look)
        return done

    def data_received(self, data: bytes) -> None:
        calls, take = self.calls, self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := take()) is not _NO_REPLY:
                call = calls[0]
                call.replies.append(reply)
                if len(call.replies) == call.count:
                    calls.popleft()
                    if not call.done.done():
                        call.done.set_result(call.replies)
        except (exceptions.InvalidResponse, IndexError) as error:
            self.end(exceptions.ConnectionError(f"the broker is out of step: {error}"))
        if self._is_parting:
            self.end(exceptions.ConnectionError("the broker does not serve now"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(exceptions.ConnectionError(f"the connection was lost: {exc or 'closed by the broker'}"))
        self._before.connection_lost(exc)

    def end(self, error: Exception) -> None:
        """Hang up; every call fails with an `error` of its own."""
        if self.is_over:
            return
        self.is_over = True
        self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        for call in self.calls:
            if not call.done.done():
                call.done.set_exception(type(error)(*error.args))
        self.calls.clear()

    def _error(self, text: str) -> Exception:
        error = self._errors(text)
        self._is_parting = self._is_parting or isinstance(error, _PARTING) or text.startswith(_PARTING_WORD)
        return error

    def _look(self) -> None:
        """Has the oldest call waited too long?"""
        self._watch = None
        if not self.calls:
            return
        deadline = self.calls[0].deadline
        if deadline <= self._loop.time():
            self.end(exceptions.TimeoutError("the broker did not reply in time"))
        else:
            self._watch = self._loop.call_at(deadline, self._look)
