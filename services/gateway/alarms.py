"""Broadcasts on their way to the sockets here: at once, ahead of all else, to everyone who lives there.

It keeps the index of who lives where (`places.py`), and tells the directory, so that a router can say how many a
broadcast reaches without asking every gateway.
"""

from collections.abc import Iterator

import structlog

from libs.directory import Directory
from libs.streams.group_commit import Full, GroupCommit
from libs.wire.frames import Alarm, Moved, Places
from services.gateway.catchup import CatchUp
from services.gateway.metrics import GatewayMetrics
from services.gateway.places import PlaceIndex
from services.gateway.sessions import Acks, Session, Sessions, State

log = structlog.get_logger(__name__)

# Far more than sign in while a write is in flight; full means the broker is away, and counts may wait.
_HOMES_MAX = 100_000


class Alarms:
    """Who hears a broadcast."""

    def __init__(
        self,
        directory: Directory,
        sessions: Sessions,
        catchup: CatchUp,
        acks: Acks,
        metrics: GatewayMetrics,
        *,
        linger_s: float,
    ) -> None:
        self._directory = directory
        self._sessions = sessions
        self._catchup = catchup
        self._acks = acks
        self._metrics = metrics
        self._places = PlaceIndex()
        self._homes: GroupCommit[tuple[str, Places]] = GroupCommit(self._settle, limit=_HOMES_MAX, linger_s=linger_s)

    async def run(self) -> None:
        """Tell the directory who lives where until cancelled."""
        await self._homes.run()

    def welcome(self, session: Session) -> None:
        """From now on broadcasts reach this session; those of before are due to it."""
        if session.is_gone:
            return
        self._places.put(session, session.places)
        self._tell(session)

    def forget(self, session: Session) -> None:
        """The session is gone."""
        self._places.remove(session)

    def retell(self) -> None:
        """The cluster had forgotten this gateway: where its users live, too."""
        for session in self._welcomed():
            self._tell(session)

    def sound(self, alarm: Alarm) -> None:
        """Put a broadcast on every socket it is for, once. Nothing holds it back."""
        due = self._acks.alarm(alarm.broadcast_id, alarm.body)
        here = self._places.at(alarm.level, alarm.place_ids)
        self._metrics.alarms.inc(sum(session.emit_alarm(alarm.broadcast_id, due) for session in here))

    def moved(self, frame: Moved) -> None:
        """A user lives elsewhere: what was broadcast there since then is due to their sessions."""
        for session in self._sessions.of_user(frame.user_id):
            if session.places == frame.places:
                continue
            session.places = frame.places
            if session.state is State.JOINING:
                session.has_moved = True  # what the router says of them is older than this
            else:
                self._places.put(session, frame.places)
                self._tell(session)
                self._catchup.again(session)

    def _welcomed(self) -> Iterator[Session]:
        return (session for session in self._sessions if session.state is not State.JOINING)

    def _tell(self, session: Session) -> None:
        try:
            self._homes.put_nowait((session.user_id, session.places))
        except Full:
            log.warning("too many sign-ins wait for the broker: their places are not counted")

    async def _settle(self, homes: list[tuple[str, Places]]) -> None:
        await self._directory.settle(dict(homes))
