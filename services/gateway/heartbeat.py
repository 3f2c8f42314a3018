"""Stay alive for the others: this gateway's name and the seats of its users, in batches.

Every two seconds it renews its name, trims what it has read, and looks how far behind the routers are. A
gateway that was given up for dead (it was paused, or the broker was wiped) finds its name gone, and one whose broker
failed over finds another server than before, which may have lost what was said last: it seats its users again and
has every session fetch what it missed.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog

from libs import keys
from libs.broker import AWAY, Broker
from libs.directory import Directory, Seat
from libs.streams import consumer
from libs.streams.group_commit import Full, GroupCommit
from libs.wire import names
from services.gateway.fence import Fence
from services.gateway.sessions import Sessions, State
from services.gateway.uplink import Lag, Uplink

log = structlog.get_logger(__name__)

_BEAT_S: Final = 2.0
# A broker that has not answered for so long is away, for readiness.
_STALE_S: Final = 3 * _BEAT_S
# Clients of a gateway that leaves are told to come back, and take a second or two: they do not flicker.
_LEAVING_GRACE_MS: Final = 5000
# Who comes and goes while a beat counts makes a difference that does not last.
_BEATS_AMISS: Final = 3
# One change a user, however often they come and go while the broker is away: far more users than there are here.
_SEAT_CHANGES_MAX: Final = 100_000


class Heartbeat:
    """Renews this gateway's name and its seats."""

    def __init__(
        self,
        broker: Broker,
        directory: Directory,
        gateway: str,
        sessions: Sessions,
        uplink: Uplink,
        *,
        partitions: int,
        linger_s: float,
        presence_grace_s: float,
        fence: Fence,
        read_up_to: Callable[[], Mapping[str, str]],
        reviving: Callable[[], None],
        revived: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._directory = directory
        self._gateway = gateway
        self._sessions = sessions
        self._uplink = uplink
        self._partitions = partitions
        self._fence = fence
        self._read_up_to = read_up_to
        self._reviving = reviving
        self._revived = revived
        self._must_revive = True
        self._hurry = asyncio.Event()
        # How many servers had taken another's place at the last beat.
        self._successions = 0
        self._presence_grace_ms = round(presence_grace_s * 1000)
        # While draining, who goes comes back: their absence is noticed later.
        self.is_draining = False
        # What is to become of the seats of users who wait in `_seats`, and of those that are being written.
        self._wanted: dict[str, Seat] = {}
        self._writing: dict[str, Seat] = {}
        # Who was told to come back: as while draining, one by one.
        self._coming_back: set[str] = set()
        self._seats: GroupCommit[str] = GroupCommit(self._change, limit=_SEAT_CHANGES_MAX, linger_s=linger_s)
        self._beat_at = 0.0
        # How often it beat, or tried to.
        self._turns = 0
        self._beats_amiss = 0

    @property
    def turns(self) -> int:
        """Rises while it beats or tries to, or while seats that a beat may wait for are written or tried to."""
        return self._turns + self._seats.tries

    @property
    def problem(self) -> str | None:
        """Why this gateway is not ready, if it is not."""
        return None if time.monotonic() - self._beat_at < _STALE_S else "the broker does not answer"

    def seat(self, user_id: str) -> None:
        """A user's first socket here, if they are let in."""
        self._put(user_id, Seat.TAKEN)

    def show(self, user_id: str) -> None:
        """A user was let in: others see that they are here."""
        self._put(user_id, Seat.SHOWN)

    def unseat(self, user_id: str, *, comes_back: bool = False) -> None:
        """A user's last socket here is gone; `comes_back`: they were told to."""
        self._put(user_id, Seat.DROPPED)
        if comes_back and user_id in self._wanted:
            self._coming_back.add(user_id)

    async def wait_seated(self) -> None:
        """Wait until every change of seats so far is known to the cluster."""
        await self._seats.wait_written()

    async def run(self) -> None:
        """Beat until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._seats.run())
            while True:
                try:
                    await self.beat()
                except AWAY as error:
                    log.warning("heartbeat: the broker is away", error=type(error).__name__)
                self._turns += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(_BEAT_S):
                        await self._hurry.wait()
                self._hurry.clear()

    def revive_soon(self) -> None:
        """This gateway may have missed something: its next beat is now."""
        self._must_revive = True
        self._hurry.set()

    async def beat(self) -> None:
        """One beat. Raises `AWAY`."""
        was_known = await self._broker.script(self._directory.beat(self._gateway))
        read_up_to = self._read_up_to()
        is_whole = all(taken > 0 for taken in await self._broker.script(consumer.trim(read_up_to)))
        is_heard = not await self._fence.check(self._broker)
        is_another = self._broker.successions != self._successions
        self._successions = self._broker.successions
        # Remembered until it is done: a broker that goes away half-way has the name and the streams already.
        self._must_revive = self._must_revive or is_another or not (was_known and is_whole and is_heard)
        await self._check_seats()
        if self._must_revive:
            await self._revive(read_up_to)
        self._uplink.note_lags(await lags(self._broker, self._partitions))
        self._beat_at = time.monotonic()

    async def leave(self) -> None:
        """Nobody is here any more. Raises `AWAY`."""
        await self._directory.reap(self._gateway, _LEAVING_GRACE_MS)

    async def _revive(self, streams: Iterable[str]) -> None:
        """Make our streams, seat everyone, and let them fetch what was said meanwhile."""
        await self._fence.hold(self._broker)
        self._reviving()
        for stream in streams:
            await self._broker.command("XADD", stream, "*", "hello", "")
        for user in self._sessions.users:
            self._reseat(user)  # in line with those who come and go meanwhile
        await self.wait_seated()
        self._must_revive = False
        self._revived()

    async def _check_seats(self) -> None:
        """A broker that fails over loses its newest writes, and keeps our name: nothing else would tell."""
        counted = await self._directory.seated(self._gateway)
        if len(self._seats) or counted == len(self._sessions.users):
            self._beats_amiss = 0
            return
        self._beats_amiss += 1
        if self._beats_amiss < _BEATS_AMISS:
            return
        # Whoever came, went, or was being written while the broker told is left out: only what is lasting is amiss.
        before, unwritten = set(self._sessions.users), {*self._wanted, *self._writing}
        there = await self._directory.users_on(self._gateway)
        after = set(self._sessions.users)
        unwritten |= {*self._wanted, *self._writing}
        lost, left_over = (before & after) - there - unwritten, there - before - after - unwritten
        log.warning("seats are amiss", lost=len(lost), left_over=len(left_over))
        for user in left_over:
            self.unseat(user)
        # Who had none was told nothing meanwhile: all fetch what they missed.
        self._must_revive = self._must_revive or bool(lost)
        self._beats_amiss = 0

    def _reseat(self, user_id: str) -> None:
        is_let_in = any(session.state is not State.JOINING for session in self._sessions.of_user(user_id))
        self._put(user_id, Seat.SHOWN if is_let_in else Seat.TAKEN)

    def _put(self, user_id: str, seat: Seat) -> None:
        self._coming_back.discard(user_id)
        try:
            if user_id not in self._wanted:
                self._seats.put_nowait(user_id)
            self._wanted[user_id] = seat
        except Full:
            # Seats that were not dropped are harmless; a sign-in that was not seated is refused by its time-out.
            log.warning("too many changes of seats wait for the broker")

    async def _change(self, users: list[str]) -> None:
        if not self._writing:  # else the same once more: the broker was away
            self._writing = {user: self._wanted.pop(user) for user in users}
        back = self._writing.keys() if self.is_draining else self._writing.keys() & self._coming_back
        for some, grace_ms in ((back, _LEAVING_GRACE_MS), (self._writing.keys() - back, self._presence_grace_ms)):
            if some:
                seats = {user: seat for user, seat in self._writing.items() if user in some}
                await self._directory.change(self._gateway, seats, grace_ms)
        self._coming_back -= self._writing.keys() - self._wanted.keys()
        self._writing = {}


async def lags(broker: Broker, partitions: int) -> Mapping[int, Lag]:
    """How far behind each partition is: while the store is away, read entries wait there too. Raises `AWAY`."""
    numbers = range(names.alarm_partition(partitions) + 1)
    positions = await broker.command("HMGET", keys.positions(), *numbers)
    commands: list[Any] = [("TIME",)]
    for number, position in zip(numbers, positions, strict=True):
        stream = keys.inbound(number)
        unread = "-" if position is None else f"({position.decode()}"
        commands += [("XLEN", stream), ("XRANGE", stream, unread, "+", "COUNT", 1)]
    (seconds, micros), *replies = await broker.batch(commands)
    now_s = int(seconds) + int(micros) / 1_000_000
    found: dict[int, Lag] = {}
    for number in numbers:
        length, unread = replies[2 * number], replies[2 * number + 1]
        if not isinstance(length, int):
            continue
        age_s = max(0.0, now_s - _written_s(unread[0][0])) if isinstance(unread, list) and unread else 0.0
        found[number] = Lag(length, age_s)
    return found


def _written_s(entry_id: bytes | str) -> float:
    text = entry_id if isinstance(entry_id, str) else entry_id.decode()
    return int(text.partition("-")[0]) / 1000
