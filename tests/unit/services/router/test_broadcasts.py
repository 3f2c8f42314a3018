"""The story of a broadcast: what a batch comes to, whatever happens to the store, the lease or the router.

The scripts run on a real broker; the store is in memory, and away when a test says so.
"""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs import keys
from libs.broker import Broker, Script
from libs.directory import Directory
from libs.limits import Limiter
from libs.streams import producer
from libs.wire import codec, names
from libs.wire.codes import Code
from libs.wire.frames import (
    OPERATORS,
    Alarm,
    Answer,
    Broadcast,
    Canary,
    CanaryReply,
    Confirm,
    Inbound,
    Moved,
    Origin,
    Places,
    Sender,
    Tally,
)
from services.router import broadcasts as module
from services.router.batch import Work
from services.router.broadcasts import Broadcasts
from services.router.metrics import RouterMetrics
from services.router.moves import Moves
from services.router.partition import Partition
from services.router.rates import Counted, Rates
from services.router.store import Receipt, ReceiptRow, User
from services.router.tallies import Tallies
from tests.support.waiting import until
from tests.unit.services.router.fakes import FakeStore
from tests.unit.services.router.test_delivery import PER_MINUTE

_NUMBER = names.alarm_partition(1)
_LATA = Sender("lata", "Lata", "coordinator")
_V1 = Places(village="v1")
_lease = Script("libs.streams", "lease.lua")


def asked(number: int = 1, *, ack: int = 1, **fields: Any) -> Broadcast:
    """A broadcast to v1."""
    given: dict[str, Any] = {
        "origin": Origin("g1", "socket", ack),
        "sender": _LATA,
        "broadcast_id": f"{number:032x}",
        "title": "వరద",
        "content": "Go to the school.",
        "level": "village",
        "place_ids": ("v1",),
        "priority": "high",
        "received_at_ms": 1000 + number,
    }
    return Broadcast(**(given | fields))


class Desk:
    """One router's broadcasts, two gateways, and rama and sita in v1, of whom sita is online."""

    def __init__(self, store: FakeStore, broker: Broker) -> None:
        self.store = store
        self.broker = broker
        for user in ("rama", "sita"):
            store.people[user] = User(user, user.title(), places=_V1)
        metrics = RouterMetrics(CollectorRegistry())
        self.directory = Directory(broker)
        self.tallies = Tallies(store, broker, metrics)
        rates = Rates(Limiter(broker), PER_MINUTE | {"emergency": 0})
        self.broadcasts = Broadcasts(store, self.directory, broker, self.tallies, rates, metrics)
        self.partition: Partition
        self.moves = Moves(store, self.directory, broker, metrics, lambda: self.partition)

    async def open(self) -> "Desk":
        """Have the gateways and the partition."""
        for gateway in ("g1", "g2"):
            await self.broker.script(self.directory.beat(gateway))
            for stream in (keys.downlink(gateway), keys.alarms(gateway)):
                await self.broker.command("XADD", stream, "*", "hello", "")
        await self.directory.touch("g2", ["sita"])
        await self.directory.settle({"sita": _V1})
        await self.own()
        return self

    async def own(self) -> None:
        """Take the partition (anew)."""
        call = _lease.call([keys.lease(_NUMBER), keys.lease_token(_NUMBER)], "r1", 60_000, "0", 1)
        self.partition = Partition(_NUMBER, int(await self.broker.script(call)), "r1")

    async def complete(self, *frames: Inbound) -> Work:
        """A batch through its stages."""
        entry_id = "1-1"
        for command in producer.entries(_NUMBER, list(frames)):
            entry_id = (await self.broker.command(*command)).decode()
        work = Work(self.partition, frames, entry_id)
        await self.broadcasts.decide([work])
        await self.broadcasts.complete([work])
        return work

    async def heard(self, stream: str) -> list[Any]:
        """The frames on a stream since it was last asked."""
        entries = await self.broker.command("XRANGE", stream, "-", "+")
        if entries:
            await self.broker.command("XDEL", stream, *(entry[0] for entry in entries))
        packed = [_fields(entry).get(producer.FIELD) for entry in entries]
        sections = [section for one in packed if one is not None for section in codec.unpack_downlink(one)]
        assert all(section.partition == _NUMBER and section.token for section in sections)
        return [frame for section in sections for frame in section.frames]

    async def sounded(self, gateway: str = "g2") -> list[int]:
        """The numbers of what a gateway was to sound."""
        frames = await self.heard(keys.alarms(gateway))
        assert all(isinstance(frame, Alarm) for frame in frames)
        return [int(frame.broadcast_id, 16) for frame in frames]

    async def answers(self) -> list[dict[str, Any]]:
        """What the first gateway's sockets were answered."""
        frames = await self.heard(keys.downlink("g1"))
        assert all(isinstance(frame, Answer) for frame in frames)
        return [json.loads(frame.body) for frame in frames]

    async def waiting(self) -> int:
        """Entries that nobody has acknowledged."""
        return int(await self.broker.command("XLEN", keys.inbound(_NUMBER)))


def _fields(entry: Any) -> dict[bytes, bytes]:
    found = entry[1]
    return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))


@pytest.fixture
async def desk(store: FakeStore, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Open; a store that was away is tried again at once."""
    monkeypatch.setattr(module, "_STORE_RETRY_S", 0.0)
    return await Desk(store, broker).open()


async def test_a_broadcast_is_saved_sounded_on_every_gateway_answered_and_acknowledged(desk: Desk) -> None:
    """One frame a gateway, whoever is there; the answer says how many it is for."""
    await desk.complete(asked())
    assert list(desk.store.broadcasts) == [f"{1:032x}"]
    for gateway in ("g1", "g2"):
        (alarm,) = await desk.heard(keys.alarms(gateway))
        assert (alarm.level, alarm.place_ids) == ("village", ("v1",))
        assert alarm.body == desk.store.broadcasts[f"{1:032x}"].body
    reach = {"online": 1, "offline": 1}
    assert await desk.answers() == [{"ok": True, "broadcastId": f"{1:032x}", "status": "sent", "reach": reach}]
    assert await desk.waiting() == 0


async def test_one_sent_again_is_answered_and_not_sounded(desk: Desk) -> None:
    """In the same batch, in a later one, and by a router that knows it from the store alone."""
    await desk.complete(asked(), asked(ack=2, title="again", received_at_ms=2000))
    await desk.complete(asked(ack=3, received_at_ms=3000))
    desk.broadcasts._sounded.clear()
    await desk.complete(asked(ack=4, received_at_ms=4000))
    (alarm,) = await desk.heard(keys.alarms("g2"))
    assert json.loads(alarm.body)["title"] == "వరద"
    assert [answer["status"] for answer in await desk.answers()] == ["sent"] * 4


async def test_a_replay_is_sounded_again(desk: Desk) -> None:
    """Who saved it may have died before a gateway heard of it; sockets know what they were sent."""
    await desk.complete(asked())
    desk.broadcasts._sounded.clear()
    await desk.own()
    await desk.complete(asked(), asked(ack=2, received_at_ms=2000))
    assert await desk.sounded() == [1, 1]


async def test_what_was_queued_is_refused_by_nobody_who_takes_over(desk: Desk) -> None:
    """It is read again more than a minute later, behind as many newer ones as its sender may send in one."""
    desk.broadcasts._rates = Rates(Limiter(desk.broker), PER_MINUTE | {"emergency": 1})
    await desk.complete(asked(2))
    work = Work(desk.partition, [asked(1)], "1-1", is_replay=True)
    await desk.broadcasts.decide([work])
    await desk.broadcasts.complete([work])
    assert f"{1:032x}" in desk.store.broadcasts


async def test_a_member_is_refused_and_nothing_is_kept(desk: Desk) -> None:
    """With the code as answer, and as event for who waits for none; others in the batch go on."""
    await desk.complete(asked(1, sender=Sender("rama", "Rama", "member")), asked(2))
    assert list(desk.store.broadcasts) == [f"{2:032x}"]
    assert await desk.sounded() == [2]
    frames = await desk.heard(keys.downlink("g1"))
    assert json.loads(frames[0].body)["error"]["code"] == Code.ROLE_REQUIRED
    event, body = frames[0].emits[0]
    assert (event, json.loads(body)["event"]) == ("error", "emergency_broadcast")


async def test_while_the_store_is_away_it_is_sounded_and_queued(desk: Desk) -> None:
    """When it is back all is saved, in order, sounded for who came meanwhile, and acknowledged."""
    desk.store.away = {"save_broadcasts", "audience"}
    await desk.complete(asked(1))
    await desk.complete(asked(2), asked(1, ack=2))
    assert await desk.sounded() == [1, 2]
    answers = await desk.answers()
    assert [(answer["status"], answer["reach"]) for answer in answers] == [
        ("queued", {"online": 1, "offline": None})
    ] * 3
    assert (desk.broadcasts.parked, await desk.waiting()) == (3, 2)
    await desk.broadcasts.unpark()
    assert desk.broadcasts.parked == 3
    desk.store.away = set()
    await desk.broadcasts.unpark()
    assert sorted(await desk.sounded()) == [1, 1, 2]
    assert (desk.broadcasts.parked, await desk.waiting()) == (0, 0)
    assert list(desk.store.broadcasts) == [f"{1:032x}", f"{2:032x}"]


async def test_who_lost_the_partition_acknowledges_nothing(desk: Desk) -> None:
    """What it saved and sounded is refused by gateways, or the same as what its successor says."""
    lost = desk.partition
    await desk.own()
    desk.partition, owner = lost, desk.partition
    work = await desk.complete(asked())
    assert work.partition.is_lost
    assert await desk.waiting() == 1
    desk.partition = owner


async def test_thousands_of_places_are_not_sent_to_phones(desk: Desk) -> None:
    """The frame has them all, the body none: 2G is slow."""
    many = tuple(f"v{number}" for number in range(101))
    await desk.complete(asked(1, place_ids=many), asked(2, place_ids=many[:100]))
    first, second = await desk.heard(keys.alarms("g1"))
    assert (len(first.place_ids), json.loads(first.body)["locationIds"]) == (101, [])
    assert len(json.loads(second.body)["locationIds"]) == 100


async def test_a_tally_is_counted_beside_the_stages(desk: Desk) -> None:
    """Per place and in all; what there is not is not found; a store that is away says so."""
    await desk.complete(asked(1, place_ids=("v1", "v2")))
    await desk.store.save_receipts([ReceiptRow(names.broadcast(f"{1:032x}"), "sita", Receipt(1))])
    await desk.answers()
    origin = Origin("g1", "?1", 0)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(desk.tallies.run())
        await desk.complete(Tally(origin, f"{1:032x}"), Tally(origin, f"{2:032x}"))
        assert await desk.waiting() == 0
        heard: list[dict[str, Any]] = []

        async def has_heard(count: int) -> bool:
            heard.extend(await desk.answers())
            return len(heard) == count

        await until(lambda: has_heard(2), 5, "two answers")
        desk.store.away = {"tally"}
        await desk.complete(Tally(origin, f"{1:032x}"))
        await until(lambda: has_heard(3), 5, "the third answer")
        counting.cancel()
    assert (heard[0]["recipients"], heard[0]["delivered"], heard[0]["due"]) == (2, 1, 1)
    assert heard[0]["locations"][0] == {"locationId": "v1", "recipients": 2, "delivered": 1, "due": 1}
    assert [each["error"]["code"] for each in heard[1:]] == [Code.NOT_FOUND, Code.UNAVAILABLE]


async def test_a_count_answers_all_who_asked_for_it_meanwhile(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators ask again when a count takes longer than they wait: it is not begun anew each time."""
    await desk.complete(asked(1), asked(2))
    await desk.answers()
    counted: list[str] = []
    tally = desk.store.tally

    async def count(broadcast_id: str) -> Any:
        counted.append(broadcast_id)
        return await tally(broadcast_id)

    monkeypatch.setattr(desk.store, "tally", count)
    heard: list[dict[str, Any]] = []

    async def has_heard() -> bool:
        heard.extend(await desk.answers())
        return len(heard) == 4

    origins = [Origin("g1", f"?{number}", 0) for number in range(4)]
    wanted = [f"{number:032x}" for number in (1, 2, 1, 1)]
    await desk.complete(*(Tally(origin, one) for origin, one in zip(origins, wanted, strict=True)))
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(desk.tallies.run())
        await until(has_heard, 5, "four answers")
        counting.cancel()
    assert counted == [f"{1:032x}", f"{2:032x}"]
    assert sorted(answer["broadcastId"] for answer in heard) == sorted(wanted)


async def test_too_many_tallies_at_once_are_refused(desk: Desk) -> None:
    """The seventeenth may ask again."""
    await desk.complete(*(Tally(Origin("g1", f"?{number}", 0), f"{1:032x}") for number in range(17)))
    (answer,) = await desk.answers()
    assert answer["error"]["code"] == Code.OVERLOADED


async def test_what_is_no_broadcast_is_passed_over(desk: Desk) -> None:
    """Nobody of ours writes it there; it does not stay on the stream."""
    await desk.complete(Confirm(Origin("g1", "socket"), "rama", "direct:rama:sita", (1,)))
    assert await desk.waiting() == 0


# Moves


async def test_the_gateways_of_who_moved_are_told(desk: Desk) -> None:
    """Where they live now; who is away is asked when they sign in."""
    desk.store.people["sita"] = msgspec.structs.replace(desk.store.people["sita"], places=Places(village="v2"))
    desk.store.moved = ["rama", "sita", "nobody"]
    await desk.moves.look()
    assert await desk.heard(keys.downlink("g2")) == [Moved("sita", Places(village="v2"))]
    assert await desk.heard(keys.downlink("g1")) == []
    await desk.moves.look()
    assert await desk.heard(keys.downlink("g2")) == []
    desk.store.moved.append("sita")
    await desk.moves.look()
    assert len(await desk.heard(keys.downlink("g2"))) == 1


async def test_who_takes_over_goes_on_where_the_owner_before_came_to(desk: Desk) -> None:
    """Whatever was read in between, by however much."""
    desk.store.people["sita"] = msgspec.structs.replace(desk.store.people["sita"], places=Places(village="v2"))
    desk.store.moved = ["rama", "sita"]
    await desk.moves.look()
    assert len(await desk.heard(keys.downlink("g2"))) == 1
    desk.store.moved += ["sita", "rama"]
    successor = Moves(
        desk.store, desk.directory, desk.broker, RouterMetrics(CollectorRegistry()), lambda: desk.partition
    )
    await successor.look()
    assert len(await desk.heard(keys.downlink("g2"))) == 1
    assert desk.store.asked.count("moves") == 4


async def test_the_fourth_in_a_minute_is_refused_but_to_operators(desk: Desk) -> None:
    """With the time to wait; emergencies that were sent as messages count as well; one sent again does not."""
    rates = Rates(Limiter(desk.broker), PER_MINUTE)
    desk.broadcasts._rates = rates
    await rates.check(Counted(_LATA.user_id, "emergency", "a message"))
    operators = Origin("g1", f"{OPERATORS}1", 9)
    await desk.complete(asked(1), asked(2), asked(1), asked(3), *(asked(n, origin=operators) for n in range(4, 9)))
    assert list(desk.store.broadcasts) == [f"{n:032x}" for n in (1, 2, 4, 5, 6, 7, 8)]
    refused = [answer["error"] for answer in await desk.answers() if not answer["ok"]]
    assert [(error["code"], error["retryable"]) for error in refused] == [(Code.RATE_LIMITED, True)]
    assert 0 < refused[0]["retryAfterMs"] <= 60_000


async def test_a_canary_comes_back_among_the_alarms_with_a_store_or_without(desk: Desk) -> None:
    """That stream is what it is to prove; it is never parked for itself."""
    canary = Canary(Origin("g1", ""), 7)
    await desk.complete(canary)
    assert await desk.heard(keys.alarms("g1")) == [CanaryReply(_NUMBER, 7)]
    desk.store.away = {"save_broadcasts", "audience"}
    await desk.complete(canary)
    assert (desk.broadcasts.is_store_away, await desk.waiting()) == (False, 0)
    await desk.complete(asked())
    await desk.complete(canary)
    assert [type(frame) for frame in await desk.heard(keys.alarms("g1"))] == [CanaryReply, Alarm, CanaryReply]
    assert (desk.broadcasts.parked, await desk.waiting()) == (1, 2)
    desk.store.away = set()
    await desk.broadcasts.unpark()
    assert (desk.broadcasts.parked, await desk.waiting()) == (0, 0)
    assert await desk.heard(keys.alarms("g2")) != []
