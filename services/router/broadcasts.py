"""The story of a broadcast: save, sound, answer, acknowledge. Nothing else goes through the stages here.

It is beside the story of a message (`delivery.py`) and keeps the same promises: what is answered `sent` is in the
store, a replay is harmless, and while the store is away a batch is sounded all the same, answered `queued` and parked.
But it waits for no conversation: its partition, its batches and its streams are its own (docs/adr/0009).
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import structlog

from libs import keys
from libs.broker import Broker
from libs.directory import Directory
from libs.wire import payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Alarm, Canary, Section, Tally
from libs.wire.frames import Broadcast as Asked
from services.router import answers, batch, bodies, outbound, permission, routing
from services.router.batch import Work
from services.router.metrics import RouterMetrics
from services.router.pushes import Pushes
from services.router.rates import Counted, Rates
from services.router.routing import Saying
from services.router.store import Broadcast, Store, StoreAway
from services.router.tallies import Tallies

log = structlog.get_logger(__name__)

# While the store is away it is tried again this often.
_STORE_RETRY_S: Final = 1.0
# Broadcasts that this router knows it has sounded: one sent again within the last so many is only answered.
_SOUNDED_MAX: Final = 1000


class Broadcasts:
    """Takes batches of broadcasts through the worker's two stages."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        broker: Broker,
        tallies: Tallies,
        rates: Rates,
        metrics: RouterMetrics,
        pushes: Pushes | None = None,
    ) -> None:
        self._store = store
        self._directory = directory
        self._broker = broker
        self._tallies = tallies
        self._rates = rates
        self._metrics = metrics
        self._pushes = pushes
        self._sounded: OrderedDict[str, None] = OrderedDict()
        self._parked: list[Work] = []
        self._retry_at = 0.0

    @property
    def parked(self) -> int:
        """Frames that are done but for the store, which is away."""
        return sum(len(work.frames) for work in self._parked)

    @property
    def is_store_away(self) -> bool:
        """Whether broadcasts wait for the store."""
        return bool(self._parked)

    async def decide(self, works: Sequence[Work]) -> None:
        """Who may broadcast at all, and who does so too often. Operators may as often as they must."""
        for work in works:
            for asked in _asked(work):
                if not permission.may_broadcast(asked.sender.role):
                    work.refusals[asked.broadcast_id] = Refusal(Code.ROLE_REQUIRED)
            counted = [
                Counted(asked.sender.user_id, "emergency", asked.broadcast_id)
                for asked in _allowed(work)
                if not asked.origin.is_operators
            ]
            over, _ = await self._rates.count(counted)
            if not work.is_replay:  # one of those may have been answered `queued`: nothing refuses it any more
                work.refusals.update(over)

    @property
    def owes(self) -> bool:
        """Whether batches are done and not acknowledged: never, as nothing here waits for company."""
        return False

    async def settle(self) -> None:
        """Acknowledge what is done: it is."""

    async def complete(self, works: Sequence[Work], *, is_more: bool = False) -> None:  # noqa: ARG002 - as `Delivery`
        """Save, sound, answer, acknowledge. A partition that was lost meanwhile drops out."""
        if self._parked:
            await self.unpark()
        standing = await self._save(works) if not self._parked else None
        works = [work for work in works if not work.partition.is_lost]
        for work in works:
            await self._sound(work, [one for one in _allowed(work) if self._must_sound(one, standing)])
        for work in works:
            await self._answer(work, standing)
        if standing is None:
            self._parked = batch.parked(self._parked, works)
        else:
            await self._push(works, standing)
            await self._acknowledge(works)

    async def unpark(self) -> None:
        """Try the store again for what is parked; with success, sound it for who signed in meanwhile."""
        if time.monotonic() < self._retry_at:
            return
        self._parked = [work for work in self._parked if not work.partition.is_lost]
        standing = await self._save(self._parked)
        if standing is None:
            return
        for work in self._parked:
            await self._sound(work, _allowed(work))
        await self._push(self._parked, standing)
        await self._acknowledge(self._parked)
        self._parked = []

    async def _save(self, works: Sequence[Work]) -> frozenset[str] | None:
        """Save what is there; the ids of those that were not sent again, None when the store is away."""
        records = [_record(one) for work in works for one in _allowed(work)]
        if not records:
            return frozenset()
        try:
            return await self._store.save_broadcasts(records)
        except StoreAway as error:
            if not self._parked:
                log.warning("store is away: broadcasts are queued", error=str(error))
            self._retry_at = time.monotonic() + _STORE_RETRY_S
            return None

    def _must_sound(self, asked: Asked, standing: frozenset[str] | None) -> bool:
        """One that was sent again is on the stream behind the first, which was sounded before it left the stream.

        The first itself may have been saved by a router that died, or lost its lease, before it sounded it.
        """
        return asked.broadcast_id not in self._sounded and (standing is None or asked.broadcast_id in standing)

    async def _sound(self, work: Work, broadcasts: Sequence[Asked]) -> None:
        """One frame to every gateway, whether or not anybody there is meant: that only it knows."""
        alarms = {
            one.broadcast_id: Alarm(one.broadcast_id, one.level, one.place_ids, bodies.emergency_broadcast(one))
            for one in reversed(broadcasts)  # of two under one id, the first stands
        }
        if not alarms:
            return
        sections = (Section(work.partition.number, work.partition.token, tuple(reversed(alarms.values()))),)
        gateways = dict.fromkeys(await self._directory.known(), sections)
        await outbound.publish(self._broker, gateways, self._metrics, stream=keys.alarms)
        self._sounded.update(dict.fromkeys(alarms))
        while len(self._sounded) > _SOUNDED_MAX:
            self._sounded.popitem(last=False)

    async def _answer(self, work: Work, standing: frozenset[str] | None) -> None:
        sayings: list[Saying] = []
        heard: list[Saying] = []
        for frame in work.frames:
            match frame:
                case Canary():
                    work.partition.heard_at = time.monotonic()
                    if not work.is_replay:
                        heard.append(answers.heard(work.partition.number, frame))
                case Asked(broadcast_id=refused) if refused in work.refusals:
                    sayings.append(self._refuse(work.partition.number, frame, work.refusals[refused]))
                case Asked():
                    sayings.append(await self._answer_one(work.partition.number, frame, standing))
                case Tally():
                    sayings += self._tallies.ask(work.partition, frame)
        tokens = {work.partition.number: work.partition.token}
        said, canaries = routing.plan(sayings, {}, tokens), routing.plan(heard, {}, tokens)
        commands = outbound.commands(said) + outbound.commands(canaries, stream=keys.alarms)
        replies = await self._broker.batch(commands)
        outbound.check(replies[: len(said)], self._metrics, said)
        outbound.check(replies[len(said) :], self._metrics, canaries)

    async def _answer_one(self, number: int, asked: Asked, standing: frozenset[str] | None) -> Saying:
        status = "queued" if standing is None else "sent"
        is_repeat = standing is not None and asked.broadcast_id not in standing
        self._metrics.broadcasts.labels("repeat" if is_repeat else status).inc()
        body = payloads.BroadcastAccepted(asked.broadcast_id, status, await self._reach(asked))
        return answers.accepted(number, asked.origin, body)

    def _refuse(self, number: int, asked: Asked, refusal: Refusal) -> Saying:
        self._metrics.broadcasts.labels("refused").inc()
        self._metrics.refusals.labels(refusal.code.value).inc()
        error = payloads.ErrorEvent(refusal.code.value, refusal.message, "emergency_broadcast")
        return answers.refused(number, asked.origin, refusal, ("error", payloads.encode(error)))

    async def _reach(self, asked: Asked) -> payloads.Reach:
        online = await self._directory.residents(asked.level, asked.place_ids)
        try:
            people = await self._store.audience(asked.level, asked.place_ids)
        except StoreAway:
            return payloads.Reach(online, None)
        return payloads.Reach(online, max(0, people - online))

    async def _push(self, works: Sequence[Work], standing: frozenset[str]) -> None:
        """Before they are acknowledged: of what is read again, `Pushes` knows what it has had."""
        for work in works:
            warnings = [one for one in _allowed(work) if work.is_replay or one.broadcast_id in standing]
            if self._pushes is not None and warnings:
                await self._pushes.note_broadcasts(work.partition, warnings)

    async def _acknowledge(self, works: Sequence[Work]) -> None:
        replies = await self._broker.scripts([work.partition.acknowledge(work.last_id) for work in works])
        for work, reply in zip(works, replies, strict=True):
            if reply is None:
                work.partition.is_lost = True


def _allowed(work: Work) -> list[Asked]:
    """The broadcasts of a batch that are not refused."""
    return [asked for asked in _asked(work) if asked.broadcast_id not in work.refusals]


def _asked(work: Work) -> list[Asked]:
    return [frame for frame in work.frames if isinstance(frame, Asked)]


def _record(asked: Asked) -> Broadcast:
    return Broadcast(
        id=asked.broadcast_id,
        sender_id=asked.sender.user_id,
        level=asked.level,
        place_ids=asked.place_ids,
        priority=asked.priority,
        at_ms=asked.received_at_ms,
        body=bodies.emergency_broadcast(asked),
    )
