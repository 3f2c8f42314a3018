"""Lease, read, hand on, acknowledge: the loop of a router.

Two stages run side by side: one reads and decides, the other completes. One batch may wait between
them; a third is not read. Broadcasts have a pair of stages of their own, so that they wait for no other
batch. A broker that goes away, or a place that was taken, makes the partitions concerned start over: a new
token, and the stream from its beginning. What was done before is found done.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from libs import keys
from libs.broker import AWAY, Broker
from libs.deafness import Sight
from libs.identity import Envelopes, Unopenable
from libs.streams import consumer
from libs.streams.leases import Leases
from libs.wire import codec, names
from libs.wire.frames import Confirm, Confirms, Inbound, SealedFrame
from services.router.batch import Work
from services.router.ledger import Notes
from services.router.line import Line, Stages, frames
from services.router.metrics import RouterMetrics
from services.router.owed import SETTLE_S
from services.router.partition import Partition
from services.router.store import ReceiptRow, Store, StoreAway

log = structlog.get_logger(__name__)

# A new partition is read from within this time; a read that finds nothing costs little.
BLOCK_MS: Final = 250
_BACKOFF_S: Final = 0.25
# With nothing to complete, what is parked is tried again this often.
_UNPARK_S: Final = 1.0
_HAND_OVER_S: Final = 2.0
_MEASURE_S: Final = 1.0
# Receipts of lost partitions that are kept for the store; beyond it, messages are due again.
_ORPHANS_MAX: Final = 100_000
# A turn of the leases is several calls, each of which may take the 5 s after which the broker is away.
_A_TURN_S: Final = 30.0


class Worker:
    """Owns partitions (`libs.streams.leases.Owner`) and moves their frames."""

    def __init__(
        self,
        broker: Broker,
        reader: Broker,
        delivery: Stages,
        broadcasts: Stages,
        store: Store,
        metrics: RouterMetrics,
        *,
        router: str,
        partitions: int,
        read_entries: int,
        linger_s: float,
        parked_frames_max: int,
        receipt_gather_s: float,
        receipt_rest_s: float,
        envelopes: Envelopes | None = None,
        notes: Callable[[], Notes | None] = lambda: None,
    ) -> None:
        self._broker = broker
        self._reader = reader
        self._store = store
        self._metrics = metrics
        self._decide_s = metrics.stage_s.labels("decide")
        self._router = router
        self._read_entries = read_entries
        self._parked_frames_max = parked_frames_max
        self._receipt_gather_s = receipt_gather_s
        self._receipt_rest_s = receipt_rest_s
        self._envelopes = envelopes
        self._notes = notes
        self._alarm_partition = names.alarm_partition(partitions)
        self._lines = (
            Line("messages", delivery, range(partitions), linger_s),
            Line("broadcasts", broadcasts, (self._alarm_partition,), 0.0),  # which wait for nothing
        )
        self._leases = Leases(broker, router, self._alarm_partition + 1, self)
        self._partitions: dict[int, Partition] = {}
        # Gained, but what the owner before left in the broker is still to be read.
        self._arriving: dict[int, Partition] = {}
        # Receipts of partitions that were lost before the store had them. A broker that was wiped has them no more.
        self._orphans: list[ReceiptRow] = []
        self._saving_orphans = asyncio.Lock()
        # Those that the store has, and the broker's journal has still.
        self._settled: list[tuple[Partition, list[ReceiptRow]]] = []
        self._is_draining = False

    @property
    def problem(self) -> str | None:
        """Why this router is not ready, if it is not."""
        return None if self._leases.is_current else "the broker does not answer"

    @property
    def alarm_partition(self) -> Partition | None:
        """The partition of broadcasts, if it is ours."""
        return self._partitions.get(self._alarm_partition)

    @property
    def sights(self) -> dict[str, Sight]:
        """What should move, and how far it has moved."""
        found = {"what renews leases": Sight(self._leases.turns, _A_TURN_S)}
        for line in self._lines:
            found |= line.sights
        return found

    @property
    def partitions(self) -> list[Partition]:
        """Those of conversations that are ours."""
        return [partition for number, partition in self._partitions.items() if number != self._alarm_partition]

    def owns(self, partition: int) -> bool:
        """Whether a partition is ours, as far as we know."""
        return partition in self._leases.owned and self._leases.is_current

    # --- libs.streams.leases.Owner -------------------------------------------------------------

    def gain(self, partition: int, token: int) -> None:
        """Start on a partition."""
        self._arriving[partition] = Partition(partition, token, self._router, self._notes())
        self._count_owned()

    def lose(self, partition: int) -> None:
        """Stop on a partition at once."""
        for owned in (self._arriving.pop(partition, None), self._partitions.pop(partition, None)):
            if owned is not None:
                owned.is_lost = True
                orphans = owned.storable(owned.receipts.unsaved_rows())
                self._orphans += orphans[: _ORPHANS_MAX - len(self._orphans)]
        self._metrics.leases_lost.inc()
        self._count_owned()

    def hand_over(self, partition: int) -> bool:
        """Read no more of a partition; True once what was read has left, or has had its time.

        Receipts that the store does not have yet are in the broker's journal, for the next owner.
        """
        owned = self._partitions.get(partition)
        if owned is not None:
            if owned.leaving_since is None:
                owned.leaving_since = time.monotonic()
            if owned.under_way and time.monotonic() < owned.leaving_since + _HAND_OVER_S:
                return False
            owned.is_lost = True
        self._partitions.pop(partition, None)
        self._arriving.pop(partition, None)
        self._count_owned()
        return True

    # --- the loops -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._leases.run())
            for line in self._lines:
                tasks.create_task(self._read(line))
                tasks.create_task(self._complete(line))
            tasks.create_task(self._save_receipts())
            tasks.create_task(self._measure())

    async def drain(self) -> None:
        """Finish what was read, and give every partition to the others."""
        self._is_draining = True
        try:
            await self._leases.release_all()
        except AWAY:
            log.warning("leases are left to lapse: the broker is away")

    async def _read(self, line: Line) -> None:
        async with consumer.reading(self._reader) as reads:
            while True:
                line.reads += 1
                line.deciding = 0
                try:
                    self._look_for_heirs(line)
                    await self._arrive(line)
                    works = await self._read_batch(line, reads)
                    if works:
                        line.deciding = frames(works)
                        began = time.monotonic()
                        await line.stages.decide(works)
                        self._decide_s.observe(time.monotonic() - began)
                        await line.decided.put(works)
                except AWAY as error:
                    # The policy for a broker that is away: everything starts over once it is back.
                    log.warning("broker is away", error=type(error).__name__)
                    self._start_over(self._owned(line))
                    await asyncio.sleep(_BACKOFF_S)

    def _look_for_heirs(self, line: Line) -> None:
        """A server that took the place of another may know less of a stream than was read of it: start over."""
        if line.successions != self._broker.successions:
            line.successions = self._broker.successions
            log.warning("another broker than before: its partitions start over")
            self._start_over(self._owned(line))

    def _owned(self, line: Line) -> list[Partition]:
        return [partition for partition in self._partitions.values() if partition.number in line.partitions]

    async def _arrive(self, line: Line) -> None:
        if self._arriving.keys().isdisjoint(line.partitions):
            return
        await self._save_orphans()  # before somebody looks for them
        for number, partition in list(self._arriving.items()):
            if number not in line.partitions:
                continue
            journal = await self._broker.command("HGETALL", keys.receipts(number))
            newest = await self._broker.command("XREVRANGE", keys.inbound(number), "+", "-", "COUNT", 1)
            if newest:
                partition.answered_up_to = newest[0][0].decode()
            partition.receipts.restore(journal)
            if self._arriving.get(number) is partition:  # else it was lost meanwhile, and perhaps gained anew
                del self._arriving[number]
                self._partitions[number] = partition

    async def _read_batch(self, line: Line, reads: consumer.Reads) -> list[Work]:
        ready = {keys.inbound(p.number): p for p in self._owned(line) if p.leaving_since is None}
        is_full = line.stages.parked >= self._parked_frames_max
        if not ready or self._is_draining or is_full or not self._leases.is_current:
            await asyncio.sleep(BLOCK_MS / 1000 / 5)
            return []
        # Under load one read brings what ten would have brought, and each would have woken broker and router.
        pause_s = line.pace.pause_s()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        entries = await reads.read(
            {stream: partition.position for stream, partition in ready.items()},
            count=self._read_entries,
            block_ms=BLOCK_MS,
            under=hash(frozenset((partition.number, partition.token) for partition in ready.values())),
            held={stream: (keys.lease(partition.number), partition.lease) for stream, partition in ready.items()},
        )
        if self.problem:
            # Paused for longer than a lease lives. Whoever owns these partitions now begins with what was there when it
            # came: what came later is its own to tell.
            return []
        # Read where they are not ours: the lease has gone, or is held at another server, the primary before.
        self._start_over([ready[stream] for stream, of_stream in entries.items() if not of_stream])
        works = [self._work(ready[stream], of_stream) for stream, of_stream in entries.items() if of_stream]
        works = [work for work in works if not work.partition.is_lost]
        for work in works:
            work.partition.under_way += 1
        if works:
            frames = sum(len(work.frames) for work in works)
            line.pace.note(frames)
            self._metrics.batch_frames.observe(frames)
            self._count(works)
        return works

    def _count(self, works: Sequence[Work]) -> None:
        kinds: dict[type[Inbound], int] = {}
        confirmed = 0
        for work in works:
            for frame in work.frames:
                kinds[type(frame)] = kinds.get(type(frame), 0) + 1
                match frame:
                    case Confirms(user_ids=user_ids):
                        confirmed += len(user_ids)
                    case Confirm(event=None, seqs=seqs):
                        confirmed += len(seqs)
        self._metrics.confirmed.inc(confirmed)
        for kind, count in kinds.items():
            self._metrics.frames.labels(kind.__name__.lower()).inc(count)

    def _work(self, partition: Partition, entries: list[consumer.Entry]) -> Work:
        frames: list[Inbound] = []
        brought_by: list[str] = []
        for entry in entries:
            if entry.frames is None:
                continue
            read, unreadable = codec.unpack_inbound(entry.frames)
            frames += [self._opened(frame) if isinstance(frame, SealedFrame) else frame for frame in read]
            brought_by += [entry.id] * len(read)
            if unreadable:
                self._metrics.unreadable.inc(unreadable)
        partition.position = entries[-1].id
        is_replay = consumer.is_up_to(entries[0].id, partition.answered_up_to)
        return Work(partition, frames, entries[-1].id, is_replay=is_replay, entries=brought_by)

    def _opened(self, frame: Inbound) -> Inbound:
        """What is sealed, open; one that no key of ours opens is answered as it is."""
        if not isinstance(frame, SealedFrame):
            return frame
        try:
            if self._envelopes is not None:
                return self._envelopes.opened(frame)
        except Unopenable:
            self._metrics.unopened.inc()
        return frame

    async def _complete(self, line: Line) -> None:
        stages, loop = line.stages, asyncio.get_running_loop()
        while True:
            # With nothing to complete, it is woken up by an empty batch.
            nudge = loop.call_later(SETTLE_S if stages.owes else _UNPARK_S, line.nudge)
            works = await line.decided.get()
            nudge.cancel()
            line.completing = frames(works)
            try:
                if works:
                    await stages.complete(works, is_more=line.pace.is_busy)
                elif stages.owes:
                    await stages.settle()
                elif stages.parked:
                    await stages.unpark()
            except AWAY as error:
                log.warning("broker is away", error=type(error).__name__)
                self._start_over(self._owned(line))
            for work in works:
                work.partition.under_way -= 1
            self._start_over([partition for partition in self._owned(line) if partition.is_lost])
            line.completions += 1
            line.completing = 0

    def _start_over(self, partitions: list[Partition]) -> None:
        """Forget what was thought of these partitions; the lease is taken anew, under a new token."""
        for partition in partitions:
            partition.is_lost = True
            if self._partitions.get(partition.number) is partition:
                self._leases.forget(partition.number)

    async def _save_receipts(self) -> None:
        while True:
            await asyncio.sleep(self._receipt_gather_s)
            await self._save_orphans()
            await self._flush_receipts(list(self._partitions.values()))

    async def _flush_receipts(self, partitions: list[Partition]) -> None:
        """Save what has gathered. It leaves the broker's journal when the next is saved, and not before.

        For who reads what is due asks the store, and then the journal: what left it meanwhile would be in neither.
        """
        now = time.monotonic()
        rested = now - self._receipt_rest_s
        owed: list[tuple[Partition, list[ReceiptRow]]] = [(p, p.storable(p.receipts.owed(rested))) for p in partitions]
        rows = [row for _, of_partition in owed for row in of_partition]
        self._metrics.receipts_unsaved.set(sum(partition.receipts.unsaved for partition in partitions))
        if not rows and not self._settled:
            return
        try:
            if rows:
                await self._store.save_receipts(rows)
            for line in self._lines:
                await line.stages.settle()  # else what they owe would bring back what is taken out
            if self._settled:
                await self._broker.scripts([partition.acknowledge(None, cleared=of) for partition, of in self._settled])
        except (StoreAway, *AWAY):
            return  # they stay in the broker's journal, and are tried again
        settled = [(partition, partition.receipts.settle(of, now)) for partition, of in owed if of]
        self._settled = [(partition, of) for partition, of in settled if of]

    async def _save_orphans(self) -> None:
        """They merge with what the partition's next owner saves: nothing is taken back."""
        async with self._saving_orphans:
            orphans = list(self._orphans)
            if orphans:
                with suppress(StoreAway):
                    await self._store.save_receipts(orphans)
                    del self._orphans[: len(orphans)]

    async def _measure(self) -> None:
        """Lag by our own count: how far we have read, and how much is on the streams, unacknowledged."""
        while True:
            await asyncio.sleep(_MEASURE_S)
            owned = list(self._partitions.values())
            self._metrics.canary_silent_s.clear()
            for partition in owned:
                if partition.heard_at is not None:
                    silent_s = time.monotonic() - partition.heard_at
                    self._metrics.canary_silent_s.labels(partition.number).set(silent_s)
            read = [(p.number, p.position) for p in owned if p.position != consumer.BEGINNING]
            try:
                if read:
                    await self._broker.command("HSET", keys.positions(), *(word for pair in read for word in pair))
                lengths = await self._broker.batch([("XLEN", keys.inbound(p.number)) for p in owned])
            except AWAY:
                continue
            self._metrics.lag_entries.clear()
            for partition, length in zip(owned, lengths, strict=True):
                if isinstance(length, int):
                    self._metrics.lag_entries.labels(partition.number).set(length)

    def _count_owned(self) -> None:
        self._metrics.partitions_owned.set(len(self._partitions) + len(self._arriving))
