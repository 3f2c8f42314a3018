"""How much of one kind a session may ask in a sliding minute. Local: nothing here outlives its socket."""

import math
import time
from collections.abc import Mapping
from typing import Final, Protocol

from libs.wire.codes import Code, Refusal
from services.gateway.settings import GatewaySettings

_MINUTE_S: Final = 60.0

# Every event that has a limit of its own, and which: a setting `<name>_PER_MINUTE`.
LIMIT_OF: Final[Mapping[str, str]] = {
    "subscribe_presence": "subscriptions",
    "get_presence": "subscriptions",
    "update_presence": "subscriptions",
    "join_group": "joins",
    "join_conversation": "joins",
    "join_user_room": "joins",
    "leave_group": "joins",
    "leave_conversation": "joins",
    "typing_start": "typing",
    "typing_stop": "typing",
    "typing_indicator": "typing",
    "emergency_broadcast": "broadcasts",
    "get_keys": "get_keys",
    "publish_keys": "publish_keys",
    "search_messages": "searches",
    "get_conversation_history": "history",
    "sync": "history",
}


class Minute:
    """When the last things of one kind were asked, as many as a minute takes."""

    __slots__ = ("_asked", "_oldest")

    def __init__(self) -> None:
        self._asked: list[float] = []
        self._oldest = 0

    def wait_s(self, now: float, most: int) -> float:
        """Count one and give 0; or how long until there is room."""
        if len(self._asked) < most:
            self._asked.append(now)
            return 0.0
        left_s = self._asked[self._oldest] + _MINUTE_S - now
        if left_s > 0:
            return left_s
        self._asked[self._oldest] = now
        self._oldest = (self._oldest + 1) % most
        return 0.0


class Asking(Protocol):
    """A session, as far as its minutes go: none until it asks for something."""

    minutes: dict[str, Minute] | None


class Minutes:
    """Holds sessions to their limits, by name; 0: any number."""

    def __init__(self, per_minute: Mapping[str, int]) -> None:
        self._per_minute = per_minute

    def count(self, session: Asking, event: str) -> None:
        """Count an event. Raises `Refusal` with `rate_limited`."""
        limit = LIMIT_OF.get(event)
        if limit is None or not self._per_minute[limit]:
            return
        if session.minutes is None:
            session.minutes = {}
        minute = session.minutes.setdefault(limit, Minute())
        wait_s = minute.wait_s(time.monotonic(), self._per_minute[limit])
        if wait_s > 0:
            raise Refusal(Code.RATE_LIMITED, retry_after_ms=math.ceil(wait_s * 1000))


def per_minute(s: GatewaySettings) -> dict[str, int]:
    """The limits of events, by name."""
    return {limit: getattr(s, f"{limit}_per_minute") for limit in set(LIMIT_OF.values())}
