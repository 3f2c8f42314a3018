"""The story of an anonymous message: crashes, repeats and outages, and that no frame of it names its author."""

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs.broker import Broker
from libs.directory import Directory
from libs.identity import Envelopes
from libs.limits import Limiter
from libs.wire import names
from libs.wire.codes import Code
from libs.wire.frames import Answer, Confirm, Emit, History, Inbound, Join, Origin, SealedFrame, SealedReply, Send
from services.router.anonymity import Anonymity
from services.router.aside import Aside
from services.router.batch import Work
from services.router.broadcasts import Broadcasts
from services.router.conversations import Conversations
from services.router.delivery import Delivery
from services.router.due import DuePages
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.people import People
from services.router.rates import Rates
from services.router.requests import Requests
from services.router.sayings import Sayings
from services.router.store import Message, Receipt
from services.router.tallies import Tallies
from services.router.typing_notices import TypingNotices
from services.router.worker import Worker
from tests.unit.services.router.fakes import EVERYTHING, FIELD, RAMA_SITA, FakeStore
from tests.unit.services.router.test_delivery import PARTITIONS, PER_MINUTE, Desk, emits, send, told

ENVELOPES: Final = Envelopes(["a-secret-of-the-cluster-thirty-two"])
OLD: Final = "an-old-key-of-thirty-two-letters"
NEW: Final = "a-newer-key-of-thirty-two-letter"
NAMING: Final = "a-secret-of-pseudonyms-thirty-two"
HIDDEN: Final = Anonymity([OLD], NAMING, lambda: None).direct("rama", "sita")


class HiddenDesk(Desk):
    """A router that offers anonymity, and gateways that seal."""

    def __init__(self, store: FakeStore, broker: Broker, *keys: str, counted: int = 100) -> None:
        super().__init__(store, broker)
        metrics = RouterMetrics(CollectorRegistry())
        people = People(store, 0.0)
        anonymity = Anonymity(keys or [OLD], NAMING, metrics.unopened.inc)
        conversations = Conversations(store, people, counted, anonymity)
        pages = DuePages(store, broker, partitions=PARTITIONS, messages=50, bytes_=32_768)
        typing = TypingNotices(people, conversations, members_max=counted)
        requests = Requests(store, people, conversations, pages, metrics, typing)
        self.aside = Aside(requests, broker, metrics, ENVELOPES.seal_reply)
        sayings = Sayings(conversations, requests, self.aside, metrics, partitions=PARTITIONS)
        rates = Rates(Limiter(broker), PER_MINUTE)
        self.delivery = Delivery(
            store, people, Directory(broker), broker, sayings, metrics, rates, anonymity, ENVELOPES
        )
        given: dict[str, Any] = {
            "read_entries": 9,
            "linger_s": 0,
            "receipt_gather_s": 1,
            "receipt_rest_s": 0,
            "parked_frames_max": 9,
        }
        tallies = Tallies(store, broker, metrics)
        broadcasts = Broadcasts(store, Directory(broker), broker, tallies, rates, metrics)
        self.worker = Worker(
            broker,
            broker,
            self.delivery,
            broadcasts,
            store,
            metrics,
            router="r1",
            partitions=1,
            envelopes=ENVELOPES,
            **given,
        )
        self.raw: list[Any] = []

    async def take(self, partition: Partition, *frames: Inbound) -> Work:
        return await super().take(partition, *map(ENVELOPES.closed, frames))

    async def read(self, partition: Partition, limit: int = 1000) -> Work:
        work = await super().read(partition, limit)
        self.raw += work.frames
        work.frames = [*map(self.worker._opened, work.frames)]
        return work

    async def heard(self, gateway: str) -> list[Any]:
        frames = await super().heard(gateway)
        self.raw += frames
        return [ENVELOPES.open_reply(frame) if isinstance(frame, SealedReply) else frame for frame in frames]

    async def through(self, partition: Partition, *frames: Inbound) -> None:
        """A batch, and what it passes on."""
        await self.deliver(partition, *frames)
        await self.next(partition)

    async def next(self, partition: Partition) -> None:
        """What was passed on."""
        work = await self.read(partition)
        await self.delivery.decide([work])
        await self.delivery.complete([work])

    def log(self, conversation_id: str = HIDDEN) -> list[Message]:
        return self.store.log(conversation_id)


def hidden(client_id: str, conversation_id: str = RAMA_SITA, sender: str = "rama", **fields: Any) -> Send:
    """An anonymous message on its way."""
    frame = send(client_id, conversation_id, sender, **fields)
    return msgspec.structs.replace(frame, draft=msgspec.structs.replace(frame.draft, is_anonymous=True))


@pytest.fixture
def desk(store: FakeStore, broker: Broker) -> Iterator[HiddenDesk]:
    desk = HiddenDesk(store, broker)
    yield desk
    for frame in desk.raw:
        assert not ("rama" in repr(frame) and HIDDEN in repr(frame)), frame
        assert not (isinstance(frame, Send) and frame.draft.is_anonymous), frame


async def test_a_direct_message_goes_on_to_its_own_conversation(desk: HiddenDesk) -> None:
    """Nothing of it is in the conversation under the sender's name; everyone hears what is theirs."""
    partition = await desk.open()
    await desk.through(partition, hidden("a"))
    assert desk.store.log(RAMA_SITA) == []
    (saved,) = desk.log()
    assert names.is_pseudonym(saved.sender_id)
    assert "rama" not in repr(msgspec.structs.replace(saved, sealed=""))
    at_sender, at_recipient = await desk.heard("g1"), await desk.heard("g2")
    (answer,) = (json.loads(frame.body) for frame in at_sender if isinstance(frame, Answer))
    assert (answer["clientId"], answer["conversationId"], answer["seq"]) == ("a", HIDDEN, 1)
    (copy,) = emits(at_sender, "new_message")
    assert (copy.users, copy.seq, copy.skip_session) == (("rama",), 0, "rama-socket")
    (emit,) = emits(at_recipient, "new_message")
    assert (emit.users, emit.seq) == (("sita",), 1)
    assert copy.body == emit.body
    assert await desk.waiting() == 0


async def test_a_bare_id_may_be_a_groups(desk: HiddenDesk) -> None:
    """As it may for a message under one's name."""
    partition = await desk.open()
    await desk.through(partition, hidden("a", names.direct("rama", "field"), bare_id="field"))
    (saved,) = desk.store.log(FIELD)
    assert saved.is_anonymous


async def test_a_group_is_told_as_one(desk: HiddenDesk) -> None:
    """The sender among the members, to be confirmed by each; the answer and the status are sealed."""
    partition = await desk.open()
    await desk.deliver(partition, hidden("a", FIELD))
    (plain,) = emits(await Desk.heard(desk, "g2"), "new_message")
    assert plain.users == ("lata", "sita")
    (own,) = emits(await desk.heard("g1"), "new_message")
    assert (own.users, own.seq, own.skip_session) == (("rama",), 1, None)


async def test_ones_own_confirmation_is_no_news(desk: HiddenDesk) -> None:
    """Counts and statuses are of the others, in a group; also in one that is too large to be counted."""
    for number, counted in enumerate((100, 2)):
        desk = HiddenDesk(desk.store, desk.broker, counted=counted)
        partition = await desk.open()
        await desk.deliver(partition, hidden(f"a{number}", FIELD))
        await desk.heard("g1")
        seq = number + 1
        for user, statuses in (("rama", []), ("sita", [("delivered", seq)])):
            await desk.deliver(partition, Confirm(Origin("g1", f"{user}-socket"), user, FIELD, (seq,)))
            assert told(await desk.heard("g1")) == statuses, (user, counted)


async def test_reading_is_told_to_each_of_a_persons_names(desk: HiddenDesk) -> None:
    """Of what they wrote under their own, and of what they wrote under the other, sealed."""
    partition = await desk.open()
    await desk.deliver(partition, hidden("a", FIELD), send("b", FIELD))
    await desk.heard("g1")
    await desk.deliver(partition, Confirm(Origin("g2", "sita-socket"), "sita", FIELD, (1, 2), read=True))
    frames = await Desk.heard(desk, "g1")
    plain = [frame for frame in frames if isinstance(frame, Emit)]
    sealed = [ENVELOPES.open_reply(frame) for frame in frames if isinstance(frame, SealedReply)]
    assert told(plain) == [("read", 2)]
    assert told(sealed) == [("read", 1)]
    for said, seq in ((plain, 2), (sealed, 1)):
        assert [json.loads(emit.body)["seq"] for emit in emits(said, "message_read")] == [seq]


async def test_a_message_sent_again_is_the_same_message(desk: HiddenDesk) -> None:
    """In one batch and later; under one's own name it is another."""
    partition = await desk.open()
    await desk.through(partition, hidden("a", ack=1), hidden("a", ack=2))
    await desk.through(partition, hidden("a", ack=3))
    await desk.deliver(partition, hidden("a", HIDDEN, ack=4))
    answers = await desk.answers()
    assert {(answers[ack]["seq"], answers[ack]["messageId"], answers[ack]["clientId"]) for ack in (1, 2, 3, 4)} == {
        (1, desk.log()[0].id, "a")
    }
    await desk.deliver(partition, send("a", ack=5))
    assert len(desk.log()) == len(desk.store.log(RAMA_SITA)) == 1


async def test_a_replay_after_a_crash_changes_nothing(desk: HiddenDesk) -> None:
    """The router died after passing it on, or after saving: the next answers, and everything stands there once."""
    dying = await desk.open()
    await desk.deliver(dying, hidden("a", ack=1))
    work = await desk.read(dying)
    await desk.delivery.decide([work])
    await desk.delivery._save([work])
    before = dict(desk.store.messages)
    successor = HiddenDesk(desk.store, desk.broker)
    partition = await successor.own()
    await successor.next(partition)
    assert desk.store.messages == before
    heard = await successor.heard("g1")
    assert [json.loads(f.body)["status"] for f in heard if isinstance(f, Answer)] == ["sent"]
    assert told(heard) == [("sent", 1)]
    assert [frame.users for frame in emits(heard, "new_message")] == [("rama",)]
    assert await successor.waiting() == 0


async def test_while_the_store_is_away_it_is_queued_and_then_sent(desk: HiddenDesk) -> None:
    """The sender hears of it by their own ids; so they do if the router dies meanwhile."""
    partition = await desk.open()
    await desk.through(partition, hidden("before"))
    await desk.heard("g1")
    desk.store.away = set(EVERYTHING)
    await desk.through(partition, hidden("a", ack=2))
    assert (await desk.answers())[2]["status"] == "queued"
    assert (await desk.heard("g2"))[-1].seq == 2
    successor = HiddenDesk(desk.store, desk.broker)
    partition = await successor.own()
    work = await successor.read(partition)
    await successor.delivery.decide([work])
    await successor.delivery.complete([work])
    await successor.heard("g1")
    successor.come_back()
    await successor.delivery.unpark()
    statuses = [json.loads(e.body) for e in emits(await successor.heard("g1"), "message_delivery_status")]
    assert [(one["status"], one["seq"], one["clientId"]) for one in statuses] == [("sent", 2, "a")]
    assert [one.seq for one in desk.log()] == [1, 2]


async def test_a_message_saved_lately_is_known_while_the_store_is_away(desk: HiddenDesk) -> None:
    """By its keyed hash: answered as `sent`, with its old place."""
    partition = await desk.open()
    await desk.deliver(partition, hidden("a", FIELD, ack=1))
    desk.store.away = set(EVERYTHING)
    await desk.deliver(partition, hidden("a", FIELD, ack=2))
    answers = await desk.answers()
    assert (answers[2]["status"], answers[2]["seq"], answers[2]["messageId"]) == ("sent", 1, answers[1]["messageId"])


async def test_ones_own_status_stands_in_ones_own_history(desk: HiddenDesk) -> None:
    """And in nobody else's; as it shows whose the message is, histories with such messages are sealed, all of them."""
    partition = await desk.open()
    await desk.through(partition, hidden("a"))
    await desk.deliver(partition, hidden("b", FIELD))
    await desk.heard("g1")
    await desk.heard("g2")
    for conversation_id in (HIDDEN, FIELD):
        for user, gateway, status in (("rama", "g1", "sent"), ("sita", "g2", None)):
            history = History(Origin(gateway, f"{user}-socket", 1), user, conversation_id, 10)
            await desk.deliver(partition, history)
            (frame,) = await Desk.heard(desk, gateway)
            assert isinstance(frame, SealedReply)
            answer = ENVELOPES.open_reply(frame)
            assert isinstance(answer, Answer)
            (message,) = json.loads(answer.body)["messages"]
            assert message.get("status") == status


async def test_the_author_confirms_under_their_pseudonym(desk: HiddenDesk) -> None:
    """In a conversation they began: their name is in no receipt, and moves no status."""
    partition = await desk.open()
    await desk.through(partition, hidden("a"))
    await desk.heard("g1")
    message_id = desk.log()[0].id
    by_id = Confirm(Origin("g1", "rama-socket", 3), "rama", "", message_id=message_id, event="message_delivered")
    await desk.deliver(partition, by_id)
    heard = await desk.heard("g1")
    assert told(heard) == []
    assert [json.loads(frame.body) for frame in heard] == [{"ok": True}]
    assert "rama" not in repr(partition.receipts._journal)
    assert partition.receipts.receipt(HIDDEN, "rama") == Receipt()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (send("x", HIDDEN), Code.IDENTITY_EXPOSED),
        (send("x", HIDDEN, "sita"), Code.NO_REPLY),
        (hidden("x", HIDDEN, "sita"), Code.NO_REPLY),
        (hidden("x", HIDDEN, "lata"), Code.ACCESS_DENIED),
        (hidden("x", RAMA_SITA, "lata"), Code.ACCESS_DENIED),
        (hidden("x", names.group("elsewhere")), Code.ACCESS_DENIED),
        (hidden("x", FIELD, type="emergency"), Code.ROLE_REQUIRED),
        (History(Origin("g2", "lata-socket", 1), "lata", HIDDEN, 10), Code.ACCESS_DENIED),
        (Join(Origin("g2", "lata-socket", 1), "lata", HIDDEN, "join_group"), Code.ACCESS_DENIED),
    ],
)
async def test_what_may_not_be_is_refused(desk: HiddenDesk, frame: Inbound, code: Code) -> None:
    """With its code, sealed as what was asked; and takes no place."""
    partition = await desk.open()
    await desk.deliver(partition, frame)
    (answer,) = (await desk.answers(frame.origin.gateway)).values()
    assert answer["error"]["code"] == code
    assert desk.store.messages == {}


async def test_a_blocked_sender_is_refused_whatever_the_name(desk: HiddenDesk) -> None:
    """Ravi has blocked Rama."""
    partition = await desk.open()
    await desk.through(partition, hidden("a", names.direct("rama", "ravi")))
    assert (await desk.answers())[1]["error"]["code"] == Code.BLOCKED


async def test_a_router_without_keys_refuses(desk: HiddenDesk) -> None:
    """Better than delivering under a name that was to be hidden; nothing is saved or passed on."""
    plain = Desk(desk.store, desk.broker)
    partition = await plain.open()
    await plain.deliver(partition, hidden("a", ack=1), hidden("b", FIELD, ack=2))
    answers = await plain.answers()
    assert {answers[n]["error"]["code"] for n in (1, 2)} == {Code.ANONYMOUS_UNAVAILABLE}
    assert desk.store.messages == {}
    assert await plain.waiting() == 0


@pytest.mark.parametrize(("is_offered", "code"), [(True, Code.UNAVAILABLE), (False, Code.ANONYMOUS_UNAVAILABLE)])
async def test_a_frame_that_no_key_opens_is_answered(desk: HiddenDesk, is_offered: bool, code: Code) -> None:
    """By its sealed socket: later, if keys are being changed; not at all, if there are none."""
    router = desk if is_offered else Desk(desk.store, desk.broker)
    partition = await desk.open()
    other = Envelopes(["another-cluster's-secret-thirty-two"])
    sealed = other.closed(hidden("a", ack=4))
    assert isinstance(sealed, SealedFrame)
    await router.deliver(partition, sealed)
    (answer,) = await desk.heard("g1")
    assert other.open_session(answer.session) == ("rama-socket", 4)
    assert json.loads(answer.body)["error"]["code"] == code


async def test_after_a_change_of_keys_authors_still_hear(desk: HiddenDesk) -> None:
    """With both keys: statuses of old messages. With the new one alone: none, but a repeat is answered."""
    partition = await desk.open()
    await desk.deliver(partition, hidden("a", FIELD))
    for keys, statuses in (((NEW, OLD), [("delivered", 1)]), ((NEW,), [])):
        successor = HiddenDesk(desk.store, desk.broker, *keys)
        partition = await successor.own()
        await successor.heard("g1")
        reader = "sita" if statuses else "lata"
        await successor.deliver(partition, Confirm(Origin("g2", "a-socket"), reader, FIELD, (1,)))
        assert told(await successor.heard("g1")) == statuses
        await successor.deliver(partition, hidden("a", FIELD, ack=8))
        answer = (await successor.answers())[8]
        assert (answer["ok"], answer["seq"], answer["clientId"]) == (True, 1, "a")
