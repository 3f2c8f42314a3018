"""Inbox: what one client received, and waiting for more."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

# A test that fails shows the end of what was received: the beginning is rarely what went wrong.
_SHOWN_EVENTS: Final = 30
_SHOWN_CHARS: Final = 300


@dataclass(frozen=True)
class Event:
    """Something a client received, or `connect`, `connect_error`, `disconnect`, `upgrade` of its own.

    `index` rises with every arrival at this client's process; `at_ms` is milliseconds since 1970.
    """

    name: str
    args: tuple[Any, ...]
    index: int
    at_ms: int

    @property
    def data(self) -> Any:
        """The first argument, None if there is none."""
        return self.args[0] if self.args else None

    def __str__(self) -> str:
        text = json.dumps(self.args, ensure_ascii=False, default=repr)
        return f"{self.index:>6}  {self.name}  {text[:_SHOWN_CHARS]}"


class Inbox:
    """Events in the order of their arrival. Waiting looks at what has arrived, then at what arrives."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._events: list[Event] = []
        self._watchers: dict[asyncio.Future[Event], Callable[[Event], bool]] = {}

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: Event) -> None:
        """Keep `event` and wake who waits for it."""
        self._events.append(event)
        for future, wanted in list(self._watchers.items()):
            if future.done():
                continue
            try:
                if wanted(event):
                    future.set_result(event)
            except Exception as error:  # noqa: BLE001  a test's predicate that fails is told to the test, not to the connection
                future.set_exception(error)

    def fail(self, error: Exception) -> None:
        """Nothing will arrive any more: whoever waits gets `error`."""
        for future in self._watchers:
            if not future.done():
                future.set_exception(error)

    def events(self, name: str | None = None, since: int = 0) -> list[Event]:
        """All events (of one name), but the first `since`."""
        return [event for event in self._events[since:] if name is None or event.name == name]

    async def wait_for(
        self,
        name: str | None,
        predicate: Callable[[Event], bool] | None,
        timeout_s: float,
        since: int = 0,
    ) -> Event:
        """The first event of `name` (None: of any) for which `predicate` holds, but the first `since`.

        Raises AssertionError with what was received.
        """

        def wanted(event: Event) -> bool:
            return (name is None or event.name == name) and (predicate is None or predicate(event))

        for event in self._events[since:]:
            if wanted(event):
                return event
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._watchers[future] = wanted
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                return await future
        except TimeoutError:
            if not deadline.expired():
                raise
        finally:
            del self._watchers[future]
        that = "" if predicate is None else " that was waited for"
        raise AssertionError(f"{self._owner}: no {name or 'event'}{that} within {timeout_s} s.\n{self.dump()}")

    def dump(self) -> str:
        """What was received, for a person to read."""
        if not self._events:
            return f"{self._owner} received nothing."
        left_out = max(0, len(self._events) - _SHOWN_EVENTS)
        head = f"{self._owner} received {len(self._events)} events" + (
            f", the last {_SHOWN_EVENTS}:" if left_out else ":"
        )
        return "\n".join([head, *(f"  {event}" for event in self._events[left_out:])])
