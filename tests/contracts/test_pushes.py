"""Pushes, on a real broker: once for each message that stays due, whoever dies on the way."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs import keys
from libs.broker import Broker
from libs.clock import now_ms
from libs.wire.frames import Broadcast, Origin, Sender
from services.router.batch import Verdict, Work
from services.router.conversations import Conversations
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.people import People
from services.router.push_jobs import Fate, Job
from services.router.pushes import Pushes
from services.router.store import Message, User
from tests.unit.services.router.fakes import FIELD, FakeStore, message


class FakeSender:
    """Keeps what it is handed; `fates` says what becomes of tokens, in turn, and then of all: sent."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.fates: list[Fate] = []
        self.is_dying = False

    async def send(self, jobs: Sequence[Job]) -> list[list[Fate]]:
        self.jobs += jobs
        if self.is_dying:
            raise RuntimeError("killed")
        return [[self.fates.pop(0) if self.fates else Fate.SENT for _ in job.tokens or (job.topic,)] for job in jobs]


class Scene:
    """A router that owns partition 3, and its sender."""

    def __init__(self, broker: Broker, store: FakeStore, token: int = 1) -> None:
        self.broker = broker
        self.store = store
        self.sender = FakeSender()
        self.partition = Partition(3, token, "r1")
        people = People(store, 0.0)
        self.pushes = Pushes(
            broker,
            store,
            people,
            Conversations(store, people, 200),
            self.sender,
            RouterMetrics(CollectorRegistry()),
            lambda: [self.partition],
            after_s=0.0,
            per_s=100,
            counted_members=200,
        )

    async def own(self) -> None:
        await self.broker.command("SET", keys.lease(3), self.partition.lease)

    async def sent(self, *messages: Message, is_replay: bool = False) -> None:
        """These were saved."""
        work = Work(self.partition, [], "1-0", is_replay=is_replay)
        for one in messages:
            verdict: Any = Verdict.__new__(Verdict)
            verdict.message, verdict.is_new, verdict.is_queued = one, True, False
            work.verdicts.append(verdict)
            self.store.messages[one.conversation_id, one.seq] = one
        for command in self.pushes.note([work]):
            await self.broker.command(*command)

    async def turn(self) -> list[Job]:
        """What is handed on now."""
        before = len(self.sender.jobs)
        await self.pushes.turn(self.partition)
        return self.sender.jobs[before:]


@pytest.fixture
def store() -> FakeStore:
    """Sita has two phones, Lata one, Rama one."""
    found = FakeStore()
    for user, tokens in (("rama", {"r"}), ("sita", {"s1", "s2"}), ("lata", {"l"})):
        found.people[user] = msgspec.structs.replace(found.people[user], push_tokens=frozenset(tokens))
    return found


def told(jobs: Sequence[Job]) -> dict[str, tuple[str, ...]]:
    """Who is pushed, and where."""
    return {job.user_id or job.topic: job.tokens for job in jobs}


async def test_who_does_not_have_a_message_is_pushed_once(broker: Broker, store: FakeStore) -> None:
    """On every device, one push a conversation, saying the newest; not the sender, nor who confirmed."""
    scene = Scene(broker, store)
    await scene.own()
    await scene.sent(message(1, FIELD), message(2, FIELD, content="newest"))
    scene.partition.receipts.confirm(FIELD, "lata", up_to=2)
    jobs = await scene.turn()
    assert told(jobs) == {"sita": ("s1", "s2")}
    assert jobs[0].push.body == "newest"
    assert await scene.turn() == []


async def test_a_batch_that_is_read_again_pushes_nobody_again(broker: Broker, store: FakeStore) -> None:
    """Its messages wait again, and are known to have been taken; newer ones are pushed."""
    scene = Scene(broker, store)
    await scene.own()
    await scene.sent(message(1))
    assert told(await scene.turn()) == {"sita": ("s1", "s2")}
    await scene.sent(message(1), is_replay=True)
    assert await scene.turn() == []
    await scene.sent(message(2))
    assert told(await scene.turn()) == {"sita": ("s1", "s2")}


async def test_what_waits_survives_its_router(broker: Broker, store: FakeStore) -> None:
    """What was noted, and jobs that are to be tried again; what was handed on when it died is not handed on again."""
    first = Scene(broker, store)
    await first.own()
    await first.sent(message(1))
    first.sender.is_dying = True
    with pytest.raises(RuntimeError):
        await first.turn()
    await first.sent(message(1, FIELD))
    second = Scene(broker, store, token=2)
    await second.own()
    assert told(await second.turn()) == {"sita": ("s1", "s2"), "lata": ("l",)}
    assert {job.push.data["messageId"] for job in second.sender.jobs} == {message(1, FIELD).id}
    third = Scene(broker, store, token=3)
    await third.own()
    assert await third.turn() == []


async def test_what_may_be_taken_later_is_kept_and_dead_tokens_go(broker: Broker, store: FakeStore) -> None:
    """By the store as well: nobody is pushed there any more."""
    scene = Scene(broker, store)
    await scene.own()
    scene.sender.fates = [Fate.DEAD, Fate.RETRY]
    await scene.sent(message(1))
    await scene.turn()
    assert store.people["sita"].push_tokens == {"s2"}
    left = await broker.command("HGETALL", keys.push_jobs(3))
    (job,) = (msgspec.msgpack.decode(packed, type=Job) for packed in left.values())
    assert (job.tokens, job.tries, job.is_sending) == (("s2",), 1, False)
    assert job.not_before_ms > now_ms()
    assert await scene.turn() == []


async def test_a_router_that_lost_its_partition_pushes_nothing(broker: Broker, store: FakeStore) -> None:
    """Its successor does."""
    paused, successor = Scene(broker, store), Scene(broker, store, token=2)
    await paused.own()
    await paused.sent(message(1))
    await successor.own()
    assert await paused.turn() == []
    assert told(await successor.turn()) == {"sita": ("s1", "s2")}


async def test_a_warning_is_pushed_to_the_topic_of_each_place_once(broker: Broker, store: FakeStore) -> None:
    """At once; one that is read again is not pushed again."""
    scene = Scene(broker, store)
    await scene.own()
    asked = Broadcast(
        Origin("g1", "s"),
        Sender("lata", "Lata", "coordinator"),
        "b1",
        "Flood",
        "Leave now",
        "village",
        ("v 1", "v2"),
        "high",
        5,
    )
    for _ in range(2):
        await scene.pushes.note_broadcasts(scene.partition, [asked])
        await scene.turn()
    assert sorted(told(scene.sender.jobs)) == ["village-v%201", "village-v2"]
    assert all(job.push.is_urgent for job in scene.sender.jobs)
    assert len(scene.sender.jobs) == 2


async def test_who_has_no_phone_and_who_is_unknown_is_not_pushed(broker: Broker, store: FakeStore) -> None:
    """Nor is a pseudonym."""
    scene = Scene(broker, store)
    await scene.own()
    store.people["sita"] = User("sita", "Sita")
    await scene.sent(message(1), message(1, "direct:anon-x:nobody", sender_id="anon-x"))
    assert await scene.turn() == []
    assert await broker.command("ZCARD", keys.pushes(3)) == 0
