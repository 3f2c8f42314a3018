"""What became of one message, or of all of a partition: read from the ledger and the store for operators who ask.

Beside the batches and one at a time, in small steps, so that no message waits for an operator.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Final

import structlog
from msgspec import Struct

from libs import keys
from libs.broker import AWAY, Broker
from libs.clock import now_ms
from libs.streams import consumer
from libs.wire import names
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Sums
from libs.wire.frames import Trace as Asked
from libs.wire.traces import LedgerSums, MessageTrace, Recipient, RecipientCounts, RecipientState, Station
from services.router import answers, ledger, outbound, routing
from services.router.audit import ENTRIES, Audit, is_abandoned
from services.router.conversations import Conversations
from services.router.ledger import Confirmed, Done, Entered, Lines, Settled
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.routing import Saying
from services.router.store import Message, Place, Receipt, Store, StoreAway

log = structlog.get_logger(__name__)

# Every partition is asked at once, by a few operators.
_WAITING_MAX: Final = 256
# By then the gateway has given up.
_PATIENCE_S: Final = 8.0
_PEOPLE_MAX: Final = 200
# An entry's id and the server time in it are the broker's, a moment apart.
_APART_MS: Final = 100
_LEFT: Final = "left"


class _Way(Struct):
    """What the ledger says of one message."""

    entered: Entered | None = None
    done: Done | None = None
    done_in: Settled | None = None
    roll: Collection[str] = ()
    # By user ("" for the other one of a direct conversation): when they first had it, and through which gateway.
    confirmed: dict[str, tuple[int, str | None]] = {}


class Traces:
    """Answers operators, who get `unavailable` where that takes too long."""

    def __init__(
        self, store: Store, conversations: Conversations, broker: Broker, audit: Audit, metrics: RouterMetrics
    ) -> None:
        self._store = store
        self._conversations = conversations
        self._broker = broker
        self._audit = audit
        self._metrics = metrics
        self._asked: asyncio.Queue[tuple[Partition, Asked | Sums, float]] = asyncio.Queue(_WAITING_MAX)

    def ask(self, partition: Partition, asked: Asked | Sums) -> Sequence[Saying]:
        """Take a question; what is said at once is that there are too many."""
        try:
            self._asked.put_nowait((partition, asked, time.monotonic()))
        except asyncio.QueueFull:
            return [answers.refused(partition.number, asked.origin, Refusal(Code.OVERLOADED))]
        return []

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            partition, asked, asked_at = await self._asked.get()
            if partition.is_lost or time.monotonic() > asked_at + _PATIENCE_S:
                continue
            try:
                said = await self._answer(partition, asked)
                plan = routing.plan([said], {}, {partition.number: partition.token})
                await outbound.publish(self._broker, plan, self._metrics)
            except AWAY as error:
                log.warning("broker is away", error=type(error).__name__)

    async def _answer(self, partition: Partition, asked: Asked | Sums) -> Saying:
        try:
            match asked:
                case Asked():
                    body: Struct = await self._trace(partition, asked.message_id)
                case Sums():
                    body = await self.sums(partition, asked.seconds)
        except StoreAway:
            return answers.refused(partition.number, asked.origin, Refusal(Code.UNAVAILABLE))
        except Refusal as refusal:
            return answers.refused(partition.number, asked.origin, refusal)
        except AWAY:
            raise
        except Exception as error:
            log.exception("an operator could not be answered", error=type(error).__name__)
            return answers.refused(partition.number, asked.origin, Refusal(Code.INTERNAL))
        return answers.accepted(partition.number, asked.origin, body)

    # --- all of a partition --------------------------------------------------------------------

    async def sums(self, partition: Partition, seconds: int = 0) -> LedgerSums:
        """What is in the ledger of a partition, or of the last seconds. Raises `StoreAway`, `AWAY`, `Refusal`."""
        sums, since = LedgerSums(), 0
        rolls: dict[bytes, Collection[str]] = dict(self._audit.walk(partition).rolls)
        problems = set(self._audit.walk(partition).unaccounted)
        seen: set[bytes] = set()
        start = str(max(0, now_ms() - 1000 * seconds)) if seconds else "-"
        async for lines in self._lines(partition, start):
            rolls |= lines.rolls
            entered = {one.key: one for one in lines.entered if one.line.key not in seen}
            seen.update(one.line.key for one in entered.values())
            since = since or next((one.at_ms for one in entered.values()), 0)
            if entered:
                sums = sums.plus(await self._judge(partition, entered, rolls, problems))
        return sums.plus(LedgerSums(since=since, partitions=1))

    async def _judge(
        self,
        partition: Partition,
        entered: dict[str, Entered],
        rolls: dict[bytes, Collection[str]],
        problems: set[str],
    ) -> LedgerSums:
        under_way = await self._under_way(partition, entered)
        places = await self._store.places([key for key in entered if key not in under_way])
        members = [
            (place.conversation_id, user_id)
            for key, place in places.items()
            for user_id in self._recipients(entered[key], place, rolls)
        ]
        have = await self._store.memberships(list(dict.fromkeys(members)))
        sums = LedgerSums()
        for key, one in entered.items():
            if key in under_way:
                is_old = is_abandoned(partition, one, now_ms())
                sums = sums.plus(LedgerSums(abandoned=1) if is_old else LedgerSums(accepted=1, in_flight=1))
            elif (place := places.get(key)) is None:
                sums = sums.plus(LedgerSums(accepted=1, unaccounted=1))
            else:
                tally = await self._audit.tally(partition, one, place, rolls.get(one.line.roll, ()), have)
                sums = sums.plus(
                    LedgerSums(
                        accepted=1,
                        saved=1,
                        unaccounted=int(tally.forgotten > 0 or key in problems),
                        recipients=tally.delivered + tally.due + tally.refused + tally.forgotten,
                        delivered=tally.delivered,
                        due=tally.due,
                        refused=tally.refused,
                    )
                )
        return sums

    @staticmethod
    def _recipients(entered: Entered, place: Place, rolls: dict[bytes, Collection[str]]) -> Sequence[str]:
        return ledger.recipients(place.conversation_id, place.sender_id, rolls.get(entered.line.roll, ()))

    async def _under_way(self, partition: Partition, wanted: Collection[str]) -> set[str]:
        found = await self._audit.under_way(partition, wanted)
        if found is None:  # another router's by now: it answers who asks again
            raise Refusal(Code.UNAVAILABLE)
        return found

    # --- one message ---------------------------------------------------------------------------

    async def _trace(self, partition: Partition, message_id: str) -> MessageTrace:
        key = names.key_of(message_id) or ""
        under_way = await self._under_way(partition, (key,))
        message = (await self._store.find((key,))).get(key)
        if message is not None and message.id != message_id:
            raise Refusal(Code.NOT_FOUND)  # the id of its conversation's partition is not its
        if message is not None:
            way = await self._way(partition, key, message)
            return await self._saved(partition, message, way)
        way = await self._way(partition, key, None)
        line = way.entered
        if line is None or names.message_id_of(key, line.line.conversation_id) != message_id:
            raise Refusal(Code.NOT_FOUND)
        is_old = is_abandoned(partition, line, now_ms())
        return MessageTrace(
            message_id=message_id,
            conversation_id=line.line.conversation_id,
            seq=line.seq,
            state="unaccounted" if key not in under_way else "abandoned" if is_old else "in_flight",
            type=None,
            is_anonymous=None,
            gateway=None,
            stations=_stations(way, line.at_ms, is_anonymous=False),
            recipients=RecipientCounts(total=line.line.recipients),
            people=[],
        )

    async def _saved(self, partition: Partition, message: Message, way: _Way) -> MessageTrace:
        roll = way.roll or await self._members(message)
        place = Place(message.conversation_id, message.seq, message.sender_id)
        users = sorted(ledger.recipients(message.conversation_id, message.sender_id, roll))
        have = await self._store.memberships([(message.conversation_id, user_id) for user_id in users])
        entered = way.entered or _unentered(message, len(users))
        tally = await self._audit.tally(partition, entered, place, roll, have)
        is_unaccounted = tally.forgotten or message.key in self._audit.walk(partition).unaccounted
        gateway = way.done_in.gateway(way.done.gateway) if way.done is not None and way.done_in is not None else None
        return MessageTrace(
            message_id=message.id,
            conversation_id=message.conversation_id,
            seq=message.seq,
            state="unaccounted" if is_unaccounted else "saved",
            type=message.type,
            is_anonymous=message.is_anonymous,
            gateway=gateway,
            stations=_stations(way, message.server_time_ms, is_anonymous=message.is_anonymous),
            recipients=RecipientCounts(
                tally.delivered + tally.due + tally.refused + tally.forgotten,
                tally.delivered,
                tally.due,
                refused=tally.refused,
                unaccounted=tally.forgotten,
            ),
            people=[self._recipient(partition, message, way, have, user_id) for user_id in users[:_PEOPLE_MAX]],
            has_more=len(users) > _PEOPLE_MAX or not users,
        )

    async def _members(self, message: Message) -> Collection[str]:
        """Those of its group now, where the ledger does not say who they were: nobody where they are too many.

        Of an anonymous message only counts are told: who has it first may well have written it.
        """
        if message.is_anonymous or names.direct_pair(message.conversation_id) is not None:
            return ()
        members = await self._conversations.participants(message.conversation_id)
        return members if len(members) <= _PEOPLE_MAX else ()

    @staticmethod
    def _recipient(
        partition: Partition, message: Message, way: _Way, have: dict[tuple[str, str], Receipt], user_id: str
    ) -> Recipient:
        where, seq = message.conversation_id, message.seq
        receipt = have.get((where, user_id))
        is_direct = names.direct_pair(where) is not None
        at_ms, gateway = way.confirmed.get("" if is_direct else user_id, (None, None))
        if receipt is None:
            state: RecipientState = "unaccounted" if is_direct else "refused"
            return Recipient(user_id, state, None if is_direct else _LEFT, at_ms, gateway)
        has = receipt.has(seq) or partition.receipts.receipt(where, user_id).has(seq)
        return Recipient(user_id, "delivered" if has else "due", None, at_ms, gateway)

    async def _way(self, partition: Partition, key: str, message: Message | None) -> _Way:
        """What the ledger says of a message: from its own line on, until all who are to have it confirmed."""
        wanted, way = bytes.fromhex(key), _Way()
        start = "-" if message is None else str(max(0, message.server_time_ms - _APART_MS))
        rolls: dict[bytes, Collection[str]] = {}
        until = time.monotonic() + _PATIENCE_S / 2
        async for lines in self._lines(partition, start):
            rolls |= lines.rolls
            way.entered = next((one for one in lines.entered if one.line.key == wanted), way.entered)
            for settled in lines.settled:
                for done in settled.done:
                    if done.key == wanted:
                        way.done, way.done_in = done, settled
                for confirmed in settled.confirmed:
                    if confirmed.key == wanted:
                        _note(way, settled, confirmed)
            is_told = way.entered is not None and way.done is not None
            if time.monotonic() > until or (is_told and len(way.confirmed) >= _expected(way)):
                break
        if way.entered is not None and way.entered.line.roll:
            way.roll = rolls.get(way.entered.line.roll) or await self._roll(partition, way.entered)
        return way

    async def _roll(self, partition: Partition, entered: Entered) -> Collection[str]:
        """The members that were written down for an earlier message."""
        known = self._audit.walk(partition).rolls.get(entered.line.roll)
        if known:
            return known
        async for lines in self._lines(partition, str(max(0, entered.at_ms - 2000 * round(ledger.ROLL_AGAIN_S)))):
            if entered.line.roll in lines.rolls:
                return lines.rolls[entered.line.roll]
        return ()

    async def _lines(self, partition: Partition, start: str) -> AsyncIterator[Lines]:
        """The ledger from an entry on, in steps."""
        while True:
            reply = await self._broker.command("XRANGE", keys.ledger(partition.number), start, "+", "COUNT", ENTRIES)
            lines = ledger.read(reply)
            yield lines
            if lines.last_id is None or len(reply) < ENTRIES:
                return
            start = consumer.after(lines.last_id)


def _unentered(message: Message, recipients: int) -> Entered:
    """Stands for the line of a message that the ledger does not go back to."""
    return Entered("0-0", message.seq, ledger.Placed(b"", message.conversation_id, recipients), message.key)


def _expected(way: _Way) -> int:
    """How many confirmations are worth looking for."""
    if way.entered is None or not (way.entered.line.roll or names.direct_pair(way.entered.line.conversation_id)):
        return 0
    return way.entered.line.recipients


def _note(way: _Way, settled: Settled, confirmed: Confirmed) -> None:
    at = settled.base_ms + confirmed.at, settled.gateway(confirmed.gateway)
    for user_id in confirmed.users or ("",):
        way.confirmed.setdefault(user_id, at)


def _stations(way: _Way, placed_ms: int, *, is_anonymous: bool) -> list[Station]:
    """Where it was when, in the order of the way; of an anonymous message not when its gateway took it."""
    if way.entered is None:
        return []
    at = [("decide", placed_ms)]
    if way.done is not None and way.done_in is not None:
        took_ms = way.done_in.base_ms + way.done.took
        at = [("read", took_ms + way.done.read), *at]
        if not is_anonymous:
            at.insert(0, ("take", took_ms))
        if way.done.save is not None:
            at.append(("save", took_ms + way.done.save))
        at.append(("publish", took_ms + way.done.publish))
    before = [at[0][1], *(when for _, when in at)]
    return [Station(station, when, when - then) for (station, when), then in zip(at, before, strict=False)]  # type: ignore[arg-type]
