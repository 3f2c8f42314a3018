"""Who is connected here: sessions by socket and by user.

A *session* is a socket that has shown a good token. It moves one way: joining (its user has a seat, the
router has not said yes) → catching up (what is due goes first, live messages are held) → live.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, Protocol

from libs.identity import Claims
from libs.wire import names
from libs.wire.codes import Refusal
from libs.wire.frames import DuePosition, Places, Sender
from services.gateway.minutes import Minute
from services.gateway.pace import Pace
from services.gateway.packets import Packet

# Unanswered emits that are remembered per socket; what is forgotten stays due.
_ACKS_MAX: Final = 1024
# Live messages held while a session catches up; beyond it they are let go, and fetched as due after.
HELD_MAX: Final = 200
# Broadcasts that a socket was sent; one beyond so many newer ones could come again.
_ALARMS_MAX: Final = 256


class Socket(Protocol):
    """What a session needs of its socket."""

    id: str
    address: str
    pace: Pace | None

    def emit(self, event: str, body: bytes, ack: int | None = None) -> None: ...
    def say(self, packet: Packet) -> None: ...
    def emit_first(self, event: str, body: bytes, ack: int) -> None: ...
    def set_barrier(self) -> None: ...
    def answer(self, ack: int, body: bytes) -> None: ...
    def close_for_retry(self) -> None: ...
    def close_for_good(self) -> None: ...
    def close_for_breach(self) -> None: ...


class State(IntEnum):
    """How far a session has come."""

    JOINING = 0
    CATCHING_UP = 1
    LIVE = 2


class Expected:
    """What the client's acknowledgement of an emit will confirm; `is_page` asks for the next page.

    `walk` is that of a page of broadcasts: the last of the page to be confirmed asks for the next one.
    """

    __slots__ = ("confirms", "is_page", "walk")

    def __init__(
        self, confirms: tuple[tuple[str, tuple[int, ...]], ...], *, is_page: bool = False, walk: int = 0
    ) -> None:
        self.confirms = confirms
        self.is_page = is_page
        self.walk = walk


class Held:
    """A live message that waits until what is older has been sent."""

    __slots__ = ("body", "conversation_id", "event", "seq")

    def __init__(self, event: str, body: bytes, conversation_id: str, seq: int) -> None:
        self.event = event
        self.body = body
        self.conversation_id = conversation_id
        self.seq = seq


class Walk:
    """A walk through what is due: where it is, and what it has sent."""

    __slots__ = ("again", "alarms", "budget_bytes", "cursors", "held", "is_holding", "number", "position", "seen")

    def __init__(self, number: int = 0, cursors: dict[str, int] | None = None, budget_bytes: int | None = None) -> None:
        # Pages name their walk; those of one before are too late.
        self.number = number
        self.position: DuePosition | None = None
        self.cursors = cursors
        self.budget_bytes = budget_bytes
        self.held: list[Held] = []
        # Live messages wait for the walk; not for ever (`catchup.py`).
        self.is_holding = True
        self.seen: set[tuple[str, int]] = set()
        # Something was let go meanwhile: walk once more from the start.
        self.again = False
        # Broadcasts of the page that are not confirmed yet.
        self.alarms = 0


class Session:
    """One signed-in socket."""

    __slots__ = (
        "_ack",
        "_acks",
        "_alarms",
        "claims",
        "expiry",
        "has_moved",
        "is_gone",
        "minutes",
        "name",
        "page_timer",
        "places",
        "refusal",
        "role",
        "socket",
        "state",
        "user_id",
        "walk",
    )

    def __init__(self, socket: Socket, claims: Claims) -> None:
        self.socket = socket
        self.claims = claims
        self.user_id = claims.user_id
        self.name = ""
        self.role = ""
        self.places = Places()
        self.has_moved = False
        self.state = State.JOINING
        self.is_gone = False
        self.minutes: dict[str, Minute] | None = None
        # Its sign-in was made void while it was still joining: whoever goes on with it finds this.
        self.refusal: Refusal | None = None
        self.walk: Walk | None = Walk()
        self.page_timer: asyncio.TimerHandle | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self._ack = 0
        self._acks: OrderedDict[int, Expected] = OrderedDict()
        self._alarms: dict[str, None] = {}

    @property
    def id(self) -> str:
        """The socket's id."""
        return self.socket.id

    @property
    def sender(self) -> Sender:
        """Who this is, for frames."""
        return Sender(self.user_id, self.name, self.role)

    def expect(self, expected: Expected) -> int:
        """The acknowledgement id under which the client's confirmation will come."""
        self._ack += 1
        self._acks[self._ack] = expected
        if len(self._acks) > _ACKS_MAX:
            self._acks.popitem(last=False)
        return self._ack

    def take_expected(self, ack: int) -> Expected | None:
        """What `ack` confirms, once."""
        return self._acks.pop(ack, None)

    def emit_due(self, event: str, body: bytes, conversation_id: str, seq: int) -> None:
        """Emit something that is due until its acknowledgement comes."""
        self.socket.emit(event, body, self.expect(Expected(((conversation_id, (seq,)),))))

    def emit_alarm(self, broadcast_id: str, body: bytes, walk: int = 0) -> bool:
        """Emit a broadcast, ahead of all that waits, unless this socket was sent it before; whether it was not.

        It is due until its acknowledgement comes. `walk` is that of the page that brought it.
        """
        if broadcast_id in self._alarms:
            return False
        self._alarms[broadcast_id] = None
        if len(self._alarms) > _ALARMS_MAX:
            del self._alarms[next(iter(self._alarms))]
        ack = self.expect(Expected(((names.broadcast(broadcast_id), (1,)),), walk=walk))
        self.socket.emit_first("emergency_broadcast", body, ack)
        return True

    def stop_timers(self) -> None:
        """No more for this session."""
        for timer in (self.page_timer, self.expiry):
            if timer is not None:
                timer.cancel()


class Sessions:
    """Every session of this gateway."""

    def __init__(self) -> None:
        self._by_socket: dict[str, Session] = {}
        self._by_user: dict[str, dict[str, Session]] = {}

    def __len__(self) -> int:
        return len(self._by_socket)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_socket.values()))

    @property
    def users(self) -> list[str]:
        """Everyone who has a session here."""
        return list(self._by_user)

    def add(self, session: Session) -> bool:
        """Take a session in; True if it is its user's first here."""
        self._by_socket[session.id] = session
        of_user = self._by_user.setdefault(session.user_id, {})
        of_user[session.id] = session
        return len(of_user) == 1

    def remove(self, session: Session) -> bool:
        """Let a session go; True if it was its user's last here."""
        session.is_gone = True
        session.stop_timers()
        if self._by_socket.get(session.id) is not session:
            return False
        del self._by_socket[session.id]
        of_user = self._by_user[session.user_id]
        del of_user[session.id]
        if of_user:
            return False
        del self._by_user[session.user_id]
        return True

    def by_socket(self, socket_id: str) -> Session | None:
        """The session of a socket."""
        return self._by_socket.get(socket_id)

    def of_user(self, user_id: str) -> list[Session]:
        """All devices of a user here."""
        return list(self._by_user.get(user_id, {}).values())
