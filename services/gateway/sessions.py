"""Who is connected here: sessions by socket and by user.

A *session* is a socket that has shown a good token. It moves one way: joining (its user has a seat, the
router has not said yes) → catching up (what is due goes first, live messages are held) → live.
"""

import time
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, Protocol

from libs.identity import Claims
from libs.wheel import Timeout
from libs.wire import names
from libs.wire.codes import Refusal
from libs.wire.frames import DuePage, DuePosition, Places, Sender
from services.gateway import packets
from services.gateway.engine.packets import Packet
from services.gateway.minutes import Minute
from services.gateway.pace import Pace

# Unanswered emits that are remembered per socket; what is forgotten stays due.
_UNANSWERED_MAX: Final = 1024
_ACK_MAX: Final = 2**30
# Live messages held while a session catches up; beyond it they are let go, and fetched as due after. Far more than
# come to one person while a broker fails over: should the store be away too, what was let go is late. A message that
# many hold is in memory once.
HELD_MAX: Final = 1000
# Broadcasts that a socket was sent; one beyond so many newer ones could come again.
_ALARMS_MAX: Final = 256


_NOWHERE: Final = Places()


class Socket(Protocol):
    """What a session needs of its socket."""

    id: str
    address: str
    pace: Pace | None

    def emit(self, event: str, body: bytes, ack: int | None = None) -> None: ...
    def say(self, packet: Packet) -> None: ...
    def say_soon(self, packet: Packet) -> None: ...
    def say_first(self, packet: Packet) -> None: ...
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

    `walk` is that of a page of broadcasts: the last of the page to be confirmed asks for the next one. `mark` tells a
    message that is only queued from others at its place.
    """

    __slots__ = ("at", "confirms", "is_page", "mark", "walk")

    def __init__(
        self, confirms: tuple[tuple[str, tuple[int, ...]], ...], *, is_page: bool = False, walk: int = 0, mark: int = 0
    ) -> None:
        # When it came, by the monotonic clock.
        self.at = time.monotonic()
        self.confirms = confirms
        self.mark = mark
        self.is_page = is_page
        self.walk = walk


class Due:
    """Something for any number of sockets that is due until its acknowledgement comes: one packet for all of them."""

    __slots__ = ("ack", "expected", "packet")

    def __init__(self, ack: int, event: str, body: bytes, expected: Expected) -> None:
        self.ack = ack
        self.packet = packets.event(event, body, ack)
        self.expected = expected


class Acks:
    """Numbers for acknowledgements, each given once to all sockets of this gateway.

    Within what clients read as an integer of 32 bits; by the time they begin anew nobody waits for the first ones.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """One that no socket waits for."""
        self._last = self._last % _ACK_MAX + 1
        return self._last

    def alarm(self, broadcast_id: str, body: bytes, walk: int = 0) -> Due:
        """A broadcast; `walk` is that of the page that brought it."""
        expected = Expected(((names.broadcast(broadcast_id), (1,)),), walk=walk)
        return Due(self.next(), "emergency_broadcast", body, expected)

    def message(self, event: str, body: bytes, conversation_id: str, seq: int, mark: int = 0) -> Due:
        """A message, for those who are to confirm it."""
        return Due(self.next(), event, body, Expected(((conversation_id, (seq,)),), mark=mark))


class Walk:
    """A walk through what is due: where it is, and what it has sent."""

    __slots__ = (
        "again",
        "alarms",
        "budget_bytes",
        "cursors",
        "first",
        "held",
        "is_holding",
        "moved_at",
        "number",
        "position",
        "seen",
        "was_refused",
    )

    def __init__(self, number: int = 0, cursors: dict[str, int] | None = None, budget_bytes: int | None = None) -> None:
        # Pages name their walk; those of one before are too late.
        self.number = number
        self.position: DuePosition | None = None
        # A page that came before the client was welcome.
        self.first: DuePage | None = None
        self.cursors = cursors
        self.budget_bytes = budget_bytes
        self.held: dict[tuple[str, int], Due] = {}
        # Live messages wait for the walk; not for ever (`catchup.py`).
        self.is_holding = True
        self.seen: set[tuple[str, int]] = set()
        # Something was let go meanwhile: walk once more from the start.
        self.again = False
        # The next page could not be asked for: routers are behind.
        self.was_refused = False
        # Broadcasts of the page that are not confirmed yet.
        self.alarms = 0
        # When it last got further, by the monotonic clock.
        self.moved_at = time.monotonic()


class Session:
    """One signed-in socket."""

    __slots__ = (
        "_alarms",
        "_unanswered",
        "claims",
        "comes_back",
        "expiry",
        "has_moved",
        "is_gone",
        "minutes",
        "name",
        "page_timer",
        "places",
        "refusal",
        "role",
        "since",
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
        self.places = _NOWHERE
        self.has_moved = False
        # When it came, by the monotonic clock; whether its client was told to come back.
        self.since = time.monotonic()
        self.comes_back = False
        self.state = State.JOINING
        self.is_gone = False
        self.minutes: dict[str, Minute] | None = None
        # Its sign-in was made void while it was still joining: whoever goes on with it finds this.
        self.refusal: Refusal | None = None
        self.walk: Walk | None = Walk()
        self.page_timer: Timeout | None = None
        self.expiry: Timeout | None = None
        # By their numbers, the oldest first.
        self._unanswered: dict[int, Expected] = {}
        self._alarms: dict[str, None] | None = None

    @property
    def id(self) -> str:
        """The socket's id."""
        return self.socket.id

    @property
    def sender(self) -> Sender:
        """Who this is, for frames."""
        return Sender(self.user_id, self.name, self.role)

    def expect(self, ack: int, expected: Expected) -> None:
        """The client's confirmation will come under `ack`."""
        self._unanswered[ack] = expected
        if len(self._unanswered) > _UNANSWERED_MAX:
            del self._unanswered[next(iter(self._unanswered))]

    def take_expected(self, ack: int) -> Expected | None:
        """What `ack` confirms, once."""
        return self._unanswered.pop(ack, None)

    def emit_due(self, due: Due) -> None:
        """Emit something that is due until its acknowledgement comes."""
        self.expect(due.ack, due.expected)
        self.socket.say(due.packet)

    def emit_alarm(self, broadcast_id: str, alarm: Due) -> bool:
        """Emit a broadcast, ahead of all that waits, unless this socket was sent it before; whether it was not."""
        if self._alarms is None:
            self._alarms = {}
        if broadcast_id in self._alarms:
            return False
        self._alarms[broadcast_id] = None
        if len(self._alarms) > _ALARMS_MAX:
            del self._alarms[next(iter(self._alarms))]
        self.expect(alarm.ack, alarm.expected)
        self.socket.say_first(alarm.packet)
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
        # Most people have one device: a dict for each would be the largest part of what is kept of them.
        self._by_user: dict[str, tuple[Session, ...]] = {}

    def __len__(self) -> int:
        return len(self._by_socket)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_socket.values()))

    def stuck(self, for_s: float) -> int:
        """How many have something due, and have got no further with it for so long."""
        since = time.monotonic() - for_s
        walks = (session.walk for session in self._by_socket.values() if session.state is not State.JOINING)
        return sum(walk is not None and walk.moved_at < since for walk in walks)

    @property
    def users(self) -> list[str]:
        """Everyone who has a session here."""
        return list(self._by_user)

    def add(self, session: Session) -> bool:
        """Take a session in; True if it is its user's first here."""
        self._by_socket[session.id] = session
        others = self._by_user.get(session.user_id, ())
        self._by_user[session.user_id] = (*others, session)
        return not others

    def remove(self, session: Session) -> bool:
        """Let a session go; True if it was its user's last here."""
        session.is_gone = True
        session.stop_timers()
        if self._by_socket.get(session.id) is not session:
            return False
        del self._by_socket[session.id]
        others = tuple(other for other in self._by_user[session.user_id] if other is not session)
        if others:
            self._by_user[session.user_id] = others
            return False
        del self._by_user[session.user_id]
        return True

    def by_socket(self, socket_id: str) -> Session | None:
        """The session of a socket."""
        return self._by_socket.get(socket_id)

    def of_user(self, user_id: str) -> Sequence[Session]:
        """All devices of a user here."""
        return self._by_user.get(user_id, ())
