"""Who on this gateway watches whom, and what they were told.

A person is watched once for all sockets here: this gateway is noted as a watcher with the directory, which
gives what was last announced; from then on presence tells of every change. Both ways end in `learn`, where
what is not newer is dropped, so that nothing is told twice. A subscription lives as long as its socket.
"""

import asyncio
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from libs.clock import now_ms
from libs.directory import Standing, Watchers
from libs.streams.group_commit import GroupCommit
from libs.wire import payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import PresenceChanges
from services.gateway.metrics import GatewayMetrics
from services.gateway.sessions import Session

# Over all sockets here; about 150 MB. Beyond it subscriptions are refused.
_WATCHES_MAX: Final = 500_000
_RETRY_AFTER_MS: Final = 2000


class _Watched:
    """One person: what is known of them, which sockets were told what (`""`: nothing), who waits to hear."""

    __slots__ = ("standing", "told", "waiting")

    def __init__(self) -> None:
        self.standing: Standing | None = None
        self.told: dict[Session, str] = {}
        self.waiting: set[asyncio.Future[Standing]] = set()


class Watching:
    """Subscriptions. `watches_max` bounds how many people one socket may watch."""

    def __init__(
        self, watchers: Watchers, gateway: str, metrics: GatewayMetrics, *, linger_s: float, watches_max: int
    ) -> None:
        self._watchers = watchers
        self._gateway = gateway
        self._metrics = metrics
        self._watches_max = watches_max
        self._watched: dict[str, _Watched] = {}
        self._by_session: dict[str, set[str]] = {}
        self._watches = 0
        # People whom the directory should note, or forget: whichever holds when it is written. There is room for
        # all who are watched whenever they have to be noted anew, be it while they are being noted.
        self._unnoted: set[str] = set()
        self._notes: GroupCommit[str] = GroupCommit(self._write, limit=3 * _WATCHES_MAX, linger_s=linger_s)

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, session: Session, users: Collection[str]) -> None:
        """Tell this socket of these people, now and on each change. All of them, or raises `Refusal`."""
        mine = self._by_session.get(session.id, set())
        new = [user for user in users if user not in mine]
        if len(mine) + len(new) > self._watches_max:
            raise Refusal(Code.TOO_MANY, f"One socket may watch {self._watches_max} people; it watches {len(mine)}.")
        self._check_room(len(new))
        self._by_session.setdefault(session.id, mine).update(new)
        self._watches += len(new)
        for user in users:
            watched = self._take(user)
            watched.told[session] = ""
            if watched.standing is not None:
                self._tell(user, watched, watched.standing)

    def unwatch(self, session: Session, users: Iterable[str]) -> None:
        """No more of these people for this socket."""
        mine = self._by_session.get(session.id, set())
        for user in mine.intersection(users):
            mine.discard(user)
            self._watches -= 1
            self._watched[user].told.pop(session, None)
            self._let_go(user)
        if not mine:
            self._by_session.pop(session.id, None)

    def forget(self, session: Session) -> None:
        """The socket is gone."""
        self.unwatch(session, list(self._by_session.get(session.id, ())))

    def known(self, users: Iterable[str]) -> dict[str, Standing]:
        """What is known here of those who are watched."""
        found = {}
        for user in users:
            watched = self._watched.get(user)
            if watched is not None and watched.standing is not None:
                found[user] = watched.standing
        return found

    async def wait_known(self, users: Collection[str], timeout_s: float) -> dict[str, Standing]:
        """Watch people until something is known of them, `timeout_s` at most. Raises `Refusal`."""
        self._check_room(len(users))
        heard = {user: asyncio.get_running_loop().create_future() for user in users}
        for user, future in heard.items():
            watched = self._take(user)
            watched.waiting.add(future)
            if watched.standing is not None:
                future.set_result(watched.standing)
        try:
            await asyncio.wait(heard.values(), timeout=timeout_s)
        finally:
            for user, future in heard.items():
                self._watched[user].waiting.discard(future)
                self._let_go(user)
        return {user: future.result() for user, future in heard.items() if future.done()}

    def take(self, frame: PresenceChanges) -> None:
        """What presence announced."""
        for change in frame.changes:
            self.learn(change.user_id, Standing(change.status, change.at_ms, change.last_seen_ms))

    def learn(self, user: str, standing: Standing) -> None:
        """What became of somebody; told to who watches, unless it is known already."""
        watched = self._watched.get(user)
        if watched is None or (watched.standing is not None and standing.at_ms <= watched.standing.at_ms):
            return
        watched.standing = standing
        for future in watched.waiting:
            if not future.done():
                future.set_result(standing)
        self._tell(user, watched, standing)

    def rewatch(self) -> None:
        """The cluster had forgotten this gateway: note everyone anew.

        The broker may have been wiped, and announce by a clock that is behind: whatever comes next is news.
        """
        for user, watched in self._watched.items():
            if watched.standing is not None:
                watched.standing = msgspec.structs.replace(watched.standing, at_ms=0)
            self._note(user)

    async def run(self) -> None:
        """Note with the directory until cancelled."""
        await self._notes.run()

    def _tell(self, user: str, watched: _Watched, standing: Standing) -> None:
        untold = [session for session, told in watched.told.items() if told != standing.status]
        if not untold:
            return
        update = payloads.PresenceUpdate(user, standing.status, standing.seen_ms(now_ms()))
        body = payloads.encode(update)
        for session in untold:
            watched.told[session] = standing.status
            session.socket.emit("presence_update", body)
        self._metrics.presence_updates.inc(len(untold))

    def _take(self, user: str) -> _Watched:
        watched = self._watched.get(user)
        if watched is None:
            watched = self._watched[user] = _Watched()
            self._note(user)
        return watched

    def _let_go(self, user: str) -> None:
        watched = self._watched[user]
        if not watched.told and not watched.waiting:
            del self._watched[user]
            # Without room (the broker is away) presence goes on telling of them, which harms nobody.
            if len(self._notes) < _WATCHES_MAX:
                self._note(user)

    def _check_room(self, count: int) -> None:
        if self._watches + count > _WATCHES_MAX or len(self._watched) + count > _WATCHES_MAX:
            raise Refusal(Code.OVERLOADED, retry_after_ms=_RETRY_AFTER_MS)
        if len(self._notes) + count > _WATCHES_MAX:
            raise Refusal(Code.UNAVAILABLE, retry_after_ms=_RETRY_AFTER_MS)

    def _note(self, user: str) -> None:
        if user not in self._unnoted:
            self._unnoted.add(user)
            self._notes.put_nowait(user)

    async def _write(self, users: list[str]) -> None:
        self._unnoted.difference_update(users)
        found = await self._watchers.change(self._gateway, {user: user in self._watched for user in users})
        for user, standing in found.items():
            self.learn(user, standing)
