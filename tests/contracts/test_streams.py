"""Frames through Redis Streams and back, on real brokers that are paused and killed meanwhile; and who owns what."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import pytest

from libs import keys, lifecycle, membership
from libs.broker import AWAY, Broker, Call, connect
from libs.streams import consumer, leases, producer
from libs.streams.group_commit import Full
from libs.streams.leases import Leases
from libs.streams.producer import Producer
from libs.wire import codec
from libs.wire.frames import Join, Origin
from tests.support.broker import RunningBroker
from tests.support.waiting import until

PARTITIONS = 4
SOON_S = 5.0


def frame(number: int, partition: int = 0) -> Join:
    """A frame that is known by its number."""
    return Join(Origin("g1", "socket"), str(number), f"group:{partition}", "join_group")


async def entries(broker: Broker, partition: int = 0) -> list[list[int]]:
    """The numbers in each entry of a partition's stream, read as a router reads."""
    read = await consumer.read(broker, {keys.inbound(partition): consumer.BEGINNING}, count=100_000, block_ms=1)
    packed = [entry.frames or b"" for entry in read.get(keys.inbound(partition), ())]
    return [[int(one.user_id) for one in codec.unpack_inbound(frames)[0] if isinstance(one, Join)] for frames in packed]


async def numbers(broker: Broker, partition: int = 0) -> list[int]:
    """All numbers in a partition's stream, in their order."""
    return [number for entry in await entries(broker, partition) for number in entry]


def first_seen(read: Iterable[int]) -> list[int]:
    """What a reader does that knows repeats by their ids."""
    return list(dict.fromkeys(read))


@asynccontextmanager
async def producing(broker: Broker, *, limit: int = 10_000, linger_s: float = 0.0) -> AsyncIterator[Producer]:
    """A producer at work."""
    made = Producer(broker, limit=limit, linger_s=linger_s)
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(made.run())
        try:
            yield made
        finally:
            await lifecycle.cancel([working])


async def written(made: Producer) -> None:
    async with asyncio.timeout(SOON_S):
        await made.wait_written()


# The producer


async def test_frames_of_a_partition_keep_their_order(broker: Broker) -> None:
    """Whatever is gathered with what: each partition's stream has its frames as they were published."""
    async with producing(broker) as made:
        for number in range(2000):
            made.publish_nowait(number % PARTITIONS, frame(number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await written(made)
    for partition in range(PARTITIONS):
        assert await numbers(broker, partition) == list(range(partition, 2000, PARTITIONS))


async def test_frames_that_wait_together_travel_together(broker: Broker) -> None:
    """A flush is one entry a partition: that is what makes a frame cheap."""
    async with producing(broker) as made:
        for number in range(100):
            made.publish_nowait(number % 2, frame(number))
        await written(made)
    assert [len(entry) for entry in await entries(broker, 0)] == [50]
    assert [len(entry) for entry in await entries(broker, 1)] == [50]


async def test_an_entry_is_split_at_its_bound(broker: Broker) -> None:
    """An entry is read whole, so it is bounded; order goes on over the split."""
    bound = producer._MAX_FRAMES_AN_ENTRY
    async with producing(broker) as made:
        for number in range(2 * bound + 1):
            made.publish_nowait(0, frame(number))
        await written(made)
    assert [len(entry) for entry in await entries(broker)] == [bound, bound, 1]
    assert await numbers(broker) == list(range(2 * bound + 1))


async def test_a_full_producer_says_so_and_takes_nothing(broker: Broker, empty_server: RunningBroker) -> None:
    """At the limit `Full` is raised; what was taken is written, what was refused is not, and then there is room."""
    async with producing(broker, limit=10) as made:
        empty_server.pause()
        try:
            for number in range(10):
                made.publish_nowait(0, frame(number))
            with pytest.raises(Full):
                made.publish_nowait(0, frame(10))
            await asyncio.sleep(0)
            with pytest.raises(Full):  # what is in flight counts
                made.publish_nowait(0, frame(11))
            assert len(made) == 10
        finally:
            empty_server.resume()
        await written(made)
        made.publish_nowait(0, frame(12))
        await written(made)
    assert await numbers(broker) == [*range(10), 12]


async def test_a_producer_lingers_only_when_it_is_busy(broker: Broker) -> None:
    """One frame at a time never waits for company, however long the linger."""
    async with producing(broker, linger_s=3600.0) as made:
        for number in range(5):
            made.publish_nowait(0, frame(number))
            await written(made)
    assert await numbers(broker) == list(range(5))


async def test_waiting_for_nothing_returns_at_once(broker: Broker) -> None:
    """What was never published needs no writing, also with nobody at work."""
    async with asyncio.timeout(SOON_S):
        await Producer(broker, limit=1, linger_s=0).wait_written()


# The broker is away


async def test_a_paused_broker_gets_everything_in_order_when_it_wakes_up(
    broker: Broker, empty_server: RunningBroker
) -> None:
    """SIGSTOP and SIGCONT: what was in flight and what waited behind it is written once, as published."""
    async with producing(broker) as made:
        made.publish_nowait(0, frame(0))
        await written(made)
        empty_server.pause()
        try:
            for number in range(1, 200):
                made.publish_nowait(0, frame(number))
                await asyncio.sleep(0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await made.wait_written()
            assert len(made) == 199
        finally:
            empty_server.resume()
        await written(made)
    assert await numbers(broker) == list(range(200))


async def test_a_killed_broker_gets_everything_in_order_when_it_is_back(
    broker: Broker, empty_server: RunningBroker
) -> None:
    """A flush is tried again until it succeeds: nothing is lost, what is repeated comes in order."""
    empty_server.keep_at_once()
    async with producing(broker) as made:
        for number in range(100):
            made.publish_nowait(0, frame(number))
        await written(made)
        for number in range(100, 400):
            made.publish_nowait(0, frame(number))
        await asyncio.sleep(0)  # the flush is on its way
        empty_server.kill()
        for number in range(400, 500):
            made.publish_nowait(0, frame(number))
        await empty_server.start()
        await written(made)
    async with connect(empty_server.url) as fresh:
        assert first_seen(await numbers(fresh)) == list(range(500))


async def test_what_was_read_goes_unless_the_stream_never_came_so_far(broker: Broker) -> None:
    """A failover lost its newest entries, and the clock that makes ids is behind: what comes now has smaller ids."""
    whole, gone, behind = keys.downlink("g1"), keys.alarms("g1"), "talowa:{gw:g1}:other"
    for stream in (whole, behind):
        for number in (1, 2, 3):
            await broker.command("XADD", stream, f"5000-{number}", "f", "x")
    read = {whole: "5000-2", gone: "5000-1", behind: "5000-4"}
    assert await broker.script(consumer.trim(read)) == [1, 0, -1]
    assert await broker.command("XLEN", whole) == 1
    assert await broker.command("XLEN", behind) == 3, "left for who reads it anew"
    # All that was read may go, and the stream is none that is behind for it.
    assert await broker.script(consumer.trim({whole: "5000-3"})) == [1]
    assert await broker.script(consumer.trim({whole: "5000-3"})) == [1]
    assert await broker.script(consumer.trim({whole: consumer.BEGINNING})) == [1]


async def test_a_flush_that_failed_halfway_is_repeated_in_order(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer was lost, the entries were not: a reader sees frames twice, and never one before its time."""
    attempt = broker.attempt
    failures = count(1)

    async def losing(commands: Sequence[tuple[str | bytes | int | float, ...]]) -> list[object]:
        found = await attempt(commands)
        if next(failures) < 3:
            raise ConnectionResetError
        return found

    monkeypatch.setattr(broker, "attempt", losing)
    async with producing(broker) as made:
        for number in range(20):
            made.publish_nowait(0, frame(number))
        await written(made)
        made.publish_nowait(0, frame(20))
        await written(made)
    read = await numbers(broker)
    assert read == [*range(20), *range(20), *range(20), 20]
    assert first_seen(read) == list(range(21))


async def test_a_broker_without_memory_is_away_until_it_has_some(broker: Broker) -> None:
    """With `noeviction` a full broker refuses writes: they wait, as for one that is down."""
    if broker.is_cluster:
        pytest.skip("a test of one server's own settings")
    async with producing(broker) as made:
        await broker.command("CONFIG", "RESETSTAT")
        await broker.command("CONFIG", "SET", "maxmemory", "1")

        async def has_refused() -> bool:
            return "errorstat_OOM" in await broker.command("INFO", "errorstats")

        try:
            made.publish_nowait(0, frame(0))
            await until(has_refused, SOON_S, "the producer to be refused")
        finally:
            await broker.command("CONFIG", "SET", "maxmemory", "0")
        await written(made)
    assert await numbers(broker) == [0]


# The consumer


async def publish(broker: Broker, partition: int, *of: int) -> None:
    """One entry with these numbers."""
    for command in producer.entries(partition, [frame(number) for number in of]):
        await broker.command(*command)


async def test_reading_takes_nothing_away(broker: Broker) -> None:
    """Whoever reads, and however often: all is there for the next reader, from the beginning."""
    await publish(broker, 0, 1, 2)
    await publish(broker, 0, 3)
    first = await consumer.read(broker, {keys.inbound(0): consumer.BEGINNING}, count=10, block_ms=1)
    assert await consumer.read(broker, {keys.inbound(0): consumer.BEGINNING}, count=10, block_ms=1) == first
    assert await numbers(broker) == [1, 2, 3]


async def test_one_read_serves_several_streams(broker: Broker) -> None:
    """Each from its own position; a stream without news, or that does not exist, is left out."""
    await publish(broker, 0, 1)
    await publish(broker, 1, 2)
    await publish(broker, 2, 3)
    streams = [keys.inbound(partition) for partition in range(PARTITIONS)]
    all_of_them = await consumer.read(broker, dict.fromkeys(streams, consumer.BEGINNING), count=10, block_ms=1)
    assert list(all_of_them) == streams[:3]
    await publish(broker, 1, 4)
    positions = {stream: of_stream[-1].id for stream, of_stream in all_of_them.items()}
    news = await consumer.read(broker, positions, count=10, block_ms=1)
    assert list(news) == [keys.inbound(1)]
    assert len(news[keys.inbound(1)]) == 1


async def test_what_one_stream_brings_does_not_wait_for_the_others(broker: Broker, empty_server: RunningBroker) -> None:
    """In a cluster each partition is read apart: the first that has news ends the read, and the others go on."""
    streams = [keys.inbound(partition) for partition in range(4)]
    positions = dict.fromkeys(streams, consumer.BEGINNING)
    async with (
        connect(empty_server.url, blocking_s=30) as reader,
        consumer.reading(reader) as reads,
        asyncio.timeout(SOON_S),
        asyncio.TaskGroup() as tasks,
    ):
        for partition in (2, 0, 2):
            waiting = tasks.create_task(reads.read(positions, count=10, block_ms=30_000))
            await asyncio.sleep(0)
            await publish(broker, partition, partition)
            ((stream, (entry,)),) = (await waiting).items()
            assert stream == streams[partition]
            positions = positions | {stream: entry.id}


async def test_what_was_read_under_another_lease_is_dropped(broker: Broker, empty_server: RunningBroker) -> None:
    """Its entries may have been dealt with by another owner meanwhile."""
    positions = {keys.inbound(0): consumer.BEGINNING}
    async with connect(empty_server.url, blocking_s=30) as reader, consumer.reading(reader) as reads:
        assert await reads.read(positions, count=10, block_ms=1, under=1) == {}
        await publish(broker, 0, 1)
        (entry,) = (await reads.read(positions, count=10, block_ms=5000, under=2))[keys.inbound(0)]
        assert entry.frames is not None


async def test_what_is_read_where_somebody_else_holds_the_lease_is_left_out(
    broker: Broker, empty_server: RunningBroker
) -> None:
    """The server that gives the entries says who holds it, and no other; one that nobody holds is no more ours."""
    for number in range(3):
        await publish(broker, number, number)
    await broker.command("SET", keys.lease(0), "7 r1")
    await broker.command("SET", keys.lease(1), "8 r2")
    streams = [keys.inbound(partition) for partition in range(3)]
    held = {stream: (keys.lease(partition), "7 r1") for partition, stream in enumerate(streams)}
    positions = dict.fromkeys(streams, consumer.BEGINNING)
    found: dict[str, list[consumer.Entry]] = {}
    async with connect(empty_server.url, blocking_s=30) as reader, consumer.reading(reader) as reads:
        async with asyncio.timeout(SOON_S):
            while len(found) < len(streams):
                found |= await reads.read(positions, count=10, block_ms=5000, held=held)
    assert [len(found[stream]) for stream in streams] == [1, 0, 0]


async def test_a_read_takes_so_many_entries_of_each_stream(broker: Broker) -> None:
    """`count` bounds a batch by stream, so that a busy partition does not starve the others."""
    for number in range(10):
        await publish(broker, number % 2, number)
    read = await consumer.read(
        broker, {keys.inbound(0): consumer.BEGINNING, keys.inbound(1): consumer.BEGINNING}, count=3, block_ms=1
    )
    assert [len(of_stream) for of_stream in read.values()] == [3, 3]


async def test_a_read_without_news_ends_empty(broker: Broker) -> None:
    """After `block_ms`, so that a partition gained meanwhile is read soon."""
    async with asyncio.timeout(SOON_S):
        assert await consumer.read(broker, {keys.inbound(0): consumer.BEGINNING}, count=1, block_ms=10) == {}


async def test_a_blocked_read_ends_with_the_first_entry(broker: Broker, empty_server: RunningBroker) -> None:
    """News are not kept waiting for the end of the block."""
    if broker.is_cluster:
        pytest.skip("only one server tells who is blocked on it")
    async with connect(empty_server.url, blocking_s=60) as reader, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(
            consumer.read(reader, {keys.inbound(0): consumer.BEGINNING}, count=1, block_ms=60_000)
        )

        async def is_blocked() -> bool:
            return bool((await broker.command("INFO", "clients"))["blocked_clients"])

        await until(is_blocked, SOON_S, "the read to block")
        await publish(broker, 0, 1)
        async with asyncio.timeout(SOON_S):
            assert len((await waiting)[keys.inbound(0)]) == 1


async def test_an_entry_without_frames_is_told_as_such(broker: Broker) -> None:
    """A gateway's first entry only keeps its downlink in being."""
    entry_id = await broker.command("XADD", keys.downlink("g1"), "*", "hello", "")
    read = await consumer.read(broker, {keys.downlink("g1"): consumer.BEGINNING}, count=1, block_ms=1)
    assert read == {keys.downlink("g1"): [consumer.Entry(entry_id.decode(), None)]}


async def test_frames_are_carried_as_bytes(broker: Broker) -> None:
    """Whatever bytes they are."""
    packed = bytes(range(256))
    await broker.command("XADD", keys.inbound(0), "*", producer.FIELD, packed)
    ((_, (entry,)),) = (await consumer.read(broker, {keys.inbound(0): consumer.BEGINNING}, count=1, block_ms=1)).items()
    assert entry.frames == packed


async def test_a_reader_finds_a_broker_away_and_back(broker: Broker, empty_server: RunningBroker) -> None:
    """A read raises what is known as away, and the same reader reads on when the broker is back."""
    empty_server.keep_at_once()
    await publish(broker, 0, 1)
    empty_server.kill()
    with pytest.raises(AWAY):
        await numbers(broker)
    await empty_server.start()
    assert await numbers(broker) == [1]


# Leases


class Router:
    """A router that only keeps what it was told."""

    def __init__(self, broker: Broker, name: str, partitions: int = PARTITIONS) -> None:
        self.tokens: dict[int, int] = {}
        self.lost: list[int] = []
        self.handed_over: list[int] = []
        self.is_busy = False
        self.leases = Leases(broker, name, partitions, self)

    def gain(self, partition: int, token: int) -> None:
        assert partition not in self.tokens
        self.tokens[partition] = token

    def lose(self, partition: int) -> None:
        del self.tokens[partition]
        self.lost.append(partition)

    def hand_over(self, partition: int) -> bool:
        if self.is_busy:
            return False
        self.tokens.pop(partition, None)
        self.handed_over.append(partition)
        return True


@asynccontextmanager
async def working(*routers: Router) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Routers at work; a task that is cancelled is a router killed with -9."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(router.leases.run()) for router in routers]
        try:
            yield running
        finally:
            await lifecycle.cancel(running)


def shared(*routers: Router, partitions: int = PARTITIONS) -> bool:
    """Whether every partition has one owner among these, and each owns what it should."""
    names = [router.leases._router for router in routers]
    return all(
        set(router.leases.owned)
        == router.tokens.keys()
        == {p for p in range(partitions) if leases.rightful_owner(p, names) == router.leases._router}
        for router in routers
    )


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that lapse and are looked at many times faster."""
    monkeypatch.setattr(leases, "LEASE_TTL_MS", 1000)
    monkeypatch.setattr(leases, "_TURN_S", 0.05)


async def test_routers_share_the_partitions(broker: Broker, brisk: None) -> None:
    """Each partition comes to have exactly one owner, however many start at once."""
    routers = [Router(broker, f"r{n}", 16) for n in range(3)]
    async with working(*routers):
        await until(lambda: shared(*routers, partitions=16), SOON_S, "16 partitions among three routers")


async def test_a_router_that_joins_gets_its_share(broker: Broker, brisk: None) -> None:
    """Handed over, not lost: what was under way is finished first, and tokens rise."""
    old, new = Router(broker, "r1", 16), Router(broker, "r2", 16)
    async with working(old):
        await until(lambda: shared(old, partitions=16), SOON_S, "all to be owned by one")
        before = dict(old.tokens)
        async with working(new):
            await until(lambda: shared(old, new, partitions=16), SOON_S, "the new router to have its share")
    assert old.lost == []
    assert set(old.handed_over) == new.tokens.keys()
    assert all(token > before[partition] for partition, token in new.tokens.items())


async def test_a_killed_router_is_replaced_when_its_leases_lapse(broker: Broker, brisk: None) -> None:
    """Nobody was told; its name and its leases run out, and the others take over."""
    dying, other = Router(broker, "r1"), Router(broker, "r2")
    async with working(dying, other) as (killed, _):
        await until(lambda: shared(dying, other), SOON_S, "both to have their share")
        killed.cancel()
        await until(lambda: shared(other), SOON_S, "the other to own all")


async def test_a_router_that_leaves_is_replaced_at_once(broker: Broker) -> None:
    """Long before its leases would lapse: it gives them back."""
    leaving, other = Router(broker, "r1"), Router(broker, "r2")
    async with working(leaving, other):
        await until(lambda: shared(leaving, other), SOON_S, "both to have their share")
        await leaving.leases.release_all()
        assert leaving.leases.owned == set()
        assert not leaving.tokens
        async with asyncio.timeout(leases.LEASE_TTL_MS / 1000 / 2):
            await until(lambda: shared(other), SOON_S, "the other to own all")


async def test_a_router_that_left_takes_nothing_again(broker: Broker, brisk: None) -> None:
    """It still runs for a while, to finish; its name is gone from among the routers."""
    leaving = Router(broker, "r1")
    async with working(leaving):
        await until(lambda: shared(leaving), SOON_S, "all to be owned")
        await leaving.leases.release_all()
        await asyncio.wait_for(leaving.leases._turn(), SOON_S)
        assert not leaving.tokens
        assert await membership.live(broker, keys.routers(), 60_000) == frozenset()


async def test_a_partition_that_starts_over_has_a_higher_token(broker: Broker, brisk: None) -> None:
    """A fenced step found the lease gone, or a place was taken: the lease is taken anew."""
    router = Router(broker, "r1")
    async with working(router):
        await until(lambda: shared(router), SOON_S, "all to be owned")
        before = router.tokens[2]
        router.leases.forget(2)
        assert router.lost == [2]
        await until(lambda: shared(router), SOON_S, "the partition to be gained again")
        assert router.tokens[2] > before


async def test_a_lease_taken_by_another_is_lost(broker: Broker, brisk: None) -> None:
    """A router that was paused finds out at its next turn."""
    router = Router(broker, "r1")
    async with working(router):
        await until(lambda: shared(router), SOON_S, "all to be owned")
        await broker.command("SET", keys.lease(1), "99 other")
        await until(lambda: router.lost == [1], SOON_S, "the loss to be noticed")
        assert 1 not in router.leases.owned


async def test_a_router_without_a_broker_gives_its_partitions_up(
    broker: Broker, empty_server: RunningBroker, brisk: None
) -> None:
    """When they must have lapsed, it owns nothing; with the broker back it takes them under higher tokens."""
    empty_server.keep_at_once()
    router = Router(broker, "r1")
    async with working(router):
        await until(lambda: shared(router), SOON_S, "all to be owned")
        before = dict(router.tokens)
        empty_server.kill()
        await until(lambda: not router.leases.is_current, SOON_S, "the leases to be out of date")
        await until(lambda: not router.tokens, SOON_S, "all to be given up")
        await empty_server.start()
        await until(lambda: shared(router), SOON_S, "all to be owned again")
        assert all(router.tokens[partition] > before[partition] for partition in before)


async def test_a_router_whose_broker_was_wiped_starts_over(broker: Broker, brisk: None) -> None:
    """Its leases are gone: all partitions are lost and taken anew, above the tokens from before."""
    router = Router(broker, "r1")
    async with working(router):
        await until(lambda: shared(router), SOON_S, "all to be owned")
        before = dict(router.tokens)
        await broker.command("FLUSHALL")
        await until(lambda: len(router.lost) == PARTITIONS, SOON_S, "the loss to be noticed")
        await until(lambda: shared(router), SOON_S, "all to be owned again")
        assert all(router.tokens[partition] > before[partition] for partition in before)


async def test_what_is_held_is_renewed_in_the_first_round_trip(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router that is starved of CPU takes long for each: its leases would lapse behind the third."""
    router = Router(broker, "r1")
    await router.leases._turn()
    assert router.tokens.keys() == set(range(PARTITIONS))
    asked: list[Sequence[Call]] = []
    scripts = broker.scripts

    async def noting(calls: Sequence[Call]) -> list[Any]:
        asked.append(calls)
        return await scripts(calls)

    monkeypatch.setattr(broker, "scripts", noting)
    await router.leases._turn()
    (calls,) = asked
    assert len(calls) == 2 + PARTITIONS


async def test_a_partition_that_starts_over_in_the_middle_of_a_turn_has_a_higher_token(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its renewal is under way, and brings no old token back."""
    router = Router(broker, "r1")
    await router.leases._turn()
    before = router.tokens[2]
    scripts = broker.scripts

    async def starting_over(calls: Sequence[Call]) -> list[Any]:
        found = await scripts(calls)
        router.leases.forget(2)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(broker, "scripts", starting_over)
        await router.leases._turn()
    assert (router.lost, 2 in router.tokens) == ([2], False)
    await router.leases._turn()
    assert router.tokens[2] > before


async def test_handing_over_slowly_costs_no_partition(broker: Broker, brisk: None) -> None:
    """A router that is finishing what is under way keeps its leases, those it is to give back too."""
    old, new = Router(broker, "r1", 16), Router(broker, "r2", 16)
    async with working(old):
        await until(lambda: shared(old, partitions=16), SOON_S, "all to be owned by one")
        before = dict(old.tokens)
        old.is_busy = True
        async with working(new):
            with pytest.raises(AssertionError, match="to have its share"):
                await until(
                    lambda: shared(old, new, partitions=16), 3 * leases.LEASE_TTL_MS / 1000, "to have its share"
                )
            assert (old.tokens, old.lost) == (before, [])
            old.is_busy = False
            await until(lambda: shared(old, new, partitions=16), SOON_S, "the new router to have its share")
            assert old.lost == []


async def test_a_partition_lost_while_others_are_handed_over_ends_nobody(broker: Broker, brisk: None) -> None:
    """A fenced step finds a lease gone just then: there is nothing to give back, and the router goes on."""
    old, new = Router(broker, "r1", 16), Router(broker, "r2", 16)
    hand_over = old.hand_over

    def losing(partition: int) -> bool:
        for another in sorted(old.tokens.keys() - {partition}):
            old.leases.forget(another)
        return hand_over(partition)

    async with working(old):
        await until(lambda: shared(old, partitions=16), SOON_S, "all to be owned by one")
        old.hand_over = losing  # type: ignore[method-assign]
        async with working(new):
            await until(lambda: shared(old, new, partitions=16), SOON_S, "the new router to have its share")


def test_the_rightful_owner_is_the_same_for_all_who_ask() -> None:
    """The order in which routers are seen does not matter; nobody owns what no router is there for."""
    routers = [f"r{n}" for n in range(5)]
    for partition in range(16):
        assert leases.rightful_owner(partition, routers) == leases.rightful_owner(partition, routers[::-1])
    assert leases.rightful_owner(0, []) is None


def test_only_a_lost_routers_partitions_move() -> None:
    """Who had another owner keeps it: that is what rendezvous hashing is for."""
    routers = [f"r{n}" for n in range(5)]
    for partition in range(99):
        owner = leases.rightful_owner(partition, routers)
        for gone in set(routers) - {owner}:
            with suppress(ValueError):
                assert leases.rightful_owner(partition, set(routers) - {gone}) == owner
