"""The auditor: compares what the ledger says with what the store has, a few seconds behind.

A message is *under way* while it has a place that is not acknowledged; *saved* once the store has it; *abandoned* if it
has had its place for long and nothing brings it any further (its sender heard nothing, and sends again); *unaccounted*
if it was acknowledged and the store does not have it, if nobody owes it to someone it is for, or if it was not said to
all. That is exact at any time, by the order of looking: first what is not acknowledged, in the broker, then the store.

Nothing is written but how far a partition is settled, so that its next owner goes on from there. What is not accounted
for holds that mark back, and is looked at again each time until it is, or leaves the ledger.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import structlog
from msgspec import Struct

from libs import clock, keys
from libs.broker import AWAY, Broker
from libs.streams import consumer
from libs.wire import names
from services.router import ledger
from services.router.ledger import Entered, Lines
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.store import Place, Receipt, Store, StoreAway

log = structlog.get_logger(__name__)

# Entries a turn and partition: a few hundred messages under load.
ENTRIES: Final = 100
_TRIM_EVERY_S: Final = 30.0
# Lines the size of an entry is judged by, and what the broker takes beside them.
_SAMPLE: Final = 50
_OVERHEAD: Final = 1.2
# A replay takes seconds: who has waited for so long with the store at hand waits for nothing.
ABANDONED_MS: Final = 60_000
# Messages whose line of what became of them is still to come; a thousand times what settles late.
_INTENDED_MAX: Final = 20_000
_ROLLS_MAX: Final = 4096
_MB: Final = 1 << 20


class Tally(Struct, frozen=True):
    """How it stands with the recipients of one message."""

    delivered: int = 0
    due: int = 0
    refused: int = 0
    # Those who are owed it by nobody.
    forgotten: int = 0


class Walk:
    """How far the ledger of one partition was compared, and what is left over."""

    def __init__(self) -> None:
        self.position: str | None = None
        self.written: str | None = None
        self.rolls: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()
        self.intended: OrderedDict[bytes, Entered] = OrderedDict()
        # By key: under way when they were looked at; said to fewer than it should be; not accounted for, and why.
        self.held: dict[str, Entered] = {}
        self.short: dict[str, Entered] = {}
        self.unaccounted: dict[str, tuple[Entered, str]] = {}
        self.abandoned = 0

    def take(self, lines: Lines, share: float) -> dict[str, Entered]:
        """The messages that lines enter and that are to be looked at; what became of others is noted.

        Taking the same lines twice changes nothing.
        """
        for digest, members in lines.rolls.items():
            _keep(self.rolls, digest, members, _ROLLS_MAX)
        found: dict[str, Entered] = {}
        for entered in lines.entered:
            if is_sampled(entered.line.key, share):
                found[entered.key] = entered
                _keep(self.intended, entered.line.key, entered, _INTENDED_MAX)
        for done in (done for settled in lines.settled for done in settled.done):
            intended = self.intended.pop(done.key, None)
            if intended is not None and ledger.UNCOUNTED < done.told < intended.line.recipients:
                self.short[intended.key] = intended
        return found

    @property
    def open(self) -> dict[str, Entered]:
        """What was looked at and is not settled."""
        return self.held | self.short | {key: entered for key, (entered, _) in self.unaccounted.items()}

    def forget(self, before_ms: int) -> None:
        """What was entered before this left the ledger."""
        for kept in (self.held, self.short):
            for key in [key for key, entered in kept.items() if entered.at_ms < before_ms]:
                del kept[key]
        for key in [key for key, (entered, _) in self.unaccounted.items() if entered.at_ms < before_ms]:
            del self.unaccounted[key]

    @property
    def settled_up_to(self) -> str | None:
        """Where the next owner has to begin."""
        first = min((entered.entry_id for entered in self.open.values()), key=consumer.parts, default=None)
        return self.position if first is None else consumer.before(first)


class Audit:
    """Compares the ledgers of this router's partitions with the store, as long as it runs."""

    def __init__(
        self,
        store: Store,
        broker: Broker,
        metrics: RouterMetrics,
        owned: Callable[[], list[Partition]],
        is_store_away: Callable[[], bool],
        *,
        every_s: float,
        window_s: float,
        max_mb: int,
        partitions: int,
        settle_s: float,
        share: float,
    ) -> None:
        self._store = store
        self._broker = broker
        self._metrics = metrics
        self._owned = owned
        self._is_store_away = is_store_away
        self._every_s = every_s
        self._window_ms = round(window_s * 1000)
        self._max_bytes = max_mb * _MB / partitions
        self._settle_ms = round(settle_s * 1000)
        self._share = share
        self._walks: dict[Partition, Walk] = {}
        self._trimmed_at = 0.0
        self._current_at = time.monotonic()

    @property
    def unaccounted(self) -> int:
        """Messages of this router's partitions that nobody can account for."""
        return sum(len(walk.unaccounted) for walk in self._walks.values())

    @property
    def abandoned(self) -> int:
        """Messages that were given a place and never got any further."""
        return sum(walk.abandoned for walk in self._walks.values())

    @property
    def in_flight(self) -> int:
        """Messages that have a place and are not in the store yet."""
        return sum(len(partition.unsaved) for partition in self._owned())

    @property
    def behind_s(self) -> float:
        """How long ago all was compared that should have been."""
        return time.monotonic() - self._current_at if self._window_ms else 0.0

    def walk(self, partition: Partition) -> Walk:
        """What is known of a partition's ledger."""
        return self._walks.get(partition) or Walk()

    async def run(self) -> None:
        """Audit until cancelled."""
        while self._window_ms:
            try:
                if time.monotonic() > self._trimmed_at + _TRIM_EVERY_S:
                    self._trimmed_at = time.monotonic()
                    await self._trim()
                is_more = await self.turn()
            except (StoreAway, *AWAY) as error:
                # What is under way shows as such; how long nothing was compared, in `behind_s`.
                log.debug("the ledger is not compared now", error=type(error).__name__)
                is_more = False
            except Exception as error:
                # Who watches must not bring down what it watches.
                log.exception("the ledger could not be compared", error=type(error).__name__)
                is_more = False
            await asyncio.sleep(0.0 if is_more else self._every_s)

    async def turn(self) -> bool:
        """Compare the next lines of every partition; whether there are more. Raises `StoreAway`, `AWAY`."""
        walks = await self._begin()
        if not walks:
            self._current_at = time.monotonic()
        if not walks or self._is_store_away():
            return False
        until = clock.now_ms() - self._settle_ms
        replies = await self._broker.batch(
            [
                ("XRANGE", keys.ledger(p.number), f"({walk.position}", until, "COUNT", ENTRIES)
                for p, walk in walks.items()
            ]
        )
        asked: dict[Partition, dict[str, Entered]] = {}
        positions: dict[Partition, str] = {}
        for (partition, walk), reply in zip(walks.items(), _checked(replies), strict=True):
            lines = ledger.read(reply)
            positions[partition] = lines.last_id or walk.position or consumer.BEGINNING
            found = walk.take(lines, self._share)
            walk.forget(until - self._window_ms)
            if found or walk.open:
                asked[partition] = walk.open | found
            self._metrics.audited.inc(len(found))
        walks = await self._compare(asked, walks)
        for partition, walk in walks.items():
            walk.position = positions[partition]
        await self._write_positions(walks)
        is_more = any(len(reply) >= ENTRIES for reply in replies)
        if not is_more:
            self._current_at = time.monotonic()
        return is_more

    async def under_way(self, partition: Partition, wanted: Collection[str]) -> set[str] | None:
        """Those among these keys that are not acknowledged; None if the partition is not ours. Raises `AWAY`."""
        found = await self._under_way({partition: wanted})
        return found.get(partition)

    async def tally(
        self, partition: Partition, entered: Entered, place: Place, roll: Collection[str], have: Mapping[Any, Receipt]
    ) -> Tally:
        """How it stands with the recipients of a message that is saved."""
        where, seq = place.conversation_id, place.seq
        if not roll and names.direct_pair(where) is None:  # too many to be written down
            members, reached = await self._store.reach(where, seq, place.sender_id)
            return Tally(reached, members - reached, max(0, entered.line.recipients - members))
        delivered = due = gone = 0
        book = partition.receipts
        for user_id in ledger.recipients(where, place.sender_id, roll):
            receipt = have.get((where, user_id))
            if receipt is None:
                gone += 1
            elif receipt.has(seq) or book.receipt(where, user_id).has(seq):
                delivered += 1
            else:
                due += 1
        # Nobody leaves a direct conversation: who is no member of it was forgotten.
        return Tally(delivered, due, gone) if roll else Tally(delivered, due, 0, gone)

    # --- one turn ------------------------------------------------------------------------------

    async def _begin(self) -> dict[Partition, Walk]:
        owned = [partition for partition in self._owned() if not partition.is_lost]
        self._walks = {partition: self._walks.get(partition) or Walk() for partition in owned}
        new = [(partition, walk) for partition, walk in self._walks.items() if walk.position is None]
        marks = _checked(await self._broker.batch([("GET", keys.audited(partition.number)) for partition, _ in new]))
        for (_, walk), mark in zip(new, marks, strict=True):
            walk.position = walk.written = mark.decode() if mark is not None else consumer.BEGINNING
        return dict(self._walks)

    async def _compare(
        self, asked: Mapping[Partition, dict[str, Entered]], walks: Mapping[Partition, Walk]
    ) -> dict[Partition, Walk]:
        """Look at these messages; the walks that may go on."""
        waiting = await self._under_way({partition: entered.keys() for partition, entered in asked.items()})
        # The others are not ours any more, or the broker was wiped: whoever owns them begins anew.
        ours = {p: walk for p, walk in walks.items() if p not in asked or p in waiting}
        done = {
            key: entered.line.conversation_id
            for partition, under_way in waiting.items()
            for key, entered in asked[partition].items()
            if key not in under_way
        }
        settled = await self._store.settled(done)
        suspects = {key for walk in ours.values() for key in walk.short}
        places = await self._store.places([key for key in done if key not in settled or key in suspects])
        have = await self._store.memberships(self._members(asked, walks, places))
        now_ms = clock.now_ms()
        for partition, under_way in waiting.items():
            walk, before = walks[partition], walks[partition].unaccounted
            walk.held = {key: entered for key, entered in asked[partition].items() if key in under_way}
            walk.abandoned = sum(is_abandoned(partition, entered, now_ms) for entered in walk.held.values())
            problems: dict[str, tuple[Entered, str]] = {}
            for key, entered in asked[partition].items():
                if key not in under_way and (key not in settled or key in suspects):
                    problem = await self._problem(partition, walk, entered, places.get(key), have)
                    if problem is not None:
                        problems[key] = entered, problem
            walk.unaccounted = problems
            walk.short = {key: entered for key, entered in walk.short.items() if key in problems}
            for key in problems.keys() - before.keys():
                self._tell(partition, *problems[key])
        self._walks = ours
        return dict(ours)

    def _members(
        self,
        asked: Mapping[Partition, dict[str, Entered]],
        walks: Mapping[Partition, Walk],
        places: Mapping[str, Place],
    ) -> list[tuple[str, str]]:
        """Whose membership is asked for: those of direct conversations, and where something was said to too few."""
        found: dict[tuple[str, str], None] = {}
        for partition, entered in asked.items():
            walk = walks.get(partition)
            for key, one in entered.items() if walk is not None else ():
                place = places.get(key)
                if place is not None and walk is not None and (not one.line.roll or key in walk.short):
                    members = ledger.recipients(place.conversation_id, place.sender_id, self._roll(walk, one))
                    found.update(((place.conversation_id, user_id), None) for user_id in members)
        return list(found)

    async def _problem(
        self, partition: Partition, walk: Walk, entered: Entered, place: Place | None, have: Mapping[Any, Receipt]
    ) -> str | None:
        if place is None:
            return "acknowledged, and not in the store"
        is_short = entered.key in walk.short
        if not is_short and names.direct_pair(place.conversation_id) is None:
            return None  # to whom a group's messages are due follows from who is a member
        tally = await self.tally(partition, entered, place, self._roll(walk, entered), have)
        if tally.forgotten:
            return "due to nobody"
        return "not said to all" if is_short and tally.due else None

    @staticmethod
    def _roll(walk: Walk, entered: Entered) -> tuple[str, ...]:
        return walk.rolls.get(entered.line.roll, ())

    @staticmethod
    def _tell(partition: Partition, entered: Entered, problem: str) -> None:
        message_id = names.message_id_of(entered.key, entered.line.conversation_id)
        log.error("a message is not accounted for", message_id=message_id, partition=partition.number, reason=problem)

    async def _under_way(self, asked: Mapping[Partition, Collection[str]]) -> dict[Partition, set[str]]:
        """By partition that is still ours, which of these keys have a place that is not acknowledged."""
        commands: list[Any] = []
        wanted = [(partition, list(of_partition)) for partition, of_partition in asked.items() if of_partition]
        for partition, of_partition in wanted:
            commands.append(("HMGET", keys.assigned(partition.number), *of_partition))
        # Behind them: what was found missing in a broker that was wiped is found with the lease gone as well.
        commands += [("GET", keys.lease(partition.number)) for partition, _ in wanted]
        replies = _checked(await self._broker.batch(commands))
        found: dict[Partition, set[str]] = {}
        for number, (partition, of_partition) in enumerate(wanted):
            if partition.is_held(replies[len(wanted) + number]):
                places = zip(of_partition, replies[number], strict=True)
                found[partition] = {key for key, place in places if place is not None}
        return found

    async def _write_positions(self, walks: Mapping[Partition, Walk]) -> None:
        moved = {p: mark for p, walk in walks.items() if (mark := walk.settled_up_to) != walk.written}
        _checked(await self._broker.batch([("SET", keys.audited(p.number), mark or "") for p, mark in moved.items()]))
        for partition, mark in moved.items():
            walks[partition].written = mark

    # --- bounds --------------------------------------------------------------------------------

    async def _trim(self) -> None:
        """Let go what is older than the window, and more where the lines take too much."""
        oldest = clock.now_ms() - self._window_ms
        owned = [partition.number for partition in self._owned()]
        commands: list[Any] = [("XTRIM", keys.ledger(number), "MINID", "~", oldest) for number in owned]
        for number in owned:
            commands.append(("XREVRANGE", keys.ledger(number), "+", "-", "COUNT", _SAMPLE))
            commands.append(("XLEN", keys.ledger(number)))
        replies = _checked(await self._broker.batch(commands))[len(owned) :]
        for number, sample, length in zip(owned, replies[::2], replies[1::2], strict=True):
            size = _OVERHEAD * sum(map(ledger.size, sample)) / max(1, len(sample)) * length
            if size > self._max_bytes:
                kept = int(length * self._max_bytes / size)
                await self._broker.command("XTRIM", keys.ledger(number), "MAXLEN", "~", kept)


def is_abandoned(partition: Partition, entered: Entered, now_ms: int) -> bool:
    """Whether a message that has a place, and is not acknowledged, waits for nothing."""
    return entered.at_ms < now_ms - ABANDONED_MS and entered.key not in partition.unsaved


def is_sampled(key: bytes, share: float) -> bool:
    """Whether a message is among those that are compared; always the same ones."""
    return share >= 1 or int.from_bytes(key[:4]) < share * (1 << 32)


def _checked(replies: Iterable[Any]) -> list[Any]:
    found = list(replies)
    for reply in found:
        if isinstance(reply, Exception):
            raise reply
    return found


def _keep(kept: OrderedDict[bytes, Any], key: bytes, value: Any, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
