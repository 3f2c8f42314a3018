"""The story of a message: what a batch comes to, whatever happens to the store, the lease, or a frame in it.

The scripts run on a real broker; the store is in memory, and away when a test says so.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs import keys
from libs.broker import Broker, Script
from libs.clock import now_ms
from libs.directory import Directory
from libs.limits import Limiter
from libs.streams import consumer, producer
from libs.wire import codec, names
from libs.wire.codes import Code
from libs.wire.events import Draft
from libs.wire.frames import (
    Answer,
    Canary,
    CanaryReply,
    Confirm,
    Due,
    DuePage,
    Emit,
    History,
    Inbound,
    Origin,
    Revoke,
    Section,
    Send,
    Sender,
    SignedIn,
    SignedOut,
    SignIn,
    Typing,
)
from services.router import permission
from services.router.aside import Aside
from services.router.batch import Work
from services.router.conversations import Conversations
from services.router.delivery import Delivery
from services.router.due import DuePages
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.people import People
from services.router.rates import Rates
from services.router.requests import Requests
from services.router.sayings import Sayings
from services.router.store import End, Message, Receipt, ReceiptRow
from services.router.typing_notices import TypingNotices
from tests.unit.services.router.fakes import EVERYTHING, FIELD, RAMA_SITA, FakeStore, message

PARTITIONS = 1
PER_MINUTE = {"text": 60, "image": 10, "document": 5, "voice": 20, "emergency": 3}
GATEWAY_OF = {"rama": "g1", "sita": "g2", "lata": "g2"}

_lease = Script("libs.streams", "lease.lua")


class Desk:
    """One router's delivery, and what its gateways hear."""

    def __init__(self, store: FakeStore, broker: Broker, *, router: str = "r1") -> None:
        self.store = store
        self.broker = broker
        self.router = router
        self.metrics = metrics = RouterMetrics(CollectorRegistry())
        people = People(store, 0.0)
        conversations = Conversations(store, people, 100)
        pages = DuePages(store, broker, partitions=PARTITIONS, messages=50, bytes_=32_768)
        typing = TypingNotices(people, conversations, members_max=3)
        requests = Requests(store, people, conversations, pages, metrics, typing)
        self.aside = Aside(requests, broker, metrics)
        self.directory = Directory(broker)
        self.delivery = Delivery(
            store,
            people,
            self.directory,
            broker,
            Sayings(conversations, requests, self.aside, metrics, partitions=PARTITIONS),
            metrics,
            Rates(Limiter(broker), PER_MINUTE),
        )

    async def open(self) -> Partition:
        """Have everyone on their gateways, and the partition."""
        for user, gateway in GATEWAY_OF.items():
            await self.broker.script(self.directory.beat(gateway))
            await self.broker.command("XADD", keys.downlink(gateway), "*", "hello", "")
            await self.directory.touch(gateway, [user])
        return await self.own()

    async def own(self) -> Partition:
        """Take the partition (anew), with the receipts that the owner before left."""
        token = await self.broker.script(_lease.call([keys.lease(0), keys.lease_token(0)], self.router, 60_000, "0", 1))
        assert int(token)
        owned = Partition(0, int(token), self.router)
        newest = await self.broker.command("XREVRANGE", keys.inbound(0), "+", "-", "COUNT", 1)
        if newest:
            owned.answered_up_to = newest[0][0].decode()
        owned.receipts.restore(await self.broker.command("HGETALL", keys.receipts(0)))
        return owned

    async def take(self, partition: Partition, *frames: Inbound) -> Work:
        """Put frames on the stream and read them, as one batch."""
        for command in producer.entries(0, list(frames)):
            await self.broker.command(*command)
        return await self.read(partition)

    async def read(self, partition: Partition, limit: int = 1000) -> Work:
        """What is on the stream after the partition's position, as one batch."""
        stream = keys.inbound(0)
        entries = (await consumer.read(self.broker, {stream: partition.position}, count=1000, block_ms=1))[stream]
        entries = entries[:limit]
        brought = [(frame, e.id) for e in entries for frame in codec.unpack_inbound(e.frames or b"")[0]]
        partition.position = entries[-1].id
        is_replay = consumer.is_up_to(entries[0].id, partition.answered_up_to)
        frames, ids = [frame for frame, _ in brought], [id_ for _, id_ in brought]
        return Work(partition, frames, entries[-1].id, is_replay=is_replay, entries=ids)

    async def deliver(self, partition: Partition, *frames: Inbound) -> Work:
        """A batch through both stages."""
        work = await self.take(partition, *frames)
        await self.delivery.decide([work])
        await self.delivery.complete([work])
        return work

    async def heard(self, gateway: str) -> list[Any]:
        """The frames a gateway has heard since it was last asked."""
        return [frame for section in await self.sections(gateway) for frame in section.frames]

    async def sections(self, gateway: str) -> list[Section]:
        entries = await self.broker.command("XRANGE", keys.downlink(gateway), "-", "+")
        await self.broker.command("XTRIM", keys.downlink(gateway), "MAXLEN", "=", 0)
        packed = [fields.get(producer.FIELD) for fields in map(_fields, entries)]
        return [section for one in packed if one is not None for section in codec.unpack_downlink(one)]

    async def answers(self, gateway: str = "g1") -> dict[int, dict[str, Any]]:
        """What acknowledgements a gateway's sockets got, by number."""
        return {
            frame.ack: json.loads(frame.body)
            for frame in await self.heard(gateway)
            if isinstance(frame, Answer) and frame.ack is not None
        }

    async def waiting(self) -> int:
        """How many entries nobody has acknowledged."""
        return int(await self.broker.command("XLEN", keys.inbound(0)))

    def come_back(self) -> None:
        """The store is back, and it is time to try it again."""
        self.store.away = set()
        self.delivery._retry_at = 0.0


def _fields(entry: Any) -> dict[bytes, bytes]:
    flat = entry[1]
    return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


def send(
    client_id: str, conversation_id: str = RAMA_SITA, sender: str = "rama", *, ack: int | None = 1, **fields: Any
) -> Send:
    """A message on its way, from the sender's socket on their gateway."""
    kind, bare_id = fields.pop("type", "text"), fields.pop("bare_id", None)
    draft = Draft(
        conversation_id, client_id, f"local-{client_id}", kind, fields.pop("content", "Monday"), bare_id=bare_id
    )
    origin = Origin(GATEWAY_OF[sender], f"{sender}-socket", ack)
    return Send(origin, Sender(sender, sender.title(), "member"), draft, 1000)


def emits(frames: Sequence[Any], event: str) -> list[Emit]:
    return [frame for frame in frames if isinstance(frame, Emit) and frame.event == event]


def told(frames: Sequence[Any]) -> list[tuple[str, int]]:
    """The statuses in some frames, with the seq each is of."""
    bodies = [json.loads(frame.body) for frame in emits(frames, "message_delivery_status")]
    return [(body["status"], body["seq"]) for body in bodies]


@pytest.fixture
def desk(store: FakeStore, broker: Broker) -> Desk:
    return Desk(store, broker)


# Once, in order, saved before it is said


async def test_a_message_is_saved_answered_delivered_and_acknowledged(desk: Desk) -> None:
    """The whole way, in one batch: store, answer, recipient, the sender's other devices, stream."""
    partition = await desk.open()
    await desk.deliver(partition, send("a"))
    (saved,) = desk.store.log()
    assert (saved.seq, saved.content, saved.sender_id) == (1, "Monday", "rama")
    at_sender, at_recipient = await desk.heard("g1"), await desk.heard("g2")
    answer, *_ = at_sender
    assert json.loads(answer.body) == {
        "ok": True,
        "status": "sent",
        "messageId": saved.id,
        "clientId": "a",
        "conversationId": RAMA_SITA,
        "seq": 1,
        "serverTime": saved.server_time_ms,
    }
    (delivered,) = at_recipient
    assert (delivered.users, delivered.event, delivered.seq) == (("sita",), "new_message", 1)
    assert json.loads(delivered.body)["id"] == saved.id
    for event in ("new_message", "message_delivery_status"):
        (other_device,) = emits(at_sender, event)
        assert (other_device.users, other_device.skip_session) == (("rama",), "rama-socket")
    assert await desk.waiting() == 0


async def test_a_message_is_timed_at_each_station_once(desk: Desk) -> None:
    """When it was read, saved, said; not when it is sent again, nor while it waits for the store."""
    partition = await desk.open()
    await desk.deliver(partition, send("a"))
    await desk.deliver(partition, send("a"))
    stations = [desk.metrics.station_s.of(station) for station in ("read", "save", "publish")]
    assert [sum(each.counts) for each in stations] == [1, 1, 1]
    desk.store.away = set(EVERYTHING)
    await desk.deliver(partition, send("b"))
    assert [sum(each.counts) for each in stations] == [1, 1, 1]
    desk.come_back()
    await desk.delivery.unpark()
    assert [sum(each.counts) for each in stations] == [2, 2, 2]
    read, save, publish = (each.total for each in stations)
    assert read <= save <= publish


async def test_frames_to_gateways_are_counted_as_the_gateways_count_them(desk: Desk) -> None:
    """Each once a gateway; none for a gateway that is gone, which is counted instead."""
    partition = await desk.open()
    await desk.deliver(partition, send("a"))
    heard = [*await desk.heard("g1"), *await desk.heard("g2")]
    await desk.broker.command("DEL", keys.downlink("g2"))
    await desk.deliver(partition, send("b"))
    heard += await desk.heard("g1")
    series = {kind: desk.metrics.downlink_frames.labels(kind)._value.get() for kind in ("answer", "emit")}
    assert series == Counter(type(frame).__name__.lower() for frame in heard)
    assert desk.metrics.gateways_gone._value.get() == 1


async def test_messages_of_a_conversation_stand_in_the_order_they_came(desk: Desk) -> None:
    """1, 2, 3 without a gap, for the store and for everyone."""
    partition = await desk.open()
    await desk.deliver(partition, *(send(f"a{n}", FIELD, ack=n) for n in range(50)))
    await desk.deliver(partition, send("last", FIELD, "lata"))
    assert [one.seq for one in desk.store.log(FIELD)] == list(range(1, 52))
    assert [one.client_id for one in desk.store.log(FIELD)] == [*(f"a{n}" for n in range(50)), "last"]
    seqs = [frame.seq for frame in emits(await desk.heard("g2"), "new_message") if frame.seq]
    assert seqs == list(range(1, 52))


async def test_a_message_sent_again_is_the_same_message(desk: Desk) -> None:
    """In one batch and in the next: saved once, and every sending answered with its one id and place."""
    partition = await desk.open()
    await desk.deliver(partition, send("a", ack=1), send("a", ack=2), send("b", ack=3))
    await desk.deliver(partition, send("a", ack=4))
    assert [one.client_id for one in desk.store.log()] == ["a", "b"]
    answers = await desk.answers()
    assert [answers[ack]["seq"] for ack in (1, 2, 3, 4)] == [1, 1, 2, 1]
    assert answers[1] == answers[2] == answers[4]


async def test_a_message_sent_again_goes_to_those_who_have_not_confirmed_it(desk: Desk) -> None:
    """Perhaps its router died before it was said; who has it is not told twice."""
    partition = await desk.open()
    desk.store.put(message(1, FIELD, client_id="a"))
    desk.store.marks[FIELD, "sita"] = Receipt(1)
    await desk.deliver(partition, send("a", FIELD))
    (again,) = emits(await desk.heard("g2"), "new_message")
    assert again.users == ("lata",)


async def test_a_batch_that_is_replayed_changes_nothing(desk: Desk) -> None:
    """Its router died after saving: the next finds everything done, answers again and acknowledges."""
    dying = await desk.open()
    work = await desk.take(dying, send("a", ack=1), send("b", ack=2))
    await desk.delivery.decide([work])
    await desk.delivery._save([work])
    before = dict(desk.store.messages)
    successor = Desk(desk.store, desk.broker)
    replayed = await successor.read(await successor.own())
    await successor.delivery.decide([replayed])
    await successor.delivery.complete([replayed])
    assert desk.store.messages == before
    answers = await successor.answers()
    assert [(answers[ack]["status"], answers[ack]["seq"]) for ack in (1, 2)] == [("sent", 1), ("sent", 2)]
    assert await successor.waiting() == 0


async def test_a_batch_that_was_placed_and_not_saved_keeps_its_places(desk: Desk) -> None:
    """Its router died before saving: the next gives every message the place it had, and new ones the next."""
    dying = await desk.open()
    await desk.delivery.decide([await desk.take(dying, send("a"), send("b"))])
    successor = Desk(desk.store, desk.broker)
    partition = await successor.own()
    replayed = await successor.take(partition, send("c"))
    await successor.delivery.decide([replayed])
    await successor.delivery.complete([replayed])
    assert [(one.client_id, one.seq) for one in desk.store.log()] == [("a", 1), ("b", 2), ("c", 3)]


async def _placed_after_one_that_was_refused(desk: Desk) -> Partition:
    """`a` was refused, as nothing was known of its conversation; `b` was placed; and their router dies."""
    dying = await desk.open()
    await desk.delivery._people.load(["rama", "sita"], [])
    desk.store.away = set(EVERYTHING)
    await desk.delivery.decide([await desk.take(dying, send("a", ack=1))])
    desk.come_back()
    await desk.delivery.decide([await desk.take(dying, send("b", ack=2))])
    return dying


async def _replayed_one_by_one(desk: Desk) -> Desk:
    """The next owner reads entry after entry."""
    successor = Desk(desk.store, desk.broker)
    partition = await successor.own()
    while partition.position != partition.answered_up_to:
        work = await successor.read(partition, 1)
        await successor.delivery.decide([work])
        await successor.delivery.complete([work], is_more=True)
    await successor.delivery.settle()
    return successor


async def test_what_was_refused_takes_no_place_behind_one_that_is_still_to_be_saved(desk: Desk) -> None:
    """It stays refused, and takes the next place when it is sent again: what was placed after it keeps its own."""
    await _placed_after_one_that_was_refused(desk)
    successor = await _replayed_one_by_one(desk)
    answers = await successor.answers()
    assert _refused(answers[1], Code.UNAVAILABLE)
    assert (answers[2]["status"], answers[2]["seq"]) == ("sent", 1)
    await successor.deliver(await successor.own(), send("a", ack=3))
    assert [(one.client_id, one.seq) for one in desk.store.log()] == [("b", 1), ("a", 2)]


@pytest.mark.parametrize("is_saved", [False, True])
async def test_what_was_placed_when_it_was_sent_again_waits_for_that_entry(desk: Desk, is_saved: bool) -> None:
    """Read again, the entry that was refused is passed over: its place is behind others that are still to be read."""
    dying = await _placed_after_one_that_was_refused(desk)
    await desk.delivery.decide([await desk.take(dying, send("a", ack=3))])
    if is_saved:
        for seq, client_id in enumerate("ba", 1):
            desk.store.put(message(seq, client_id=client_id))
    successor = await _replayed_one_by_one(desk)
    assert [one.seq for one in emits(await successor.heard("g2"), "new_message")] == [1, 2]
    answers = await successor.answers()
    assert 1 not in answers
    assert [(one.client_id, one.seq) for one in desk.store.log()] == [("b", 1), ("a", 2)]
    assert await successor.waiting() == 0


async def test_a_bare_id_that_is_a_groups_goes_on_to_that_group(desk: Desk) -> None:
    """The frame is passed to the partition that orders the group, and not answered here."""
    partition = await desk.open()
    await desk.deliver(partition, send("a", names.direct("rama", "field"), bare_id="field"))
    assert desk.store.messages == {}
    assert await desk.heard("g1") == []
    work = await desk.read(partition)
    await desk.delivery.decide([work])
    await desk.delivery.complete([work])
    assert [one.conversation_id for one in desk.store.log(FIELD)] == [FIELD]


# What the store says


async def test_a_place_that_was_taken_starts_the_partition_over(desk: Desk) -> None:
    """TAKEN: nothing is said or acknowledged; read again under a new token, it takes the next place."""
    partition = await desk.open()
    partition.note_end(RAMA_SITA, 0)
    desk.store.put(message(1, client_id="other"))
    await desk.deliver(partition, send("a"))
    assert partition.is_lost
    assert await desk.heard("g1") == []
    assert await desk.heard("g2") == []
    assert await desk.waiting() == 1
    again = await desk.own()
    work = await desk.read(again)
    await desk.delivery.decide([work])
    await desk.delivery.complete([work])
    assert [(one.client_id, one.seq) for one in desk.store.log()] == [("other", 1), ("a", 2)]
    assert (await desk.answers())[1]["seq"] == 2
    assert await desk.waiting() == 0


async def test_a_repeat_found_out_by_the_store_leaves_its_new_place_void(desk: Desk) -> None:
    """REPEAT: the answer names the old place, and the conversation has no gap."""
    partition = await desk.open()
    desk.store.put(message(1, client_id="a"))
    partition.note_end(RAMA_SITA, 1)
    work = await desk.take(partition, send("a"))
    desk.store.away = {"find"}
    await desk.delivery.decide([work])
    desk.store.away = set()
    await desk.delivery.complete([work])
    await desk.deliver(partition, send("b", ack=2))
    assert [(one.seq, one.is_void) for one in desk.store.log()] == [(1, False), (2, True), (3, False)]
    answers = await desk.answers()
    assert (answers[1]["status"], answers[1]["seq"]) == ("sent", 1)
    assert answers[2]["seq"] == 3
    assert await desk.waiting() == 0


async def test_a_repeat_whose_new_place_is_anothers_starts_the_partition_over(desk: Desk) -> None:
    """Somebody else gave out both places and says what is there: what was said here would be of the wrong one."""
    partition = await desk.open()
    partition.note_end(RAMA_SITA, 0)
    work = await desk.take(partition, send("a"))
    await desk.delivery.decide([work])
    desk.store.put(message(1, client_id="other"), message(2, client_id="a"))
    await desk.delivery.complete([work])
    assert partition.is_lost
    assert await desk.heard("g1") == []
    again = await desk.own()
    work = await desk.read(again)
    await desk.delivery.decide([work])
    await desk.delivery.complete([work])
    assert [(one.client_id, one.seq) for one in desk.store.log()] == [("other", 1), ("a", 2)]
    assert (await desk.answers())[1]["seq"] == 2


async def test_a_void_place_is_kept_for_no_message(desk: Desk) -> None:
    """What is confirmed of it would be told as of a message that stands elsewhere, and watermarks would wait for it."""
    partition = await desk.open()
    desk.store.put(message(1, client_id="a"))
    partition.note_end(RAMA_SITA, 1)
    work = await desk.take(partition, send("a"))
    desk.store.away = {"find"}
    await desk.delivery.decide([work])
    desk.store.away = set()
    assert partition.receipts.message(RAMA_SITA, 2)
    await desk.delivery.complete([work])
    assert partition.receipts.message(RAMA_SITA, 2) is None


@pytest.mark.parametrize("is_away", [False, True])
async def test_what_was_saved_and_not_said_is_said_by_place(desk: Desk, is_away: bool) -> None:
    """Its owner lost the partition as it saved: sent again behind a message that has a later place, it comes first."""
    partition = await desk.open()
    desk.store.put(message(1, client_id="b"), message(2, client_id="c"))
    desk.store.away = {"save"} if is_away else set()
    await desk.deliver(partition, send("a"), send("c"), send("b"), send("d"))
    assert [emit.seq for emit in emits(await desk.heard("g2"), "new_message")] == [1, 2, 3, 4]


async def test_what_is_saved_while_the_store_is_asked_leaves_no_empty_place(broker: Broker) -> None:
    """By an owner that is late, between the two questions: it is found, or it has the place that is given here."""

    class Asked(FakeStore):
        async def find(self, keys: Collection[str]) -> dict[str, Message]:
            found = await super().find(keys)
            self.put(message(1, client_id="a"))
            return found

        async def ends(self, conversation_ids: Collection[str]) -> dict[str, End]:
            found = await super().ends(conversation_ids)
            self.put(message(1, client_id="a"))
            return found

    desk = Desk(Asked(), broker)
    await desk.deliver(await desk.open(), send("a"))
    assert [(one.client_id, one.seq) for one in desk.store.log()] == [("a", 1)]
    assert (await desk.answers())[1]["seq"] == 1


async def test_while_the_store_is_away_messages_are_queued_and_then_sent(desk: Desk) -> None:
    """Delivered at once; said as `queued`; kept on the stream until the store has them; then `sent`."""
    partition = await desk.open()
    await desk.deliver(partition, send("before"))
    await desk.heard("g1")
    await desk.heard("g2")
    desk.store.away = set(EVERYTHING)
    await desk.deliver(partition, send("a", ack=1), send("b", ack=2))
    await desk.deliver(partition, send("c", ack=3))
    answers = await desk.answers()
    assert [(answers[n]["status"], answers[n]["seq"]) for n in (1, 2, 3)] == [
        ("queued", 2),
        ("queued", 3),
        ("queued", 4),
    ]
    assert [one.seq for one in emits(await desk.heard("g2"), "new_message")] == [2, 3, 4]
    assert desk.delivery.parked == 3
    assert await desk.waiting() == 2

    desk.come_back()
    await desk.delivery.unpark()
    assert [one.client_id for one in desk.store.log()] == ["before", "a", "b", "c"]
    assert told(await desk.heard("g1")) == [("sent", 2), ("sent", 3), ("sent", 4)]
    assert desk.delivery.parked == 0
    assert await desk.waiting() == 0


async def test_who_had_no_seat_is_said_what_is_queued_before_what_is_later(desk: Desk) -> None:
    """Nobody is shown a message before an earlier one; who has heard it, or confirmed it, is not said it again."""
    partition = await desk.open()
    await desk.deliver(partition, send("before"))
    desk.store.away = set(EVERYTHING)
    await desk.directory.drop("g2", ["sita"])
    await desk.heard("g2")
    await desk.deliver(partition, send("a"))
    await desk.deliver(partition, send("b"))
    assert await desk.heard("g2") == []
    await desk.directory.touch("g2", ["sita"])
    await desk.deliver(partition, confirm("sita", 2))
    await desk.deliver(partition, send("c"), send("d"))
    assert [one.seq for one in emits(await desk.heard("g2"), "new_message")] == [3, 4, 5]
    await desk.deliver(partition, send("e"))
    assert [one.seq for one in emits(await desk.heard("g2"), "new_message")] == [6]
    await desk.directory.drop("g2", ["sita"])
    await desk.directory.touch("g1", ["sita"])
    await desk.heard("g1")
    await desk.deliver(partition, send("f"))
    assert [one.seq for one in emits(await desk.heard("g1"), "new_message") if one.seq] == [3, 4, 5, 6, 7]


async def test_the_store_is_not_asked_again_at_once(desk: Desk) -> None:
    """Between two tries there is a pause, so that a store that is down is not hammered."""
    partition = await desk.open()
    await desk.deliver(partition, send("before"))
    desk.store.away = {"save"}
    await desk.deliver(partition, send("a"))
    asked = desk.store.asked.count("save")
    await desk.delivery.unpark()
    assert desk.store.asked.count("save") == asked
    desk.delivery._retry_at = 0.0
    await desk.delivery.unpark()
    assert desk.store.asked.count("save") == asked + 1
    assert desk.delivery.parked == 1


async def test_the_next_batch_saves_what_is_parked_first(desk: Desk) -> None:
    """In order: nothing overtakes what waits for the store."""
    partition = await desk.open()
    await desk.deliver(partition, send("before"))
    desk.store.away = {"save"}
    await desk.deliver(partition, send("a"))
    desk.come_back()
    await desk.heard("g1")
    await desk.deliver(partition, send("b", ack=2))
    assert [one.client_id for one in desk.store.log()] == ["before", "a", "b"]
    assert (await desk.answers())[2]["status"] == "sent"
    assert await desk.waiting() == 0


async def test_a_message_sent_again_while_it_is_queued_is_answered_as_queued(desk: Desk) -> None:
    """With the place it has."""
    partition = await desk.open()
    await desk.deliver(partition, send("before"))
    desk.store.away = set(EVERYTHING)
    await desk.deliver(partition, send("a", ack=1))
    await desk.deliver(partition, send("a", ack=2))
    answers = await desk.answers()
    assert (answers[2]["status"], answers[2]["seq"]) == ("queued", 2)
    desk.come_back()
    await desk.delivery.unpark()
    assert [one.client_id for one in desk.store.log()] == ["before", "a"]
    assert await desk.waiting() == 0


async def test_a_message_saved_lately_is_known_while_the_store_is_away(desk: Desk) -> None:
    """Sent again, it is answered as `sent` and takes no other place."""
    partition = await desk.open()
    await desk.deliver(partition, send("a", ack=1))
    desk.store.away = set(EVERYTHING)
    await desk.deliver(partition, send("a", ack=2), send("b", ack=3))
    answers = await desk.answers()
    assert (answers[2]["status"], answers[2]["seq"]) == ("sent", 1)
    assert (answers[3]["status"], answers[3]["seq"]) == ("queued", 2)


@pytest.mark.parametrize("is_found", [False, True])
async def test_a_message_that_is_saved_and_not_acknowledged_is_known_while_the_store_is_away(
    desk: Desk, is_found: bool
) -> None:
    """The broker does not know yet that it is saved: the owner does, and gives it no other place."""
    partition = await desk.open()
    if is_found:
        await desk.delivery.decide([await desk.take(partition, send("a", ack=0))])
        desk.store.put(message(1, client_id="a"))
        partition = await desk.own()
        work = await desk.read(partition)
    else:
        work = await desk.take(partition, send("a", ack=1))
    await desk.delivery.decide([work])
    await desk.delivery.complete([work], is_more=True)
    assert await desk.waiting() > 0
    desk.store.away = set(EVERYTHING)
    await desk.deliver(partition, send("a", ack=2))
    answers = await desk.answers()
    assert (answers[2]["status"], answers[2]["seq"]) == ("sent", 1)
    await desk.delivery.settle()
    assert partition.saved == {}


async def test_no_status_goes_back_when_a_successor_cannot_ask_the_store(desk: Desk) -> None:
    """The owner before said `delivered` and died: other devices hear no `queued`, but `delivered` again."""
    dying = await desk.open()
    for frame in (send("a", ack=1), Confirm(Origin("g2", "s2"), "sita", RAMA_SITA, (1,))):
        work = await desk.take(dying, frame)
        await desk.delivery.decide([work])
        await desk.delivery.complete([work], is_more=True)
    assert told(await desk.heard("g1")) == [("sent", 1), ("delivered", 1)]
    successor = Desk(desk.store, desk.broker)
    desk.store.away = set(EVERYTHING)
    work = await successor.read(await successor.own())
    await successor.delivery.decide([work])
    await successor.delivery.complete([work])
    assert told(await successor.heard("g1")) == []
    successor.come_back()
    await successor.delivery.unpark()
    assert told(await successor.heard("g1")) == [("delivered", 1)]


async def test_no_status_goes_back_when_the_store_returns_in_mid_replay(desk: Desk) -> None:
    """It could not be asked, and could then save: how far the message has come is said once the replay is through."""
    dying = await desk.open()
    for frame in (send("a", ack=1), Confirm(Origin("g2", "s2"), "sita", RAMA_SITA, (1,))):
        work = await desk.take(dying, frame)
        await desk.delivery.decide([work])
        await desk.delivery.complete([work], is_more=True)
    await desk.heard("g1")
    successor = Desk(desk.store, desk.broker)
    desk.store.away = set(EVERYTHING)
    work = await successor.read(await successor.own())
    await successor.delivery.decide([work])
    desk.store.away = set()
    await successor.delivery.complete([work])
    assert set(told(await successor.heard("g1"))) == {("delivered", 1)}


async def test_what_was_sent_is_not_refused_when_the_store_goes_away_in_mid_replay(desk: Desk) -> None:
    """How far its conversation is was known by then; whether it stands there itself, nobody could say."""
    dying = await desk.open()
    for work in [await desk.take(dying, send("a", ack=1)), await desk.take(dying, send("b", ack=2))]:
        await desk.delivery.decide([work])
        await desk.delivery.complete([work], is_more=True)
    await desk.heard("g1")
    successor = Desk(desk.store, desk.broker)
    partition = await successor.own()
    for is_away in (False, True):
        desk.store.away = set(EVERYTHING) if is_away else set()
        work = await successor.read(partition, 1)
        await successor.delivery.decide([work])
        await successor.delivery.complete([work], is_more=True)
    heard = await successor.heard("g1")
    assert [json.loads(frame.body)["status"] for frame in heard if isinstance(frame, Answer)] == ["sent", "queued"]
    assert told(heard) == [("sent", 1)]
    assert emits(heard, "message_error") == []
    successor.come_back()
    await successor.delivery.unpark()
    assert told(await successor.heard("g1")) == [("sent", 2)]
    assert [(one.client_id, one.seq) for one in desk.store.log()] == [("a", 1), ("b", 2)]


async def test_what_is_queued_survives_its_router(desk: Desk) -> None:
    """The successor, with the store still away, finds every place; with the store back, saves it."""
    partition = await desk.open()
    await desk.deliver(partition, send("before"))
    desk.store.away = set(EVERYTHING)
    await desk.deliver(partition, send("a", ack=1))
    successor = Desk(desk.store, desk.broker, router="r1")
    work = await successor.read(await successor.own())
    await successor.heard("g1")
    await successor.delivery.decide([work])
    await successor.delivery.complete([work])
    assert (await successor.answers())[1]["status"] == "queued"
    successor.come_back()
    await successor.delivery.unpark()
    assert [(one.client_id, one.seq) for one in desk.store.log()] == [("before", 1), ("a", 2)]
    assert await successor.waiting() == 0
    assert told(await successor.heard("g1")) == [("sent", 2)]


async def test_a_repeat_that_was_queued_hears_sent_too(desk: Desk) -> None:
    """What was answered `queued` is followed by `sent`, also if the message turns out to be an older one."""
    partition = await desk.open()
    desk.store.put(message(1, client_id="a"))
    partition.note_end(RAMA_SITA, 1)
    desk.store.away = {"find", "save"}
    await desk.deliver(partition, send("a"))
    assert (await desk.answers())[1]["status"] == "queued"
    desk.come_back()
    await desk.delivery.unpark()
    assert told(await desk.heard("g1")) == [("sent", 1)]


async def test_a_queued_group_message_reaches_its_group_when_the_store_is_back(desk: Desk) -> None:
    """Its router died, and who is in the group was not known to the next while the store was away."""
    partition = await desk.open()
    await desk.deliver(partition, send("before", FIELD))
    desk.store.away = {"save"}
    await desk.delivery.decide([await desk.take(partition, send("a", FIELD))])
    desk.store.away = set(EVERYTHING)
    successor = Desk(desk.store, desk.broker)
    work = await successor.read(await successor.own())
    await successor.heard("g2")
    await successor.delivery.decide([work])
    await successor.delivery.complete([work])
    successor.come_back()
    await successor.delivery.unpark()
    assert [one.client_id for one in desk.store.log(FIELD)] == ["before", "a"]
    assert [one.seq for one in emits(await successor.heard("g2"), "new_message")] == [2]


async def test_a_conversation_of_which_nothing_is_known_waits_for_the_store(desk: Desk) -> None:
    """A place that might be another message's is not given: refused, retryable."""
    partition = await desk.open()
    await desk.deliver(partition, send("before", FIELD))  # everyone is known, but not their conversation
    await desk.delivery._people.load(["rama", "sita"], [])
    desk.store.away = set(EVERYTHING)
    await desk.deliver(partition, send("a"))
    answer = (await desk.answers())[1]
    assert answer["error"]["code"] == Code.UNAVAILABLE
    assert answer["error"]["retryable"] is True
    assert desk.store.log() == []


# What one frame does to the others


def _refused(error: dict[str, Any], code: Code) -> bool:
    return error["ok"] is False and error["error"]["code"] == code


async def test_a_refused_message_harms_no_other(desk: Desk) -> None:
    """It is answered with its code, and as `message_error`; those around it have places without a gap."""
    partition = await desk.open()
    blocked = send("b", names.direct("rama", "ravi"), ack=2)
    await desk.deliver(
        partition, send("a", ack=1), blocked, send("x", names.direct("rama", "nobody"), ack=3), send("c", ack=4)
    )
    heard = await desk.heard("g1")
    answers = {frame.ack: frame for frame in heard if isinstance(frame, Answer)}
    assert _refused(json.loads(answers[2].body), Code.BLOCKED)
    assert _refused(json.loads(answers[3].body), Code.RECIPIENT_NOT_FOUND)
    ((event, error),) = answers[2].emits
    assert (event, json.loads(error)["messageId"], json.loads(error)["clientId"]) == ("message_error", "local-b", "b")
    assert [(one.client_id, one.seq) for one in desk.store.log()] == [("a", 1), ("c", 2)]


async def test_a_message_that_cannot_be_judged_harms_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours is answered as `internal`, and the batch goes on."""
    check = permission.check_send

    def failing(kind: str, role: str) -> None:
        if kind == "voice":
            raise RuntimeError
        check(kind, role)

    monkeypatch.setattr(permission, "check_send", failing)
    partition = await desk.open()
    await desk.deliver(partition, send("a", ack=1), send("b", ack=2, type="voice"), send("c", ack=3))
    answers = await desk.answers()
    assert _refused(answers[2], Code.INTERNAL)
    assert [(one.client_id, one.seq) for one in desk.store.log()] == [("a", 1), ("c", 2)]
    assert await desk.waiting() == 0


ORIGIN = Origin("g1", "rama-socket", 9)


@pytest.mark.parametrize(
    ("trouble", "code"), [("broken", Code.INTERNAL), ("away", Code.UNAVAILABLE)], ids=["bug", "store away"]
)
async def test_a_request_that_fails_harms_no_other(desk: Desk, trouble: str, code: Code) -> None:
    """A history that cannot be read is answered with its code; messages and pages in the same batch are not."""
    getattr(desk.store, trouble).add("history")
    partition = await desk.open()
    history, page = History(ORIGIN, "rama", RAMA_SITA, 10), Due(msgspec.structs.replace(ORIGIN, ack=None), "rama")
    await desk.deliver(partition, send("a", ack=1), history, page, send("b", ack=2))
    heard = await desk.heard("g1")
    answers = {frame.ack: json.loads(frame.body) for frame in heard if isinstance(frame, Answer)}
    assert _refused(answers[9], code)
    assert [answers[n]["seq"] for n in (1, 2)] == [1, 2]
    assert [frame.unavailable for frame in heard if isinstance(frame, DuePage)] == [False]
    assert await desk.waiting() == 0


async def test_a_page_that_fails_is_said_to_be_unavailable(desk: Desk) -> None:
    """The gateway asks again; nobody takes it for "nothing is due"."""
    desk.store.broken.add("due")
    partition = await desk.open()
    await desk.deliver(partition, Due(ORIGIN, "rama", walk=3))
    (page,) = await desk.heard("g1")
    assert (page.unavailable, page.walk) == (True, 3)


async def test_an_outsider_is_refused_and_the_members_are_answered(desk: Desk) -> None:
    """In one batch, each by their own rights."""
    partition = await desk.open()
    outsider = History(Origin("g2", "lata-socket", 1), "lata", RAMA_SITA, 10)
    await desk.deliver(partition, outsider, History(ORIGIN, "rama", RAMA_SITA, 10))
    assert _refused((await desk.answers("g2"))[1], Code.ACCESS_DENIED)
    assert (await desk.answers("g1"))[9]["ok"] is True


async def test_a_gateway_that_has_just_come_is_answered(desk: Desk) -> None:
    """Its first user waits to be signed in; its others, after it was given up for dead, for what they missed."""
    partition = await desk.open()
    await desk.deliver(partition, send("a"))
    await desk.broker.script(desk.directory.beat("g3"))
    await desk.broker.command("XADD", keys.downlink("g3"), "*", "hello", "")
    await desk.deliver(partition, msgspec.structs.replace(send("b"), origin=Origin("g3", "rama-tablet", 5)))
    assert list(await desk.answers("g3")) == [5]


# The lease


async def _another(desk: Desk) -> None:
    """Another router has the lease."""
    await desk.broker.command("SET", keys.lease(0), "9999999999999999 r2")


async def _lapse(desk: Desk) -> None:
    """Nobody has the lease."""
    await desk.broker.command("DEL", keys.lease(0))


@pytest.mark.parametrize("happens", [_another, _lapse])
async def test_who_lost_the_lease_before_deciding_does_nothing(
    desk: Desk, happens: Callable[[Desk], Awaitable[None]]
) -> None:
    """No place, no save, nothing said, nothing acknowledged."""
    partition = await desk.open()
    work = await desk.take(partition, send("a"))
    await happens(desk)
    await desk.delivery.decide([work])
    await desk.delivery.complete([work])
    assert partition.is_lost
    assert desk.store.messages == {}
    assert await desk.heard("g1") == await desk.heard("g2") == []
    assert await desk.waiting() == 1


async def test_who_lost_the_lease_after_deciding_acknowledges_nothing(desk: Desk) -> None:
    """What it saved stays (it is the same for whoever saves it); what it says carries its old token."""
    partition = await desk.open()
    work = await desk.take(partition, send("a"))
    await desk.delivery.decide([work])
    await _another(desk)
    await desk.delivery.complete([work])
    assert partition.is_lost
    assert await desk.waiting() == 1
    assert {section.token for section in await desk.sections("g2")} == {partition.token}


async def test_a_lost_partition_harms_no_other(desk: Desk) -> None:
    """Two partitions in a batch: the one goes on."""
    partition = await desk.open()
    lost = Partition(0, 1, "r1")
    good = await desk.take(partition, send("a"))
    bad = Work(lost, [send("b", FIELD, ack=2)], good.last_id)
    await desk.delivery.decide([bad, good])
    await desk.delivery.complete([bad, good])
    assert lost.is_lost
    assert not partition.is_lost
    assert list(await desk.answers()) == [1]
    assert await desk.waiting() == 0


# Receipts


def confirm(user: str, *seqs: int, read: bool = False, conversation_id: str = RAMA_SITA) -> Confirm:
    return Confirm(Origin(GATEWAY_OF[user], f"{user}-socket"), user, conversation_id, seqs, read=read)


async def test_a_confirmation_tells_the_sender_and_is_journaled(desk: Desk) -> None:
    """`delivered`, once; and the receipt is in the broker when the batch is acknowledged."""
    partition = await desk.open()
    await desk.deliver(partition, send("a"))
    await desk.heard("g1")
    await desk.deliver(partition, confirm("sita", 1), confirm("sita", 1))
    assert told(await desk.heard("g1")) == [("delivered", 1)]
    assert partition.receipts.owed() == [ReceiptRow(RAMA_SITA, "sita", Receipt(1))]
    assert await desk.broker.command("HLEN", keys.receipts(0)) == 1
    assert await desk.waiting() == 0


async def test_reading_is_told_to_the_sender_and_the_readers_other_devices(desk: Desk) -> None:
    """Status `read`, and `message_read` to both."""
    partition = await desk.open()
    await desk.deliver(partition, send("a"))
    await desk.heard("g1")
    await desk.heard("g2")
    await desk.deliver(partition, confirm("sita", 1, read=True))
    at_sender, at_reader = await desk.heard("g1"), await desk.heard("g2")
    assert told(at_sender) == [("read", 1)]
    assert [frame.users for frame in emits(at_sender, "message_read")] == [("rama",)]
    assert [frame.skip_session for frame in emits(at_reader, "message_read")] == ["sita-socket"]


async def test_confirmations_count_while_the_store_is_away(desk: Desk) -> None:
    """They are noted, and tell the sender; the store gets them when it is back."""
    partition = await desk.open()
    await desk.deliver(partition, send("a"))
    await desk.heard("g1")
    desk.store.away = set(EVERYTHING)
    await desk.deliver(partition, confirm("sita", 1))
    assert told(await desk.heard("g1")) == [("delivered", 1)]


async def test_ones_own_messages_do_not_hold_the_watermark_up_after_a_change_of_owner(desk: Desk) -> None:
    """Else marks pile up ahead of it, and at 512 no confirmation is noted any more, for ever."""
    partition = await desk.open()
    await desk.deliver(partition, send("mine"))
    successor = Desk(desk.store, desk.broker)
    partition = await successor.own()
    await successor.deliver(partition, send("theirs", sender="sita"))
    await successor.deliver(partition, confirm("rama", 2))
    assert partition.receipts.receipt(RAMA_SITA, "rama") == Receipt(2)


async def test_a_void_place_does_not_hold_the_watermark_up(desk: Desk) -> None:
    """Nobody is ever shown it, so nobody can confirm it."""
    partition = await desk.open()
    desk.store.put(message(1, client_id="a"), message(2, is_void=True, client_id="void"), message(3, client_id="c"))
    await desk.deliver(partition, confirm("sita", 1), confirm("sita", 3))
    assert partition.receipts.receipt(RAMA_SITA, "sita") == Receipt(3)


# --- revoking --------------------------------------------------------------------------------------


async def test_a_revocation_is_told_to_the_users_gateways_in_line_with_sign_ins(desk: Desk) -> None:
    """Before it a sign-in passes, after it none with a token of that very second; the caller hears when it counts."""
    partition = await desk.open()
    await desk.deliver(partition, SignIn(Origin("g2", "early"), "sita", None, 4000))
    await desk.deliver(partition, Revoke(Origin("g1", "?1", 0), "sita", 4500))
    await desk.deliver(
        partition,
        SignIn(Origin("g2", "late"), "sita", None, 4000),
        SignIn(Origin("g2", "new"), "sita", None, 5000),
    )
    early, out, late, new = await desk.heard("g2")
    assert out == SignedOut("sita", "token_revoked", 5000)
    assert isinstance(early, SignedIn)
    assert early.profile is not None
    assert late == SignedIn("late", "sita", refusal="token_revoked")
    assert isinstance(new, SignedIn)
    assert new.profile is not None
    assert await desk.answers() == {0: {"ok": True, "userId": "sita", "validAfter": 5000, "gateways": 0}}


async def test_a_revocation_that_is_replayed_says_the_same_again(desk: Desk) -> None:
    """The first owner died before it acknowledged; the moment came with the frame."""
    partition = await desk.open()
    for owner in (desk, Desk(desk.store, desk.broker)):
        await owner.deliver(partition, Revoke(Origin("g1", "?1", 0), "sita", 4500))
        assert await desk.heard("g2") == [SignedOut("sita", "token_revoked", 5000)]


@pytest.mark.parametrize(
    ("user", "away", "code"), [("nobody", "", "user_not_found"), ("sita", "revoke", "unavailable")]
)
async def test_a_revocation_that_was_not_written_closes_nobody(desk: Desk, user: str, away: str, code: str) -> None:
    """Who does not exist, and a store that is away: refused, and nothing is claimed."""
    partition = await desk.open()
    desk.store.away = {away}
    await desk.deliver(partition, Revoke(Origin("g1", "?1", 0), user, 4500))
    assert (await desk.answers())[0]["error"]["code"] == code
    assert await desk.heard("g2") == []


# --- how much -----------------------------------------------------------------------------------


def _code(answer: dict[str, Any]) -> str:
    return "ok" if answer["ok"] else answer["error"]["code"]


async def test_a_message_beyond_the_limit_is_refused_and_takes_no_place(store: FakeStore, broker: Broker) -> None:
    """With the time to come back, also to who waits for no acknowledgement; the order has no gap."""
    desk = Desk(store, broker)
    partition = await desk.open()
    work = await desk.deliver(partition, *(send(f"c{n}", type="voice", ack=n) for n in range(21)))
    assert len(store.log()) == 20
    answers = await desk.answers()
    assert [_code(answers[n]) for n in range(21)] == ["ok"] * 20 + ["rate_limited"]
    error = answers[20]["error"]
    assert error["retryable"]
    assert 59_000 < error["retryAfterMs"] <= 60_000
    assert [v.message is None for v in work.verdicts] == [False] * 20 + [True]
    await desk.deliver(partition, send("next", ack=30))
    assert (await desk.answers())[30]["seq"] == 21


async def test_types_and_senders_are_counted_apart_and_a_location_as_text(store: FakeStore, broker: Broker) -> None:
    """Documents are used up; texts are not, nor another's documents; locations and texts share."""
    desk = Desk(store, broker)
    partition = await desk.open()
    await desk.deliver(partition, *(send(f"d{n}", type="document", ack=None) for n in range(5)))
    await desk.deliver(partition, *(send(f"t{n}", type="location", ack=None) for n in range(59)))
    await desk.answers()
    await desk.deliver(
        partition,
        send("d5", type="document", ack=1),
        send("t59", ack=2),
        send("t60", type="location", ack=3),
        send("d0", sender="sita", type="document", ack=4),
    )
    answers = await desk.answers() | await desk.answers("g2")
    assert {ack: _code(answer) for ack, answer in answers.items()} == {
        1: "rate_limited",
        2: "ok",
        3: "rate_limited",
        4: "ok",
    }


async def test_a_message_sent_again_does_not_count_again(store: FakeStore, broker: Broker) -> None:
    """In the same batch, saved, or saved so long ago that its count is forgotten: also by who is at the limit."""
    desk = Desk(store, broker)
    partition = await desk.open()
    await desk.deliver(partition, *(send(f"d{n % 5}", type="document", ack=None) for n in range(10)))
    assert len(store.log()) == 5
    await desk.answers()
    await desk.deliver(partition, send("d0", type="document", ack=1), send("d5", type="document", ack=2))
    answers = await desk.answers()
    assert (_code(answers[1]), _code(answers[2])) == ("ok", "rate_limited")
    for key in await broker.command("KEYS", "talowa:{r*"):
        await broker.command("DEL", key)  # a minute later
    await desk.deliver(partition, *(send(f"d{n}", type="document", ack=None) for n in range(5)))
    await desk.deliver(partition, *(send(f"e{n}", type="document", ack=n) for n in range(6)))
    answers = await desk.answers()
    assert [_code(answers[n]) for n in range(6)] == ["ok"] * 5 + ["rate_limited"]


async def test_a_replay_does_not_count_again(store: FakeStore, broker: Broker) -> None:
    """A router that takes over finds the places; its predecessor counted them, even if long ago."""
    desk = Desk(store, broker)
    partition = await desk.open()
    work = await desk.take(partition, *(send(f"d{n}", type="document", ack=n) for n in range(5)))
    await desk.delivery.decide([work])
    for key in await broker.command("KEYS", "talowa:{r*"):
        await broker.command("DEL", key)
    successor = Desk(store, broker, router="r2")
    await broker.command("DEL", keys.lease(0))
    partition = await successor.own()
    replayed = await successor.read(partition)
    await successor.delivery.decide([replayed])
    await successor.delivery.complete([replayed])
    assert len(store.log()) == 5
    await successor.answers()
    await successor.deliver(partition, *(send(f"e{n}", type="document", ack=n) for n in range(5)))
    assert [_code(answer) for answer in (await successor.answers()).values()] == ["ok"] * 5


async def test_what_is_refused_for_another_reason_does_not_count(store: FakeStore, broker: Broker) -> None:
    """And what is passed on to the group that a bare id meant counts there, once."""
    desk = Desk(store, broker)
    partition = await desk.open()
    elsewhere = names.direct("rama", "nobody")
    await desk.deliver(partition, *(send(f"x{n}", elsewhere, type="document") for n in range(9)))
    group = names.direct("rama", "field")
    await desk.deliver(partition, *(send(f"y{n}", group, type="document", bare_id="field") for n in range(2)))
    await desk.answers()
    await desk.deliver(partition, *(send(f"d{n}", type="document", ack=n) for n in range(4)))
    assert [_code(answer) for answer in (await desk.answers()).values()] == ["ok"] * 3 + ["rate_limited"]


async def test_typing_is_dropped_rather_than_queued(store: FakeStore, broker: Broker) -> None:
    """At once it is told; what waited, or was read before by a router that died, is refused and told to nobody."""
    desk = Desk(store, broker)
    partition = await desk.open()

    def typing(ack: int, at_ms: int) -> Typing:
        return Typing(Origin("g1", "rama-socket", ack), "rama", "Rama", RAMA_SITA, True, "typing_start", at_ms)

    await desk.deliver(partition, typing(1, now_ms()), typing(2, now_ms() - 3500))
    assert [frame.users for frame in await desk.heard("g2")] == [("sita",)]
    answers = await desk.answers()
    assert {ack: _code(answer) for ack, answer in answers.items()} == {1: "ok", 2: "overloaded"}
    await desk.take(partition, typing(3, now_ms()))
    await broker.command("DEL", keys.lease(0))
    successor = Desk(store, broker, router="r2")
    replayed = await successor.read(await successor.own())
    await successor.delivery.complete([replayed])
    assert await desk.heard("g2") == []
    assert _code((await desk.answers())[3]) == "overloaded"


# Canaries


async def test_a_canary_comes_back_under_the_token_of_its_partition(desk: Desk) -> None:
    """With what else is said to its gateway; nothing of it stays."""
    partition = await desk.open()
    await desk.deliver(partition, Canary(Origin("g1", ""), 7), send("a"))
    (section,) = await desk.sections("g1")
    assert (section.partition, section.token) == (0, partition.token)
    assert CanaryReply(0, 7) in section.frames
    assert await desk.waiting() == 0


async def test_a_canary_that_is_read_again_stays_away(desk: Desk) -> None:
    """Its gateway has sent others since, or is no more."""
    await desk.open()
    for command in producer.entries(0, [Canary(Origin("g1", ""), 7)]):
        await desk.broker.command(*command)
    successor = await desk.own()
    work = await desk.read(successor)
    await desk.delivery.decide([work])
    await desk.delivery.complete([work])
    assert work.is_replay
    assert await desk.heard("g1") == []
    assert await desk.waiting() == 0


async def test_canaries_pass_without_a_store_and_take_no_room(desk: Desk) -> None:
    """However long it is away: a batch that had nothing else is acknowledged with the one before it."""
    partition = await desk.open()
    desk.store.away = {"save"}
    await desk.deliver(partition, Canary(Origin("g1", ""), 1))
    assert (desk.delivery.parked, await desk.waiting()) == (0, 0)
    await desk.deliver(partition, send("a"), Canary(Origin("g1", ""), 2))
    for number in range(3, 6):
        await desk.deliver(partition, Canary(Origin("g1", ""), number))
    heard = [frame for frame in await desk.heard("g1") if isinstance(frame, CanaryReply)]
    assert [frame.sent_ms for frame in heard] == [1, 2, 3, 4, 5]
    assert (desk.delivery.parked, len(desk.delivery._parked), await desk.waiting()) == (1, 1, 4)
    desk.come_back()
    await desk.delivery.unpark()
    assert (desk.delivery.parked, await desk.waiting()) == (0, 0)
