"""What the directory promises of seats and names (see `libs.directory`), by effect on real brokers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from libs import keys, membership
from libs.broker import Broker
from libs.directory import Directory, Seat
from libs.directory.directory import GATEWAY_TTL_MS
from libs.wire.events import LEVELS
from libs.wire.frames import Places
from tests.support.waiting import until

MEMBERS = "members"
USERS = ("rama", "sita", "లక్ష్మి")


@pytest.fixture
def seats(broker: Broker) -> Directory:
    """A directory of nobody."""
    return Directory(broker)


async def beat(broker: Broker, member: str = "g1", ttl_ms: int = 60_000) -> int:
    """Beat, to lapse after `ttl_ms`; what the script gives."""
    return int(await broker.script(membership.beat(keys.gateways(), member, ttl_ms)))


async def lapse(broker: Broker, member: str = "g1") -> None:
    """Beat for the last time, and wait until that is over by the broker's clock."""
    await beat(broker, member, ttl_ms=1)
    await until(_within(broker, member), 5, f"{member} to lapse")


def _within(broker: Broker, member: str) -> Callable[[], Awaitable[bool]]:
    async def is_lapsed() -> bool:
        return member in (await membership.look(broker, keys.gateways(), 60_000))[1]

    return is_lapsed


async def keys_there(broker: Broker) -> set[str]:
    """Every key the broker holds, but for what presence is to look at (test_presence.py)."""
    for_presence = {key for shard in range(keys.DIRECTORY_SHARDS) for key in (keys.changes(shard), keys.left(shard))}
    return {key.decode() for key in await broker.command("KEYS", "*")} - for_presence


async def seated(broker: Broker, gateway: str) -> set[str]:
    """Who a gateway is noted to have, by the sets that reaping goes by."""
    replies = await broker.batch([("SMEMBERS", keys.seated(shard, gateway)) for shard in range(keys.DIRECTORY_SHARDS)])
    return {user.decode() for reply in replies for user in reply}


# Seats


async def test_a_user_is_where_they_were_touched(seats: Directory) -> None:
    """Touching seats users; who has no seat is not in the answer."""
    await seats.touch("g1", USERS)
    assert await seats.locate([*USERS, "nobody"]) == dict.fromkeys(USERS, ("g1",))


async def test_a_user_may_be_on_two_gateways(seats: Directory) -> None:
    """A phone here and a tablet there: both are told, and dropping one leaves the other."""
    await seats.touch("g1", ["rama"])
    await seats.touch("g2", ["rama"])
    assert set((await seats.locate(["rama"]))["rama"]) == {"g1", "g2"}
    await seats.drop("g1", ["rama"])
    assert await seats.locate(["rama"]) == {"rama": ("g2",)}
    await seats.drop("g2", ["rama"])
    assert await seats.locate(["rama"]) == {}


async def test_touching_again_changes_nothing(seats: Directory) -> None:
    """Nobody is told twice because a gateway touched twice."""
    for _ in range(3):
        await seats.touch("g1", USERS)
    assert await seats.locate(USERS) == dict.fromkeys(USERS, ("g1",))


async def test_dropping_who_is_not_there_changes_nothing(seats: Directory, broker: Broker) -> None:
    """A drop repeated, or of someone never seen here, harms no other seat and leaves no trace."""
    await seats.touch("g1", ["rama"])
    await seats.drop("g2", ["rama", "sita"])
    await seats.drop("g1", ["sita"])
    assert await seats.locate(USERS) == {"rama": ("g1",)}
    await seats.drop("g1", ["rama"])
    await seats.drop("g1", ["rama"])
    assert await keys_there(broker) == set()


async def test_touching_and_dropping_go_in_one_change(seats: Directory) -> None:
    """One round trip seats some and unseats others, in whatever shards they are."""
    users = [f"user{n}" for n in range(100)]
    await seats.touch("g1", users[:50])
    await seats.change("g1", {user: Seat.TAKEN if n >= 50 else Seat.DROPPED for n, user in enumerate(users)})
    assert await seats.locate(users) == dict.fromkeys(users[50:], ("g1",))


async def test_a_gateway_whose_name_begins_like_anothers_is_another(seats: Directory) -> None:
    """Names are compared whole."""
    await seats.touch("g1", ["rama"])
    await seats.touch("g11", ["rama"])
    await seats.drop("g1", ["rama"])
    assert await seats.locate(["rama"]) == {"rama": ("g11",)}


async def test_nobody_is_located_among_nobody(seats: Directory) -> None:
    """Empty questions and changes are answered without asking."""
    await seats.touch("g1", [])
    assert await seats.locate([]) == {}


async def test_what_is_noted_for_reaping_is_who_is_seated(seats: Directory, broker: Broker) -> None:
    """The sets by which a dead gateway is cleared hold exactly its users, at every moment."""
    await seats.touch("g1", USERS)
    await seats.touch("g2", USERS[:1])
    await seats.drop("g1", USERS[1:])
    assert await seated(broker, "g1") == set(USERS[:1])
    assert await seated(broker, "g2") == set(USERS[:1])


# Names


async def test_a_gateway_lives_while_it_beats(seats: Directory, broker: Broker) -> None:
    """The first beat says that it was not there, the next that it was."""
    assert await seats.live() == frozenset()
    assert await broker.script(seats.beat("g1")) == 0
    assert await broker.script(seats.beat("g1")) == 1
    assert await seats.live() == {"g1"}
    assert await seats.lapsed() == frozenset()


async def test_a_beat_is_good_for_six_seconds(seats: Directory, broker: Broker) -> None:
    """What a gateway is given is the documented time, by the broker's own clock."""
    await broker.script(seats.beat("g1"))
    (seconds, micros), lapses = await broker.batch([("TIME",), ("ZSCORE", keys.gateways(), "g1")])
    left_ms = float(lapses) - (int(seconds) * 1000 + int(micros) / 1000)
    assert GATEWAY_TTL_MS - 1000 < left_ms <= GATEWAY_TTL_MS


async def test_a_gateway_that_stops_beating_lapses(seats: Directory, broker: Broker) -> None:
    """It is not live any more, and known as lapsed until it is reaped; the others are as before."""
    await beat(broker, "g2")
    await lapse(broker, "g1")
    assert await seats.live() == {"g2"}
    assert await seats.lapsed() == {"g1"}


async def test_a_gateway_that_lapsed_has_its_seats_until_it_is_reaped(seats: Directory, broker: Broker) -> None:
    """It may only have been paused: what is said to its users waits in its downlink, so it need not be told."""
    await seats.touch("g1", USERS)
    await lapse(broker)
    assert await seats.locate(USERS) == dict.fromkeys(USERS, ("g1",))
    assert await beat(broker) == 1
    assert await seats.live() == {"g1"}


async def test_members_of_one_set_are_not_of_another(broker: Broker) -> None:
    """Routers and gateways have sets of their own."""
    await broker.script(membership.beat(MEMBERS, "one", 60_000))
    assert await membership.live(broker, MEMBERS, 60_000) == {"one"}
    assert await membership.live(broker, keys.gateways(), 60_000) == frozenset()


async def test_a_clock_that_was_set_back_keeps_the_dead_for_one_life(seats: Directory, broker: Broker) -> None:
    """Who beat for the last time before it was would else be alive for as long as it was set back."""
    await beat(broker, "g1", ttl_ms=300_000)
    before = await seats.live()
    lapses_at = int(float(await broker.command("ZSCORE", keys.gateways(), "g1")))
    seconds, _ = await broker.command("TIME")
    assert before == {"g1"}
    assert lapses_at <= (int(seconds) + 1) * 1000 + GATEWAY_TTL_MS


async def test_a_member_that_was_removed_is_told_so(broker: Broker) -> None:
    """Removing forgets at once, is harmless to repeat, and the next beat says that it was gone."""
    await broker.script(membership.beat(MEMBERS, "one", 60_000))
    await membership.remove(broker, MEMBERS, "one")
    await membership.remove(broker, MEMBERS, "one")
    assert await membership.look(broker, MEMBERS, 60_000) == (frozenset(), frozenset())
    assert await broker.script(membership.beat(MEMBERS, "one", 60_000)) == 0


# Reaping


async def test_a_reaped_gateway_leaves_no_trace(seats: Directory, broker: Broker) -> None:
    """Its seats, its downlink and its name go; the seats are counted."""
    await beat(broker)
    await seats.touch("g1", USERS)
    await broker.command("XADD", keys.downlink("g1"), "*", "hello", "")
    assert await seats.reap("g1") == len(USERS)
    assert await keys_there(broker) == set()


async def test_reaping_one_gateway_leaves_the_others_seats(seats: Directory, broker: Broker) -> None:
    """Who is also elsewhere stays there, and other gateways keep their downlinks and names."""
    for gateway in ("g1", "g2"):
        await beat(broker, gateway)
        await broker.command("XADD", keys.downlink(gateway), "*", "hello", "")
    await seats.touch("g1", USERS)
    await seats.touch("g2", USERS[:2])
    await seats.reap("g1")
    assert await seats.locate(USERS) == dict.fromkeys(USERS[:2], ("g2",))
    assert await seats.live() == {"g2"}
    assert await broker.batch([("EXISTS", keys.downlink(gateway)) for gateway in ("g1", "g2")]) == [0, 1]


async def test_a_large_gateway_is_reaped_in_steps(seats: Directory, broker: Broker) -> None:
    """No script holds the broker up for long, and all users are cleared however many steps it takes."""
    users = [f"user{n}" for n in range(6000)]
    await seats.touch("g1", users)
    await seats.touch("g2", users[::2])
    await broker.command("CONFIG", "RESETSTAT")
    assert await seats.reap("g1") == len(users)
    assert await seats.locate(users) == dict.fromkeys(users[::2], ("g2",))
    # 6,000 users in 8 shards are about 750 each: two steps a shard, and one that finds nothing.
    stats = (await broker.command("INFO", "commandstats"))["cmdstat_evalsha"]
    assert stats["calls"] >= 3 * keys.DIRECTORY_SHARDS


async def test_several_reapers_clear_each_seat_once(seats: Directory, broker: Broker) -> None:
    """Copies of presence may reap the same gateway at once: together they count every seat, and all is gone."""
    users = [f"user{n}" for n in range(3000)]
    await beat(broker)
    await seats.touch("g1", users)
    cleared = await asyncio.gather(*(Directory(broker).reap("g1") for _ in range(4)))
    assert sum(cleared) == len(users)
    assert await keys_there(broker) == set()


async def test_reaping_again_is_harmless(seats: Directory, broker: Broker) -> None:
    """Nothing left is nothing cleared."""
    await seats.touch("g1", USERS)
    await seats.reap("g1")
    assert await seats.reap("g1") == 0
    assert await seats.reap("never there") == 0
    assert await keys_there(broker) == set()


async def test_a_reaping_that_was_cut_short_is_finished_by_the_next(seats: Directory, broker: Broker) -> None:
    """The name goes last: a gateway half cleared is still known as lapsed."""

    class Dying(Broker):
        """Dies on the way: after the seats, before the downlink."""

        def __init__(self, broker: Broker) -> None:
            vars(self).update(vars(broker))

        async def command(self, *command: str | bytes | float) -> object:
            if command[0] == "DEL":
                raise ConnectionError
            return await super().command(*command)

    await lapse(broker)
    await seats.touch("g1", USERS)
    await broker.command("XADD", keys.downlink("g1"), "*", "hello", "")
    with pytest.raises(ConnectionError):
        await Directory(Dying(broker)).reap("g1")
    assert await seats.lapsed() == {"g1"}
    assert await seats.reap("g1") == 0
    assert await keys_there(broker) == set()


async def test_a_gateway_that_comes_back_to_a_reaping_that_was_cut_short_is_told(
    seats: Directory, broker: Broker
) -> None:
    """Its reaper died with some of its seats cleared: nobody else would give them back."""

    class Dying(Broker):
        """Dies on the way: after the seats, before the downlink."""

        def __init__(self, broker: Broker) -> None:
            vars(self).update(vars(broker))

        async def command(self, *command: str | bytes | float) -> object:
            if command[0] == "DEL":
                raise ConnectionError
            return await super().command(*command)

    await lapse(broker)
    await seats.touch("g1", USERS)
    with pytest.raises(ConnectionError):
        await Directory(Dying(broker)).reap("g1")
    assert await seats.locate(USERS) == {}
    assert await broker.script(seats.beat("g1")) == 0
    assert await broker.script(seats.beat("g1")) == 1


async def test_a_reaped_gateway_that_comes_back_is_told_and_seats_its_users_again(
    seats: Directory, broker: Broker
) -> None:
    """It was paused, not dead: its next beat says that it was gone, and then all is as before."""
    await beat(broker)
    await seats.touch("g1", USERS)
    await lapse(broker)
    await seats.reap("g1")
    assert await seats.locate(USERS) == {}
    assert await broker.script(seats.beat("g1")) == 0
    await seats.touch("g1", USERS)
    assert await seats.live() == {"g1"}
    assert await seats.locate(USERS) == dict.fromkeys(USERS, ("g1",))


async def test_a_gateway_that_comes_back_while_it_is_reaped_is_told_at_its_next_beat(
    seats: Directory, broker: Broker
) -> None:
    """Whatever a late reaper takes from it, its name goes after that, so that it seats its users once more."""
    await lapse(broker)
    await seats.touch("g1", USERS)
    await beat(broker)  # it wakes up: the reaper below had found it lapsed before
    await seats.reap("g1")
    assert await broker.script(seats.beat("g1")) == 0


# Where users live

_HOME = Places("TS", "d1", "m1", "v1")


async def test_who_has_a_seat_is_counted_where_they_live(seats: Directory) -> None:
    """At each level, once, however often it is told, and on however many gateways they are."""
    await seats.touch("g1", USERS)
    await seats.touch("g2", USERS)
    for _ in range(2):
        await seats.settle(dict.fromkeys(USERS, _HOME))
    for level, place in zip(LEVELS, ("TS", "d1", "m1", "v1"), strict=True):
        assert await seats.residents(level, [place, "elsewhere"]) == len(USERS)
    assert await seats.residents("mandal", ["v1"]) == 0


async def test_who_moves_is_counted_at_the_new_place_only(seats: Directory) -> None:
    """What stayed the same stays counted."""
    await seats.touch("g1", ["rama"])
    await seats.settle({"rama": _HOME})
    await seats.settle({"rama": Places("TS", "d1", "m1", "v2")})
    assert [await seats.residents("village", [place]) for place in ("v1", "v2")] == [0, 1]
    assert await seats.residents("state", ["TS"]) == 1


async def test_who_has_no_seat_is_not_counted(seats: Directory, broker: Broker) -> None:
    """They left before it was told; nothing of them is kept."""
    await seats.settle({"rama": _HOME})
    assert await keys_there(broker) == set()


async def test_counts_go_with_the_last_seat(seats: Directory, broker: Broker) -> None:
    """Dropped or reaped; while there is another seat they stay."""
    await seats.touch("g1", ["rama", "sita"])
    await seats.touch("g2", ["rama"])
    await seats.settle({"rama": _HOME, "sita": _HOME})
    await seats.drop("g1", ["sita"])
    assert await seats.residents("village", ["v1"]) == 1
    await seats.reap("g1")
    assert await seats.residents("village", ["v1"]) == 1
    await seats.reap("g2")
    assert await seats.residents("village", ["v1"]) == 0
    assert await keys_there(broker) == set()


async def test_a_place_whose_id_is_none_is_not_counted(seats: Directory) -> None:
    """It cannot be named in a broadcast, and must not be taken for another."""
    await seats.touch("g1", ["rama"])
    await seats.settle({"rama": Places(village="v1 and v2", mandal="m:1")})
    assert await seats.residents("village", ["v1"]) == 0


async def test_reaping_takes_both_streams_of_a_gateway(seats: Directory, broker: Broker) -> None:
    """What was in them is due."""
    for stream in (keys.downlink("g1"), keys.alarms("g1")):
        await broker.command("XADD", stream, "*", "hello", "")
    await beat(broker)
    await lapse(broker, "g2")
    assert await seats.known() == {"g1", "g2"}
    await seats.reap("g1")
    assert await keys_there(broker) == {keys.gateways()}
    assert await seats.known() == {"g2"}
