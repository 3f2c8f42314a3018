"""The story of a message, from the inbound stream to everyone who should have it. Open this first.

A batch is frames of several partitions, and goes through two stages. The next batch is decided while
this one is completed; batches complete in order.

    decide    may it be sent (`permission`, `rates`) · was it sent before · its place (`order.lua`, fenced)
    complete  save → say (`sayings`, `routing.plan`, `outbound`) → acknowledge (fenced)

Once a message has a place, nothing refuses it any more: a replay after a crash finds the place and goes
on from there. While the store is away a batch is said as `queued` and *parked*: it stays on the inbound
stream, and its `sent` follows when the store has it.

Over 400 lines, so that the story is in one place: what it asks others is theirs, the order of the steps is its own.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog

from libs.broker import Broker, type_of_command
from libs.clock import now_ms
from libs.directory import Directory
from libs.identity import Envelopes
from libs.streams import consumer
from libs.telemetry.tracing import Station, Tracing
from libs.wire import names
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Inbound, Send
from services.router import batch, outbound, permission, records, routing
from services.router.anonymity import Anonymity
from services.router.batch import Verdict, Work
from services.router.hearers import Seats
from services.router.metrics import RouterMetrics
from services.router.owed import Owed
from services.router.partition import Candidate, Partition
from services.router.people import People
from services.router.pushes import Pushes
from services.router.rates import Counted, Rates
from services.router.routing import Saying, ToUsers
from services.router.sayings import Sayings
from services.router.store import Message, Saved, Store, StoreAway

log = structlog.get_logger(__name__)

# While the store is away it is tried again this often.
_STORE_RETRY_S: Final = 1.0
_MS: Final = 1000


class Delivery:
    """Takes batches through their two stages."""

    def __init__(
        self,
        store: Store,
        people: People,
        directory: Directory,
        broker: Broker,
        sayings: Sayings,
        metrics: RouterMetrics,
        rates: Rates,
        anonymity: Anonymity | None = None,
        envelopes: Envelopes | None = None,
        pushes: Pushes | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._store = store
        self._people = people
        self._directory = directory
        self._broker = broker
        self._sayings = sayings
        self._metrics = metrics
        self._save_s, self._publish_s, self._acknowledge_s = map(
            metrics.stage_s.labels, ("save", "publish", "acknowledge")
        )
        self._stations = [metrics.station_s.of(station) for station in ("read", "save", "publish")]
        self._rates = rates
        self._anonymity = anonymity
        self._envelopes = envelopes
        self._pushes = pushes
        self._tracing = tracing or Tracing()
        self._seal = envelopes.seal_reply if envelopes is not None else routing.no_seal
        self._parked: list[Work] = []
        self._parked_frames = 0
        self._retry_at = 0.0
        self._owed = Owed()
        self.is_store_away = False

    @property
    def parked(self) -> int:
        """Frames that are done but for the store, which is away."""
        return self._parked_frames

    @property
    def owes(self) -> bool:
        """Whether batches are done and not acknowledged."""
        return bool(self._owed)

    # --- stage one -----------------------------------------------------------------------------

    async def decide(self, works: Sequence[Work]) -> None:
        """Give every message of the batch its verdict, and its place if it may have one."""
        sends = [
            (work, frame, entry)
            for work in works
            for frame, entry in zip(work.frames, work.entries, strict=True)
            if isinstance(frame, Send)
        ]
        if not sends:
            return
        began_ns = time.time_ns()
        await self._load_people(frame for _, frame, _ in sends)
        keyed = [(work, Verdict(send, self._key(send), entry)) for work, send, entry in sends]
        keys = {verdict.key for _, verdict in keyed if verdict.key is not None}
        waiting: dict[str, Message] = {}
        for work in works:
            for at_hand in (work.partition.saved, work.partition.unsaved):
                waiting.update((key, at_hand[key]) for key in keys & at_hand.keys())
        for work, verdict in keyed:
            work.verdicts.append(self._judge(verdict, waiting))
        verdicts = [verdict for work in works for verdict in work.verdicts]
        counted = {v.key: _counted(v.send, v.key) for v in verdicts if v.key is not None and v.may_be_new}
        is_store_away = bool(self._parked)
        # The broker counts while the store looks: a message waits for the slower of the two.
        (found, is_found_out), (over, fresh) = await asyncio.gather(
            self._look_up([(work, v.send) for work, v in keyed if v.key is not None], keys - waiting.keys()),
            self._rates.count(list(counted.values())),
        )
        for work in works:
            for verdict in work.verdicts:
                _recognise(work.partition, verdict, found, over)
        await self._order(works, is_store_away=is_store_away or not is_found_out)
        given = {v.key for v in verdicts if v.is_new and not v.was_placed}
        repeats = {v.key for v in verdicts if v.key is not None and (v.was_placed or v.is_recent)} - given
        await self._rates.give_back([counted[key] for key in repeats & fresh])
        for verdict in verdicts if self._tracing.is_on else ():
            if verdict.send.trace:
                self._tracing.note(verdict.send.trace, "read", consumer.at_ns(verdict.entry), began_ns)
        self._trace(works, "decide", began_ns)

    async def _look_up(
        self, sends: Sequence[tuple[Work, Send]], unknown: Collection[str]
    ) -> tuple[dict[str, Message], bool]:
        """Which of the `unknown` are in the store, and whether it could say so."""
        found: dict[str, Message] = {}
        try:
            # In this order: what another owner, which is late, saves in between takes the place that is given here, and
            # not the one before it.
            await self._learn_ends(sends)
            found = await self._store.find(unknown)
        except StoreAway:
            return found, False
        return found, True

    def _key(self, send: Send) -> str | None:
        """The key by which a message is known; None while an anonymous one is not in its own conversation yet."""
        draft = send.draft
        if not draft.is_anonymous:
            return names.message_key(send.sender.user_id, draft.client_id)
        is_bare = names.direct_pair(draft.conversation_id) and not names.is_pseudonymous(draft.conversation_id)
        return None if self._anonymity is None or is_bare else self._anonymity.key(send.sender.user_id, draft.client_id)

    async def _load_people(self, sends: Iterable[Send]) -> None:
        users: set[str] = set()
        groups: set[str] = set()
        for send in sends:
            users.add(send.sender.user_id)
            users.update(names.direct_pair(send.draft.conversation_id) or ())
            group_id = names.group_of(send.draft.conversation_id) or send.draft.bare_id
            if group_id:
                groups.add(group_id)
        await self._people.load(users, groups)

    async def _learn_ends(self, sends: Sequence[tuple[Work, Send]]) -> None:
        unknown = {
            send.draft.conversation_id: work.partition
            for work, send in sends
            if work.partition.last_seq(send.draft.conversation_id) is None
        }
        if unknown:
            for conversation_id, end in (await self._store.ends(list(unknown))).items():
                unknown[conversation_id].note_end(conversation_id, end.seq, end.server_time_ms)

    def _judge(self, verdict: Verdict, waiting: Mapping[str, Message]) -> Verdict:
        key = verdict.key or ""
        verdict.message = waiting.get(key)
        verdict.was_placed = verdict.message is not None
        if verdict.message is None:
            try:
                verdict.forwarded = self._check(verdict)
            except Refusal as refusal:
                verdict.refusal = refusal
            except StoreAway:
                verdict.refusal = Refusal(Code.UNAVAILABLE)
            except Exception as error:
                log.exception("a message could not be judged", message_key=key, error=type(error).__name__)
                verdict.refusal = Refusal(Code.INTERNAL)
        return verdict

    def _check(self, verdict: Verdict) -> Send | None:
        """May it be sent? What belongs to another conversation gives the frame for that one.

        So it is with a bare id that turns out to be a group's, and with a direct message that is anonymous.
        """
        send, draft = verdict.send, verdict.send.draft
        if draft.is_anonymous and self._anonymity is None:
            # Better refused than delivered under a name that was to be hidden.
            raise Refusal(Code.ANONYMOUS_UNAVAILABLE)
        if verdict.key is not None:
            permission.check_send(draft.type, send.sender.role)
        pair = names.direct_pair(draft.conversation_id)
        if pair is None:
            group_id = names.group_of(draft.conversation_id)
            permission.check_member(send.sender.user_id, self._people.group(group_id) if group_id else None)
            return None
        if names.is_pseudonymous(draft.conversation_id):
            self._check_pseudonymous(send, pair)
            return None
        if send.sender.user_id not in pair:
            raise Refusal(Code.ACCESS_DENIED)
        other = pair[0] if pair[1] == send.sender.user_id else pair[1]
        if draft.bare_id is not None and self._people.user(other) is None:
            permission.check_member(send.sender.user_id, self._people.group(draft.bare_id))
            return records.addressed_to(send, names.group(draft.bare_id))
        if draft.is_anonymous and self._anonymity is not None:
            return records.addressed_to(send, self._anonymity.direct(send.sender.user_id, other))
        permission.check_direct(self._people.user(send.sender.user_id), self._people.user(other))
        return None

    def _check_pseudonymous(self, send: Send, pair: tuple[str, str]) -> None:
        sender_id, draft = send.sender.user_id, send.draft
        standing = self._anonymity.standing(sender_id, draft.conversation_id) if self._anonymity else sender_id
        permission.check_pseudonymous(sender_id, standing, pair, is_anonymous=draft.is_anonymous)
        recipient = pair[0] if pair[1] == standing else pair[1]
        permission.check_direct(self._people.user(sender_id), self._people.user(recipient), standing)

    async def _order(self, works: Sequence[Work], *, is_store_away: bool) -> None:
        # In a replay also of what has its place: which entry it was given to, only the script can say.
        asking = [
            (
                work,
                [
                    (v, v.key)
                    for v in work.verdicts
                    if v.key and v.forwarded is None and (v.message is None or work.is_replay)
                ],
            )
            for work in works
        ]
        asking = [(work, verdicts) for work, verdicts in asking if verdicts]
        replies = await self._broker.scripts(
            [
                work.partition.order(
                    [self._candidate(work.partition, verdict, key) for verdict, key in verdicts],
                    is_store_away=is_store_away,
                    is_replay=work.is_replay,
                )
                for work, verdicts in asking
            ]
        )
        for (work, verdicts), reply in zip(asking, replies, strict=True):
            if reply is None:
                work.partition.is_lost = True
                continue
            for (verdict, key), (state, seq, conversation_id, at_ms) in zip(verdicts, reply, strict=True):
                if state == b"later":
                    # Sent again after it was refused here, it was given its place: that one is answered.
                    verdict.message, verdict.was_placed, verdict.refusal = None, True, None
                if state == b"later" or verdict.message is not None:
                    continue
                message = records.message(verdict.send, key, conversation_id.decode(), int(seq), int(at_ms))
                if self._anonymity is not None and verdict.send.draft.is_anonymous:
                    message = self._anonymity.hide(message)
                self._place(work.partition, verdict, state, message)

    def _candidate(self, partition: Partition, verdict: Verdict, key: str) -> Candidate:
        conversation_id, line = verdict.send.draft.conversation_id, b""
        may = verdict.message is None and verdict.refusal is None
        if may and partition.notes is not None:
            verdict.members = self._members(conversation_id)
            is_anonymous = verdict.send.draft.is_anonymous
            line = partition.notes.placed(key, conversation_id, verdict.members, is_anonymous=is_anonymous)
        return Candidate(key, conversation_id, verdict.entry, may=may, line=line)

    def _members(self, conversation_id: str) -> Collection[str] | None:
        """The members of a group, as they are at hand; None in a direct conversation."""
        group_id = names.group_of(conversation_id)
        if group_id is None:
            return None
        with suppress(StoreAway):
            group = self._people.group(group_id)
            if group is not None:
                return group.members
        return ()

    def _place(self, partition: Partition, verdict: Verdict, state: bytes, message: Message) -> None:
        match state:
            case b"given" | b"kept":
                verdict.was_placed = state == b"kept"
                verdict.message = partition.unsaved.get(message.key)
                if verdict.message is None:
                    verdict.message = partition.unsaved[message.key] = message
                    verdict.is_new = True
                    partition.receipts.remember(message, verdict.entry)
                verdict.refusal = None
            case b"recent":
                verdict.message = message
                verdict.is_recent = True
                verdict.refusal = None
            case b"unknown":
                verdict.refusal = Refusal(Code.UNAVAILABLE)
            case _:
                pass  # refused, and never given a place

    # --- stage two -----------------------------------------------------------------------------

    async def complete(self, works: Sequence[Work], *, is_more: bool = False) -> None:
        """Save, say, acknowledge: at once, or if there is more to come with a later batch.

        A partition that was lost meanwhile drops out at any step.
        """
        if self._parked:
            await self.unpark()
        is_saved = not self._parked and await self._save(works)
        works = [work for work in works if not work.partition.is_lost]
        forwarded: list[tuple[int, Inbound]] = []
        if not is_saved:
            for work in works:
                work.partition.hearers.wait(work.new_messages)
        await self._sayings.prepare(works)
        sayings = await self._sayings.of_batches(works, forwarded, is_saved=is_saved)
        began_ns = time.time_ns()
        await self._publish(works, sayings, forwarded, self._noted(works) if is_saved else ())
        self._trace(works, "publish", began_ns)
        self._count_told(works, sayings)
        if is_saved:
            self._time(works)
            self._note(works)
            self._owed.add(works)
            if not is_more or self._owed.is_due:
                await self.settle()
        else:
            for verdict in (verdict for work in works for verdict in work.verdicts):
                verdict.is_queued = verdict.is_new
            self._park(batch.parked(self._parked, works))

    async def unpark(self) -> None:
        """Try the store again for what is parked; with success, tell the senders and acknowledge."""
        if time.monotonic() < self._retry_at:
            return
        self._park([work for work in self._parked if not work.partition.is_lost])
        works = self._parked
        if not await self._save(works):
            return
        works = [work for work in works if not work.partition.is_lost]
        sayings: list[Saying] = []
        for work in works:
            work.partition.hearers.clear()
            sayings += await self._sayings.of_unparked(work)
        began_ns = time.time_ns()
        await self._publish(works, sayings, [], self._noted(works))
        self._time(works)
        self._trace(works, "publish", began_ns)
        self._note(works)
        self._owed.add(works)
        self._park([])
        await self.settle()
        log.info("store is back", saved=sum(len(work.new_messages) for work in works))

    def _count_told(self, works: Sequence[Work], sayings: Sequence[Saying]) -> None:
        """For the ledger: to how many users each message was said, and when."""
        works = [work for work in works if work.partition.notes is not None]
        if not works:
            return
        told, at_ms = routing.told(sayings), now_ms()
        for work in works:
            work.published_ms = at_ms
            for verdict in work.verdicts:
                if verdict.is_new and not work.is_replay and verdict.message is not None:
                    place = verdict.message.conversation_id, verdict.message.seq
                    # Of a group that changed in between, nobody can say how many it should have been; it may have been
                    # read again, and be the same.
                    members = self._members(place[0])
                    if members is verdict.members or members == verdict.members:
                        verdict.told = told.get(place, 0)

    def _time(self, works: Sequence[Work]) -> None:
        """How long after it was taken each new message was read, saved, and said."""
        read, save, publish = self._stations
        said_ms = now_ms()
        for work in works:
            for verdict in work.verdicts:
                if verdict.is_new:
                    took_ms = verdict.send.received_at_ms
                    read.observe(max(0, work.read_ms - took_ms) / _MS)
                    save.observe(max(0, work.saved_ms - took_ms) / _MS)
                    publish.observe(max(0, said_ms - took_ms) / _MS)

    @staticmethod
    def _note(works: Sequence[Work]) -> None:
        """For the ledger: what went all the way."""
        for work, notes in ((work, work.partition.notes) for work in works):
            for verdict in work.verdicts if notes is not None else ():
                message, send = verdict.message, verdict.send
                if notes is not None and message is not None and (verdict.is_new or _is_replayed(work, verdict)):
                    notes.done(
                        message,
                        send.origin.gateway,
                        took_ms=send.received_at_ms,
                        read_ms=work.read_ms,
                        saved_ms=work.saved_ms if verdict.is_new else None,
                        published_ms=work.published_ms,
                        told=verdict.told,
                    )

    def _trace(self, works: Sequence[Work], station: Station, began_ns: int) -> None:
        """Note that a batch was at a station: for the messages in it that are traced, which are few, or none."""
        if not self._tracing.is_on:
            return
        verdicts = [(w.partition, v) for w in works for v in w.verdicts if station != "save" or v.is_new]
        traced = [(partition, verdict) for partition, verdict in verdicts if verdict.send.trace]
        together = [verdict.send.trace for _, verdict in traced]
        for partition, verdict in traced:
            message_id = verdict.message.id if verdict.message is not None else ""
            self._tracing.note(
                verdict.send.trace,
                station,
                began_ns,
                together=together,
                message=message_id,
                partition=partition.number,
                batch=len(verdicts),
            )

    def _park(self, works: list[Work]) -> None:
        self._parked = works
        self._parked_frames = sum(len(work.frames) for work in works)

    async def _save(self, works: Sequence[Work]) -> bool:
        """Save what is new; False when the store is away. A place that was taken loses its partition."""
        verdicts = [(work, v) for work in works if not work.partition.is_lost for v in work.verdicts if v.is_new]
        messages = [verdict.message for _, verdict in verdicts if verdict.message is not None]
        try:
            began, began_ns = time.monotonic(), time.time_ns()
            outcomes = await self._store.save(messages) if messages else []
            self._trace(works, "save", began_ns)
            for (work, verdict), outcome in zip(verdicts, outcomes, strict=True):
                await self._settle(work, verdict, outcome)
            self._save_s.observe(time.monotonic() - began)
            saved_ms = now_ms()
            for work in works:
                work.saved_ms = saved_ms
        except StoreAway as error:
            if not self._parked:
                log.warning("store is away: messages are queued", error=str(error))
            self._retry_at = time.monotonic() + _STORE_RETRY_S
            self.is_store_away = True
            return False
        self.is_store_away = False
        return True

    async def _settle(self, work: Work, verdict: Verdict, outcome: Saved) -> None:
        message = verdict.message
        if message is None:
            return
        match outcome:
            case Saved.SAVED:
                work.partition.unsaved.pop(message.key, None)
                work.partition.saved[message.key] = message
                work.partition.note_end(message.conversation_id, message.seq, message.server_time_ms)
            case Saved.TAKEN:
                log.warning(
                    "a place was taken", message_id=message.id, seq=message.seq, partition=work.partition.number
                )
                work.partition.is_lost = True
            case Saved.REPEAT:
                # An older message sent again while the store could not be asked: its new place is left void.
                if await self._store.save([records.void(message)]) != [Saved.SAVED]:
                    # Another owner is at work, and has saved both: what is said of this place is said by that one.
                    await self._settle(work, verdict, Saved.TAKEN)
                    return
                work.partition.receipts.forget(message)
                verdict.message = (await self._store.find([message.key])).get(message.key, message)
                verdict.is_new = False
                work.partition.unsaved.pop(message.key, None)
                work.partition.note_end(message.conversation_id, message.seq, message.server_time_ms)

    def _noted(self, works: Sequence[Work]) -> Sequence[type_of_command]:
        return self._pushes.note(works) if self._pushes is not None else ()

    async def _publish(
        self,
        works: Sequence[Work],
        sayings: Sequence[Saying],
        forwarded: Sequence[tuple[int, Inbound]],
        noted: Sequence[type_of_command],
    ) -> None:
        if not sayings and not forwarded:
            return
        began = time.monotonic()
        audience = routing.audience(sayings)
        # A gateway that revives is seated again before its sessions ask what is due: what is located now must be
        # said now. Whether it is alive matters not: a dead one's downlink is soon cleared away with its seats.
        seats = await self._directory.locate(audience)
        sayings = _in_order(works, sayings, seats)
        tokens = {work.partition.number: work.partition.token for work in works}
        planned = routing.plan(sayings, seats, tokens, self._seal)
        passed_on = [(partition, self._closed(frame)) for partition, frame in forwarded]
        commands = [*outbound.commands(planned, passed_on), *noted]
        # What was published before this is acknowledged with it: that spares a round trip.
        if self._owed.is_due:
            replies = await self._owed.settle(self._broker, commands)
        else:
            replies = await self._broker.batch(commands)
        outbound.check(replies, self._metrics, planned, forwarded)
        self._publish_s.observe(time.monotonic() - began)

    def _closed(self, frame: Inbound) -> Inbound:
        return self._envelopes.closed(frame) if self._envelopes is not None else frame

    async def settle(self) -> None:
        """Acknowledge what is done."""
        if self._owed:
            began = time.monotonic()
            await self._owed.settle(self._broker)
            self._acknowledge_s.observe(time.monotonic() - began)


def _in_order(works: Sequence[Work], sayings: Sequence[Saying], seats: Mapping[str, Seats]) -> Sequence[Saying]:
    """While the store is away: what some have not heard yet, before what is later."""
    waiting = {work.partition.number: work.partition for work in works if work.partition.hearers}
    if not waiting:
        return sayings
    found: list[Saying] = []
    for saying in sayings:
        partition = waiting.get(saying.partition)
        if partition is not None and isinstance(saying, ToUsers) and saying.seq:
            found += partition.hearers.before(saying, seats, partition.receipts)
        found.append(saying)
    return found


def _is_replayed(work: Work, verdict: Verdict) -> bool:
    return work.is_replay and verdict.was_placed


def _counted(send: Send, key: str) -> Counted:
    return Counted(send.sender.user_id, send.draft.type, key)


def _recognise(
    partition: Partition, verdict: Verdict, found: Mapping[str, Message], over: Mapping[str, Refusal]
) -> None:
    """What is in the store already is answered as it was; what is new may be too much."""
    if verdict.message is not None or verdict.key is None:
        return
    verdict.message = found.get(verdict.key)
    if verdict.message is not None:
        verdict.was_placed, verdict.refusal, verdict.forwarded = True, None, None
        partition.saved[verdict.key] = verdict.message
    elif verdict.forwarded is None:
        verdict.refusal = verdict.refusal or over.get(verdict.key)
