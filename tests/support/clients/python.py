"""PythonClient: unmodified python-socketio."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import count, cycle
from time import time
from types import TracebackType
from typing import Any, Final, Self

import socketio

from tests.support.clients.client import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, Client, NoAnswer, answer_within
from tests.support.history import History
from tests.support.waiting import until

# The library waits for its pending poll, which a stock server leaves open until the next ping is due.
_LEAVE_TIMEOUT_S: Final = 0.5
_arrivals: Final = count()


class PythonClient(Client):
    """A python-socketio AsyncClient. Made by `open`; `async with` closes it.

    Between two connections the library refuses to emit, which is a `NoAnswer` here. What it was told
    not to acknowledge it acknowledges once told to again, if the connection is still the same.
    """

    def __init__(
        self,
        name: str,
        history: History,
        device: str | None = None,
        user: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(name, history, device, user)
        self._auth: dict[str, Any] | None = None
        self._urls: cycle[str] = cycle(())
        self._may_acknowledge = asyncio.Event()
        self._unanswered: set[asyncio.Future[Any]] = set()
        # A signal ends the test run, not the sockets in it.
        self._sio = socketio.AsyncClient(handle_sigint=False, **(options or {}))
        self._sio.on("connect", self._on_connect)
        self._sio.on("connect_error", self._on_connect_error)
        self._sio.on("disconnect", self._on_disconnect)
        self._sio.on("*", self._on_event)

    @classmethod
    async def open(
        cls,
        history: History,
        name: str,
        urls: str | Sequence[str],
        auth: dict[str, Any] | None = None,
        *,
        transports: Sequence[str] | None = None,
        auto_ack: bool = True,
        device: str | None = None,
        user: str | None = None,
        timeout_s: float = CONNECT_TIMEOUT_S,
        options: dict[str, Any] | None = None,
    ) -> Self:
        """A connected client. With several `urls` each attempt to connect goes to the next one.

        `options` are python-socketio's own. Raises socketio.exceptions.ConnectionError when the first handshake is
        refused or fails.
        """
        client = cls(name, history, device, user, options)
        client._auth = auth
        client._urls = cycle([urls] if isinstance(urls, str) else urls)
        await client.acknowledge(auto_ack)
        try:
            await client._connect(transports, timeout_s)
        except BaseException:
            # It may have lost its line as it connected: then the library goes on connecting behind our back.
            await client.close()
            raise
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def emit(self, event: str, payload: Any = None, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        sent = self._record_send(event, payload)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_answer(*args: Any) -> None:
            answer = args[0] if args else None
            self._record_answer(sent, answer)
            if not future.done():
                future.set_result(answer)

        self._unanswered.add(future)
        try:
            await self._hand_over(event, payload, on_answer)
            return await answer_within(future, timeout_s, self.name)
        finally:
            self._unanswered.discard(future)

    async def emit_nowait(self, event: str, payload: Any = None) -> None:
        self._record_send(event, payload)
        await self._hand_over(event, payload, None)

    async def acknowledge(self, on: bool) -> None:
        if on:
            self._may_acknowledge.set()
        else:
            self._may_acknowledge.clear()

    async def set_auth(self, auth: dict[str, Any] | None) -> None:
        self._auth = auth

    async def connect_again(self) -> None:
        eio = self._sio.eio
        await until(lambda: eio.state == "disconnected", CONNECT_TIMEOUT_S, f"{self.name} to be done with leaving")
        await self._connect(self._sio.connection_transports, CONNECT_TIMEOUT_S)

    async def drop(self) -> None:
        assert self._sio.transport() == "websocket", f"{self.name} polls: there is no connection to cut"
        self._sio.eio.ws._conn.transport.abort()

    async def close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await self._sio.shutdown()
        # Closes the HTTP session, which shutdown leaves open when it was cut short or had nothing to leave.
        await self._sio.eio.disconnect()
        # What is not acknowledged waits for the word; now that nothing can be sent it may go.
        self._may_acknowledge.set()

    async def _connect(self, transports: Sequence[str] | None, timeout_s: float) -> None:
        await self._sio.connect(
            self._next_url,
            auth=lambda: self._auth,
            transports=list(transports) if transports else None,
            wait_timeout=timeout_s,
        )

    def _next_url(self) -> str:
        return next(self._urls)

    async def _hand_over(self, event: str, payload: Any, on_answer: Any) -> None:
        try:
            await self._sio.emit(event, payload, callback=on_answer)
        except socketio.exceptions.BadNamespaceError as error:
            raise NoAnswer(f"{self.name}: not connected") from error

    # --- what the library says --------------------------------------------------------------------

    async def _on_event(self, event: str, *args: Any) -> None:
        self._receive(event, args, next(_arrivals), _now_ms())
        # The library acknowledges when this returns.
        await self._may_acknowledge.wait()

    def _on_connect(self) -> None:
        data = {"sid": self._sio.get_sid(), "url": self._sio.eio.base_url, "transport": self._sio.transport()}
        self._turn("connect", data, next(_arrivals), _now_ms())

    def _on_connect_error(self, *args: Any) -> None:
        self._turn("connect_error", args[0] if args else None, next(_arrivals), _now_ms())

    def _on_disconnect(self, reason: str) -> None:
        self._turn("disconnect", {"reason": reason}, next(_arrivals), _now_ms())
        for future in self._unanswered:
            if not future.done():
                future.set_exception(NoAnswer(f"{self.name}: {reason}"))


def _now_ms() -> int:
    return int(time() * 1000)
