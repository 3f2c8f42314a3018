"""Who types here, told to the routers: worth something now and nothing later, so it never waits.

A session's typing is remembered for as long as the others believe in it, so that it stops when its socket goes.
"""

import time
from collections import OrderedDict
from typing import Final

import msgspec

from libs.clock import now_ms
from libs.wire import events, frames
from libs.wire.codes import Refusal
from libs.wire.frames import Origin
from services.gateway.sessions import Session
from services.gateway.uplink import Uplink

# Nobody types in more conversations at once; what is forgotten stops by itself.
_REMEMBERED_MAX: Final = 8

Typed = OrderedDict[str, tuple[float, frames.Typing]]


class Keystrokes:
    """Passes on who starts and stops typing."""

    def __init__(self, uplink: Uplink, *, typing_s: float) -> None:
        self._uplink = uplink
        self._typing_s = typing_s
        # By session, then conversation: when it was said last, and how.
        self._typed: dict[str, Typed] = {}

    def typed(self, session: Session, origin: Origin, name: str, event: events.Typing) -> None:
        """An event of the client's; a router answers it. Raises `Refusal`, also when it would be late."""
        conversation_id, bare_id = events.target(event.conversation_id, session.user_id)
        is_typing = name == "typing_start" or (name == "typing_indicator" and event.is_typing is not False)
        frame = frames.Typing(
            origin, session.user_id, session.name, conversation_id, is_typing, name, now_ms(), bare_id
        )
        self._uplink.publish_if_prompt(conversation_id, frame)
        if is_typing:
            self._remember(session, frame)
        elif session.id in self._typed:
            self._typed[session.id].pop(conversation_id, None)

    def closed(self, session: Session) -> None:
        """The socket is gone: whatever it typed in stops."""
        for typed_at, frame in self._typed.pop(session.id, Typed()).values():
            if time.monotonic() - typed_at >= self._typing_s:
                continue
            origin = Origin(frame.origin.gateway, frame.origin.session)
            stop = msgspec.structs.replace(frame, origin=origin, is_typing=False, event="typing_stop", at_ms=now_ms())
            try:
                self._uplink.publish_if_prompt(frame.conversation_id, stop)
            except Refusal:
                return  # the others' gateways stop it, a little later

    def _remember(self, session: Session, frame: frames.Typing) -> None:
        typed = self._typed.setdefault(session.id, Typed())
        typed[frame.conversation_id] = (time.monotonic(), frame)
        typed.move_to_end(frame.conversation_id)
        if len(typed) > _REMEMBERED_MAX:
            typed.popitem(last=False)
