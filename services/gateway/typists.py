"""Who is typing, as this gateway's sockets were told: each start is told once, and ends by itself.

The timers live here, where those are who were told: so typing ends though the typist's gateway, or the router, has
died.
"""

import asyncio
from typing import Final

from libs.clock import now_ms
from libs.wire import payloads
from libs.wire.frames import TypingNotice
from services.gateway.sessions import Session, Sessions, State

# Each ends within seconds, so this many are started in that time; beyond it nobody is told.
_TYPISTS_MAX: Final = 50_000


class _Typist:
    """Somebody types in a conversation: until when, and which sockets know."""

    __slots__ = ("timer", "told")

    def __init__(self) -> None:
        self.timer: asyncio.TimerHandle | None = None
        self.told: set[str] = set()

    def stop_timer(self) -> None:
        """Another one follows, or none is needed."""
        if self.timer is not None:
            self.timer.cancel()


class Typists:
    """Tells sockets who starts and stops typing."""

    def __init__(self, sessions: Sessions, *, typing_s: float) -> None:
        self._sessions = sessions
        self._typing_s = typing_s
        self._typists: dict[tuple[str, str], _Typist] = {}

    def __len__(self) -> int:
        return len(self._typists)

    def notice(self, notice: TypingNotice) -> None:
        """A router's word."""
        if notice.is_typing:
            self._start(notice)
        else:
            self._stop(notice)

    def _start(self, notice: TypingNotice) -> None:
        key = (notice.conversation_id, notice.user_id)
        typist = self._typists.get(key)
        if typist is None:
            if len(self._typists) >= _TYPISTS_MAX:
                return
            typist = self._typists[key] = _Typist()
        typist.stop_timer()
        typist.timer = asyncio.get_running_loop().call_later(self._typing_s, self._stop, notice)
        here = [session for user in notice.users for session in self._sessions.of_user(user)]
        untold = [one for one in here if one.id not in typist.told and one.state is not State.JOINING]
        typist.told.update(session.id for session in untold)
        _tell(untold, notice, is_typing=True, at_ms=notice.at_ms)

    def _stop(self, notice: TypingNotice) -> None:
        typist = self._typists.pop((notice.conversation_id, notice.user_id), None)
        if typist is None:
            return
        typist.stop_timer()
        told = [session for session in map(self._sessions.by_socket, typist.told) if session is not None]
        _tell(told, notice, is_typing=False, at_ms=now_ms())


def _tell(sessions: list[Session], notice: TypingNotice, *, is_typing: bool, at_ms: int) -> None:
    if not sessions:
        return
    body = payloads.encode(
        payloads.TypingIndicator(notice.user_id, notice.user_name, notice.conversation_id, is_typing, at_ms)
    )
    for session in sessions:
        session.socket.emit("typing_indicator", body)
