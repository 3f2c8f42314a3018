"""What is announced of people, and to whom: the scripts of presence and of those who feed it, on real brokers."""

import asyncio
import random
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Final

import pytest
from prometheus_client import CollectorRegistry

from libs import keys, membership
from libs.broker import Broker, connect
from libs.directory import Directory, Seat, Standing, Watchers, standing
from libs.directory.directory import GATEWAY_TTL_MS
from libs.directory.shards import shard_of
from libs.storage import StoreAway
from libs.streams import consumer
from libs.wire import codec
from libs.wire.frames import PresenceChange, PresenceChanges
from services.presence import announcer as module
from services.presence.announcer import Announcer
from services.presence.cold import Cold
from services.presence.metrics import PresenceMetrics
from services.presence.unsaved import Unsaved
from tests.support.broker import RunningBroker
from tests.support.waiting import until
from tests.unit.services.presence.fakes import FakeLastSeen

_DAY_MS: Final = 24 * 3_600_000


class Scene:
    """Two gateways with a downlink each, and presence; nothing happens by itself."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.directory = Directory(broker)
        self.watchers = Watchers(broker)
        self.store = FakeLastSeen()
        self.metrics = PresenceMetrics(CollectorRegistry())
        self.cold = Cold(self.store, self.metrics)
        self.announcer = Announcer(broker, self.cold, self.metrics)
        self._positions = dict.fromkeys(("g1", "g2"), consumer.BEGINNING)

    async def open(self) -> None:
        for gateway in self._positions:
            await self.broker.script(membership.beat(keys.gateways(), gateway, 60_000))
            await self.broker.command("XADD", keys.downlink(gateway), "*", "hello", "")

    async def turn(self) -> None:
        """Presence looks until there is nothing more to do."""
        while await self.announcer.turn():
            pass

    async def look_up(self) -> None:
        """Presence looks, asks its store, and looks again."""
        await self.turn()
        await self.cold.look_up()
        await self.turn()

    async def watch(self, *users: str, gateway: str = "g1") -> dict[str, Standing]:
        return await self.watchers.change(gateway, dict.fromkeys(users, True))

    async def told(self, gateway: str = "g1") -> list[PresenceChange]:
        """What a gateway was told since the last time."""
        stream = keys.downlink(gateway)
        read = await consumer.read(self.broker, {stream: self._positions[gateway]}, count=1000, block_ms=1)
        entries = read.get(stream, [])
        if entries:
            self._positions[gateway] = entries[-1].id
        return [
            change
            for entry in entries
            if entry.frames is not None
            for section in codec.unpack_downlink(entry.frames)
            for frame in section.frames
            if isinstance(frame, PresenceChanges)
            for change in frame.changes
        ]

    async def statuses(self, gateway: str = "g1") -> list[tuple[str, str]]:
        return [(change.user_id, change.status) for change in await self.told(gateway)]

    async def seen(self, user: str) -> Standing | None:
        """What was last announced of somebody."""
        return (await standing.announced(self.broker, [user])).get(user)

    async def now_ms(self) -> int:
        seconds, micros = await self.broker.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


@pytest.fixture
async def scene(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Of a broker that has been there for long."""
    monkeypatch.setattr(module, "_SETTLED_AFTER_MS", 0)
    made = Scene(broker)
    await made.open()
    return made


# Who came, who went


async def test_who_comes_and_goes_is_announced_to_those_who_watch(scene: Scene) -> None:
    """To each gateway where somebody watches, once; the others hear nothing."""
    await scene.watch("rama")
    await scene.look_up()
    await scene.directory.touch("g2", ["rama", "sita"])
    await scene.turn()
    await scene.turn()
    before_ms = await scene.now_ms()
    await scene.directory.drop("g2", ["rama"])
    await scene.turn()
    assert await scene.statuses("g1") == [("rama", "offline"), ("rama", "online"), ("rama", "offline")]
    assert await scene.told("g2") == []
    last = await scene.seen("rama")
    assert last is not None
    assert before_ms <= last.last_seen_ms <= await scene.now_ms()


async def test_two_gateways_of_one_person_are_one_presence(scene: Scene) -> None:
    """Only the first to come and the last to go are told."""
    await scene.watch("rama")
    await scene.directory.touch("g1", ["rama"])
    await scene.turn()
    await scene.directory.touch("g2", ["rama"])
    await scene.turn()
    await scene.directory.drop("g1", ["rama"])
    await scene.turn()
    assert await scene.statuses() == [("rama", "online")]
    await scene.directory.drop("g2", ["rama"])
    await scene.turn()
    assert await scene.statuses() == [("rama", "offline")]


async def test_who_is_back_in_time_was_never_gone(scene: Scene) -> None:
    """On another gateway too; who is not back is looked at when the time is over, and was last seen when they went."""
    await scene.watch("rama", "sita")
    await scene.directory.touch("g1", ["rama", "sita"])
    await scene.turn()
    went_ms = await scene.now_ms()
    await scene.directory.change("g1", {"rama": Seat.DROPPED, "sita": Seat.DROPPED}, grace_ms=200)
    await scene.directory.touch("g2", ["rama"])
    await scene.turn()
    assert sorted(await scene.statuses()) == [("rama", "online"), ("sita", "online")]

    async def is_offline() -> bool:
        await scene.turn()
        last = await scene.seen("sita")
        return last is not None and last.status == "offline"

    await until(is_offline, 5, "sita to be offline")
    assert await scene.statuses() == [("sita", "offline")]
    last = await scene.seen("sita")
    assert last is not None
    assert went_ms <= last.last_seen_ms < went_ms + 150
    assert last.at_ms >= went_ms + 200


async def test_people_of_a_dead_gateway_were_last_seen_at_its_last_beat(scene: Scene) -> None:
    """It lapsed seconds ago, and they with it; who is elsewhere too stays."""
    await scene.directory.touch("g1", ["rama", "sita"])
    await scene.directory.touch("g2", ["sita"])
    await scene.turn()
    lapses_ms = await scene.now_ms() - 1000
    await scene.broker.command("ZADD", keys.gateways(), lapses_ms, "g1")
    await scene.directory.reap("g1")
    await scene.turn()
    rama, sita = await scene.seen("rama"), await scene.seen("sita")
    assert rama is not None
    assert sita is not None
    assert (rama.status, rama.last_seen_ms) == ("offline", lapses_ms - GATEWAY_TTL_MS)
    assert sita.status == "online"


async def test_who_was_not_let_in_was_never_here(scene: Scene) -> None:
    """A seat is taken before anybody is let in: until they are shown nobody is told, nor when they were last seen."""
    scene.store.times = {"rama": 5, "sita": 5}
    await scene.watch("rama")
    await scene.look_up()
    await scene.told()
    await scene.directory.change("g1", dict.fromkeys(("rama", "sita", "lakshmi"), Seat.TAKEN))
    await scene.turn()
    await scene.directory.drop("g1", ["rama", "sita"])
    await scene.turn()
    assert await scene.told() == []
    assert await scene.directory.locate(["rama", "sita", "lakshmi"]) == {"lakshmi": ("g1",)}
    await scene.watch("sita")
    await scene.look_up()
    for user in ("rama", "sita"):
        last = await scene.seen(user)
        assert last is not None
        assert (last.status, last.last_seen_ms) == ("offline", 5)
    assert not await scene.broker.command("KEYS", "*:left")
    assert not await scene.broker.command("KEYS", "*:unsaved")
    await scene.told()
    await scene.watch("lakshmi")
    await scene.directory.touch("g1", ["lakshmi"])
    await scene.turn()
    assert await scene.statuses() == [("lakshmi", "online")]


async def test_who_is_let_in_again_in_time_was_never_gone(scene: Scene) -> None:
    """The new socket has its seat before the time is over, and is let in after it."""
    await scene.watch("rama")
    await scene.directory.touch("g1", ["rama"])
    await scene.turn()
    await scene.directory.change("g1", {"rama": Seat.DROPPED}, grace_ms=50)
    await scene.directory.change("g2", {"rama": Seat.TAKEN})
    shard = shard_of("rama")

    async def is_looked_at() -> bool:
        await scene.turn()
        return not await scene.broker.command("EXISTS", keys.changes(shard))

    await until(is_looked_at, 5, "the time to be over")
    await scene.directory.touch("g2", ["rama"])
    await scene.turn()
    assert await scene.statuses() == [("rama", "online")]
    assert not await scene.broker.command("EXISTS", keys.left(shard))


async def test_who_is_to_be_looked_at_when_the_clock_is_set_back_does_not_wait_for_it(scene: Scene) -> None:
    """Their time would come minutes later, and until then they would be seen as they were."""
    await scene.watch("rama")
    await scene.directory.touch("g1", ["rama"])
    shard = shard_of("rama")
    seconds, _ = await scene.broker.command("TIME")
    ahead = (int(seconds) + 300) * 1000
    await scene.broker.command("ZADD", keys.changes(shard), ahead, "rama")
    await scene.broker.command("HSET", keys.counts(shard), "began", ahead)
    await scene.turn()
    assert await scene.statuses() == [("rama", "online")]
    assert int(await scene.broker.command("HGET", keys.counts(shard), "began")) < ahead


# How they want to be seen


async def test_people_choose_how_they_are_seen_while_they_are_here(scene: Scene) -> None:
    """The last word counts, on whatever device; who comes again is online."""
    await scene.watch("rama")
    await scene.directory.touch("g1", ["rama"])
    await scene.turn()
    for status in ("away", "busy", "busy", "online", "away"):
        assert await standing.choose(scene.broker, {"rama": status}) == {"rama"}
        await scene.turn()
    await scene.directory.drop("g1", ["rama"])
    await scene.turn()
    await scene.directory.touch("g1", ["rama"])
    await scene.turn()
    told = [status for _, status in await scene.statuses()]
    assert told == ["online", "away", "busy", "online", "away", "offline", "online"]
    assert not await scene.broker.command("EXISTS", keys.chosen(shard_of("rama")))


async def test_a_choice_holds_when_its_user_is_back_in_time(scene: Scene) -> None:
    """A flicker of the network is no reason to forget it."""
    await scene.watch("rama")
    await scene.directory.touch("g1", ["rama"])
    await standing.choose(scene.broker, {"rama": "busy"})
    await scene.turn()
    await scene.directory.change("g1", {"rama": Seat.DROPPED}, grace_ms=60_000)
    await scene.turn()
    await scene.directory.touch("g2", ["rama"])
    await scene.turn()
    assert await scene.statuses() == [("rama", "busy")]


async def test_the_choice_of_somebody_without_a_seat_is_not_kept(scene: Scene) -> None:
    """It would hold for whoever comes back days later."""
    assert await standing.choose(scene.broker, {"rama": "busy"}) == frozenset()
    assert not await scene.broker.command("EXISTS", keys.chosen(shard_of("rama")))


# Announced once


class Dying(Broker):
    """A broker for a presence that dies before it has published, or after it: before it noted that."""

    def __init__(self, broker: Broker, *, publishes: bool) -> None:
        vars(self).update(vars(broker))
        self._publishes = publishes

    async def batch(self, commands: Collection[tuple[str | bytes | int | float, ...]]) -> list[object]:
        if any(command[0] == "XADD" for command in commands):
            if self._publishes:
                await super().batch(list(commands))
            raise ConnectionError
        return await super().batch(list(commands))


@pytest.mark.parametrize("publishes", [True, False])
async def test_what_a_dead_announcer_left_is_published_by_the_next(scene: Scene, *, publishes: bool) -> None:
    """The same announcement, by its time: a gateway that had it already drops it."""
    await scene.watch("rama")
    await scene.directory.touch("g1", ["rama"])
    dying = Announcer(Dying(scene.broker, publishes=publishes), scene.cold, scene.metrics)
    with pytest.raises(ConnectionError):
        await dying.turn()
    await scene.broker.command("DEL", keys.announcer(shard_of("rama")))  # its lease lapses
    await scene.turn()
    await scene.turn()
    told = await scene.told()
    assert len(told) == (2 if publishes else 1)
    assert len(set(told)) == 1
    assert not await scene.broker.command("EXISTS", keys.pending(shard_of("rama")))


async def test_presence_is_ready_as_long_as_changes_are_announced(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before the first turn, and not when the last is too long ago."""
    problems = [scene.announcer.problem]
    await scene.turn()
    problems.append(scene.announcer.problem)
    monkeypatch.setattr(module, "_STALE_S", 0.0)
    problems.append(scene.announcer.problem)
    assert problems == ["changes are not announced", None, "changes are not announced"]


async def test_one_copy_announces_a_shard_as_long_as_it_lives(scene: Scene) -> None:
    """Another takes over when the lease has lapsed; together they hold all shards."""
    other = Announcer(scene.broker, scene.cold, scene.metrics)
    await scene.turn()
    await other.turn()
    assert (len(scene.announcer.shards), len(other.shards)) == (keys.DIRECTORY_SHARDS, 0)

    async def has_taken_over() -> bool:
        await other.turn()
        return len(other.shards) == keys.DIRECTORY_SHARDS

    await until(has_taken_over, 5, "the lease to lapse")
    await scene.turn()
    assert not scene.announcer.shards


async def test_two_copies_at_once_announce_what_one_would(scene: Scene, empty_server: RunningBroker) -> None:
    """Even if both believe in their lease: by time, nothing is announced twice, and nothing is left out."""
    users = [f"user{number}" for number in range(300)]
    await scene.watch(*users)
    async with connect(empty_server.url) as another:
        copies = [scene.announcer, Announcer(another, scene.cold, scene.metrics)]
        for round_ in range(6):
            await scene.directory.change("g2", dict.fromkeys(users, Seat.DROPPED if round_ % 2 else Seat.SHOWN))
            for shard in range(keys.DIRECTORY_SHARDS):
                await scene.broker.command("DEL", keys.announcer(shard))
            await asyncio.gather(*(copy.turn() for copy in copies))
            await scene.turn()
            while scene.announcer.shards != frozenset(range(keys.DIRECTORY_SHARDS)):
                for shard in range(keys.DIRECTORY_SHARDS):  # whoever has it, its lease lapses
                    await scene.broker.command("DEL", keys.announcer(shard))
                await scene.turn()
                await copies[1].turn()
    told = set(await scene.told())
    for user in users:
        statuses = [change.status for change in sorted(told, key=lambda c: c.at_ms) if change.user_id == user]
        assert statuses == ["online", "offline"] * 3


async def test_the_time_of_an_announcement_rises_even_when_the_clock_does_not(scene: Scene) -> None:
    """After a failover the broker's clock may be behind: gateways would drop what seems old."""
    far_ms = await scene.now_ms() + 60_000
    await scene.broker.command("HSET", keys.presence(shard_of("rama")), "rama", f"offline {far_ms} 5")
    assert await scene.watch("rama") == {"rama": Standing("offline", far_ms, 5)}
    await scene.directory.touch("g1", ["rama"])
    await scene.turn()
    await scene.directory.drop("g1", ["rama"])
    await scene.turn()
    assert [change.at_ms for change in await scene.told()] == [far_ms + 1, far_ms + 2]


async def test_any_course_of_events_ends_in_what_is_so(scene: Scene) -> None:
    """Random comings, goings, choices and looks: the last told is what is so, and each told differs."""
    users, gateways = [f"user{number}" for number in range(20)], ["g1", "g2"]
    draw = random.Random(7)
    await scene.watch(*users)
    await scene.look_up()
    for _ in range(400):
        user, gateway = draw.choice(users), draw.choice(gateways)
        match draw.randrange(5):
            case 0 | 1:
                await scene.directory.touch(gateway, [user])
            case 2:
                await scene.directory.change(gateway, {user: Seat.DROPPED}, grace_ms=draw.choice([0, 0, 3]))
            case 3:
                await standing.choose(scene.broker, {user: draw.choice(standing.STATUSES)})
            case 4:
                await scene.turn()
    for shard in range(keys.DIRECTORY_SHARDS):

        async def is_looked_at(shard: int = shard) -> bool:
            await scene.turn()
            return not await scene.broker.command("EXISTS", keys.changes(shard), keys.pending(shard))

        await until(is_looked_at, 5, "everyone to be looked at")
    told = await scene.told()
    located = await scene.directory.locate(users)
    for user in users:
        of_user = [change for change in told if change.user_id == user]
        assert all(one.at_ms < next_.at_ms for one, next_ in pairwise(of_user))
        assert all(one.status != next_.status for one, next_ in pairwise(of_user))
        chosen = await scene.broker.command("HGET", keys.chosen(shard_of(user)), user)
        expected = (chosen or b"online").decode() if user in located else "offline"
        assert of_user[-1].status == expected
    counted = await standing.statistics(scene.broker)
    assert counted.users_online == len(located)


# Who is not known


async def test_of_whom_nothing_is_known_the_store_is_asked(scene: Scene) -> None:
    """Who watches is told when they were last seen, or that they never were; who watches next is told at once."""
    scene.store.times["rama"] = 1234
    assert await scene.watch("rama", "sita") == {}
    await scene.look_up()
    assert {(c.user_id, c.status, c.last_seen_ms) for c in await scene.told()} == {
        ("rama", "offline", 1234),
        ("sita", "offline", 0),
    }
    found = await scene.watch("rama", gateway="g2")
    assert (found["rama"].status, found["rama"].last_seen_ms) == ("offline", 1234)


async def test_while_the_store_is_away_it_is_asked_again(scene: Scene) -> None:
    """A second later, and again, however many ask; others are announced meanwhile."""
    scene.store.is_away = True
    await scene.watch("rama", "sita")
    await scene.look_up()
    asking = ("ZSCORE", keys.changes(shard_of("rama")), "rama")
    again_at = await scene.broker.command(*asking)
    await scene.watch("rama", gateway="g2")
    assert await scene.broker.command(*asking) == again_at
    await scene.directory.touch("g1", ["sita"])
    await scene.look_up()
    assert await scene.statuses() == [("sita", "online")]
    scene.store.is_away = False

    async def is_told() -> bool:
        await scene.look_up()
        return await scene.statuses() == [("rama", "offline")]

    await until(is_told, 5, "rama to be looked up")


async def test_who_comes_while_the_store_is_asked_is_not_taken_for_offline(scene: Scene) -> None:
    """The others are."""
    await scene.watch("rama", "sita")
    await scene.turn()
    await scene.cold.look_up()
    await scene.directory.touch("g1", ["rama"])
    await scene.turn()
    assert sorted(await scene.statuses()) == [("rama", "online"), ("sita", "offline")]


async def test_just_after_a_wipe_nobody_is_taken_for_offline(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways have not seated their users again: for a while, who has no seat may get one."""
    monkeypatch.setattr(module, "_SETTLED_AFTER_MS", 300)
    await scene.watch("rama", "sita")
    began_ms = await scene.now_ms()
    await scene.look_up()
    await scene.directory.touch("g2", ["rama"])
    await scene.look_up()
    assert await scene.statuses() == [("rama", "online")]

    async def is_told() -> bool:
        await scene.look_up()
        return await scene.statuses() == [("sita", "offline")]

    await until(is_told, 5, "sita to be settled")
    last = await scene.seen("sita")
    assert last is not None
    assert last.at_ms >= began_ms + 300


# Watching


async def test_who_is_not_watched_any_more_is_not_told_of(scene: Scene) -> None:
    """From this gateway; another goes on."""
    for gateway in ("g1", "g2"):
        await scene.watch("rama", gateway=gateway)
    await scene.watchers.change("g1", {"rama": False})
    await scene.directory.touch("g1", ["rama"])
    await scene.turn()
    assert (await scene.statuses("g1"), await scene.statuses("g2")) == ([], [("rama", "online")])


async def test_a_reaped_gateway_watches_nobody(scene: Scene) -> None:
    """However many it watched; and nothing is written for it."""
    users = [f"user{number}" for number in range(5000)]
    await scene.watch(*users)
    await scene.watch(users[0], gateway="g2")
    await scene.directory.reap("g1")
    await scene.directory.touch("g2", users[:2])
    await scene.turn()
    assert await scene.statuses("g2") == [(users[0], "online")]
    left = await scene.broker.command("KEYS", "*watch*")
    assert {key.decode() for key in left} == {
        keys.watchers(shard_of(users[0])),
        keys.watched(shard_of(users[0]), "g2"),
    }
    assert not await scene.broker.command("EXISTS", keys.downlink("g1"))


async def test_many_changes_are_announced_in_steps(scene: Scene) -> None:
    """No script holds the broker up for long, and all are told however many steps it takes."""
    users = [f"user{number}" for number in range(4000)]
    await scene.watch(*users)
    await scene.directory.touch("g2", users)
    assert await scene.announcer.turn()
    assert 0 < len(first := await scene.told()) <= module._BATCH * keys.DIRECTORY_SHARDS
    await scene.turn()
    assert {change.user_id for change in first + await scene.told()} == set(users)


# Counting, saving, forgetting


async def test_people_are_counted_by_status_and_by_gateway(scene: Scene) -> None:
    """Somebody on two gateways counts once online, and on both."""
    assert (await standing.statistics(scene.broker)).users_online == 0
    await scene.directory.touch("g1", ["rama", "sita"])
    await scene.directory.touch("g2", ["rama", "lakshmi", "ravana"])
    await standing.choose(scene.broker, {"sita": "busy", "lakshmi": "away"})
    await scene.turn()
    await scene.directory.drop("g2", ["ravana"])
    await scene.turn()
    found = await standing.statistics(scene.broker)
    assert found.users_online == 3
    assert found.statuses == {"online": 1, "away": 1, "busy": 1}
    assert found.gateways == {"g1": 2, "g2": 2}


async def test_when_people_were_last_seen_is_saved(scene: Scene) -> None:
    """When they come and when they go, each time once; while the store is away it waits in the broker."""
    unsaved = Unsaved(scene.broker, scene.store, scene.metrics, lambda: scene.announcer.shards)
    await scene.directory.touch("g1", ["rama", "లక్ష్మి"])
    await scene.turn()
    await unsaved.turn()
    assert set(scene.store.times) == {"rama", "లక్ష్మి"}
    came = dict(scene.store.times)
    await scene.directory.drop("g1", ["rama"])
    await scene.turn()
    last = await scene.seen("rama")
    scene.store.is_away = True
    with pytest.raises(StoreAway):
        await unsaved.turn()
    scene.store.is_away = False
    await unsaved.turn()
    assert last is not None
    assert scene.store.times == came | {"rama": last.last_seen_ms}
    assert not await scene.broker.command("KEYS", "*unsaved*")


async def test_what_changed_while_it_was_saved_is_saved_again(scene: Scene) -> None:
    """The newer time is not lost with the older one."""
    shard = shard_of("rama")

    class Slow(FakeLastSeen):
        """Takes so long that somebody goes meanwhile."""

        async def save(self, seen: Mapping[str, int]) -> None:
            await super().save(seen)
            await scene.broker.command("HSET", keys.unsaved(shard), "rama", 999)

    await scene.broker.command("HSET", keys.unsaved(shard), "rama", 500)
    await Unsaved(scene.broker, Slow(), scene.metrics, lambda: [shard]).turn()
    await Unsaved(scene.broker, scene.store, scene.metrics, lambda: [shard]).turn()
    assert scene.store.times == {"rama": 999}


async def test_who_has_been_away_for_a_week_is_forgotten(scene: Scene) -> None:
    """Unless somebody watches them, they are here, or the store does not have them yet."""
    old_ms = await scene.now_ms() - 8 * _DAY_MS
    stories = {
        "gone": f"offline {old_ms} {old_ms}",
        "lately": f"offline {old_ms + 2 * _DAY_MS} {old_ms}",
        "here": f"online {old_ms} {old_ms}",
        "watched": f"offline {old_ms} {old_ms}",
        "waiting": f"offline {old_ms} {old_ms}",
        "nobody": f"offline {old_ms + 8 * _DAY_MS - 70_000} 0",
        "nobody yet": f"offline {old_ms + 8 * _DAY_MS} 0",
    }
    for user, story in stories.items():
        await scene.broker.command("HSET", keys.presence(shard_of(user)), user, story)
    await scene.watch("watched")
    await scene.broker.command("HSET", keys.unsaved(shard_of("waiting")), "waiting", old_ms)
    for _ in range(module._SWEEP_EVERY):
        await scene.announcer.turn()
    assert set(await standing.announced(scene.broker, stories)) == set(stories) - {"gone", "nobody"}
