"""Client: what a JavaScript and a Python client have in common."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.support.clients.inbox import Event, Inbox
from tests.support.history import History, Sent
from tests.support.waiting import until

ANSWER_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 20.0
SEND_MESSAGE: Final = "send_message"


class NoAnswer(Exception):
    """An event was not acknowledged: the time was up, or the socket was gone. Send it again."""


class Client(ABC):
    """One connection of one device, and what it received.

    `device` is the name in the History: the same over all connections of one phone.
    """

    def __init__(self, name: str, history: History, device: str | None, user: str | None) -> None:
        self.name = name
        self.device = device or name
        self.connected = False
        self._history = history
        self._inbox = Inbox(name)
        self._message_ids: set[str] = set()
        if user is not None:
            history.users[self.device] = user

    # --- what a kind of client does ---------------------------------------------------------------

    @abstractmethod
    async def emit(self, event: str, payload: Any = None, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """Send an event and return its acknowledgement. Raises `NoAnswer`."""

    @abstractmethod
    async def emit_nowait(self, event: str, payload: Any = None) -> None:
        """Hand an event to the library; ask for no acknowledgement."""

    @abstractmethod
    async def acknowledge(self, on: bool) -> None:
        """Whether events from here on are acknowledged if they ask for it (at first they are)."""

    @abstractmethod
    async def set_auth(self, auth: dict[str, Any] | None) -> None:
        """What the next handshake will say."""

    @abstractmethod
    async def connect_again(self) -> None:
        """Come back after what the library takes as final: a disconnect packet, a refused handshake."""

    @abstractmethod
    async def drop(self) -> None:
        """Cut the connection without a word, as a lost network does. The library comes back by itself."""

    @abstractmethod
    async def close(self) -> None:
        """Leave, and stay away."""

    # --- what all have ----------------------------------------------------------------------------

    def events(self, name: str | None = None, since: int = 0) -> list[Event]:
        """What was received (of one name), in order; `since` a `mark`."""
        return self._inbox.events(name, since)

    @property
    def mark(self) -> int:
        """Now, for the `since` of a later look or wait."""
        return len(self._inbox)

    @property
    def message_ids(self) -> set[str]:
        """The ids of all messages this connection was brought."""
        return self._message_ids

    async def wait_for(
        self,
        event: str,
        predicate: Callable[[Event], bool] | None = None,
        timeout_s: float = 10.0,
        since: int = 0,
    ) -> Event:
        """The first `event` for which `predicate` holds, received already (after `since`) or to come.

        Raises AssertionError with what was received.
        """
        return await self._inbox.wait_for(event, predicate, timeout_s, since)

    async def wait_for_messages(self, count: int, timeout_s: float = 10.0) -> None:
        """Until this connection was brought `count` different messages. Raises AssertionError."""
        if len(self._message_ids) >= count:
            return
        try:
            await self._inbox.wait_for(None, lambda _: len(self._message_ids) >= count, timeout_s, since=self.mark)
        except AssertionError as error:
            raise AssertionError(f"{len(self._message_ids)} of {count} messages. {error}") from None

    async def wait_connected(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Until the socket is connected, now or again. Raises AssertionError with what was received."""
        if not self.connected:
            await self.wait_for("connect", timeout_s=timeout_s, since=self.mark)

    async def send_message(self, payload: dict[str, Any], patience_s: float = 30.0, timeout_s: float = 3.0) -> Any:
        """Send a message as the app does: what got no answer is sent again; what may be, when it was told to be.

        Returns the last answer: accepted, or a refusal that is final. Raises AssertionError after
        `patience_s`; a try without an answer takes `timeout_s`.
        """

        async def settled() -> Any:
            answer = await self.emit(SEND_MESSAGE, payload, timeout_s)
            if not _is_retryable(answer):
                return answer
            await asyncio.sleep(answer["error"].get("retryAfterMs", 0) / 1000)
            return None

        what = f"{self.name}: a final answer to {payload.get('clientId')!r}"
        return await until(settled, patience_s, what, despite=(NoAnswer,))

    def dump(self) -> str:
        """What was received, for a person to read."""
        return self._inbox.dump()

    # --- for the kinds of client ------------------------------------------------------------------

    def _receive(self, name: str, args: Sequence[Any], index: int, at_ms: int) -> None:
        """An event of the server's arrived."""
        payload = args[0] if args else None
        self._history.record_event(self.device, name, payload)
        match name, payload:
            case "new_message", {"id": str(message_id)}:
                self._message_ids.add(message_id)
            case "offline_messages", {"messages": list(messages)}:
                self._message_ids.update(message["id"] for message in messages if "id" in message)
        self._inbox.add(Event(name, tuple(args), index, at_ms))

    def _turn(self, name: str, data: Any, index: int, at_ms: int) -> None:
        """The connection came, went, or was refused."""
        if name in ("connect", "disconnect"):
            self.connected = name == "connect"
        self._inbox.add(Event(name, (data,), index, at_ms))

    def _record_send(self, event: str, payload: Any) -> Sent | None:
        if event != SEND_MESSAGE or not isinstance(payload, dict):
            return None
        return self._history.record_send(self.device, payload)

    def _record_answer(self, sent: Sent | None, answer: Any) -> None:
        if sent is not None:
            self._history.record_answer(sent, answer)


def _is_retryable(answer: Any) -> bool:
    match answer:
        case {"ok": False, "error": {"retryable": True}}:
            return True
    return False


async def answer_within(future: asyncio.Future[Any], timeout_s: float, what: str) -> Any:
    """The result of `future`. Raises `NoAnswer` when the time is up."""
    deadline = asyncio.timeout(timeout_s)
    try:
        async with deadline:
            return await future
    except TimeoutError:
        if not deadline.expired():
            raise
    raise NoAnswer(f"{what}: no answer within {timeout_s} s")
