"""Connections to the broker: its address, its age, batches, scripts, and what it means to be away."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis import exceptions
from redis.asyncio import Redis, SentinelConnectionPool, SSLConnection

from libs import broker as module
from libs import lifecycle
from libs.broker import AWAY, Broker, Script, connect, wait_until_usable
from libs.lifecycle import Stopped, Unstartable
from services.local import ports
from services.local.broker import find_server
from tests.support.broker import HOST, RunningBroker, live_broker
from tests.support.waiting import until

_look = Script("libs", "look.lua")
_beat = Script("libs", "beat.lua")
KEY = "members"
NAME = "talowa"
SOON_S = 15.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    """The embedded broker."""
    async with live_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest_asyncio.fixture
async def broker(server: RunningBroker) -> AsyncIterator[Broker]:
    """A client of an empty broker."""
    server.empty()
    async with connect(server.url) as commands:
        yield commands


# Addresses


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache.example:6380/2", {"host": "cache.example", "port": 6380, "db": 2}),
        ("redis://user:s3cret@cache.example", {"username": "user", "password": "s3cret"}),
        ("rediss://cache.example:6380", {"host": "cache.example", "port": 6380}),
        ("unix:///run/valkey.sock", {"path": "/run/valkey.sock"}),
    ],
)
async def test_a_server_alone_is_found_by_its_address(url: str, expected: dict[str, Any]) -> None:
    """Host, port, database and password as the address has them; nobody is called until there is a command."""
    async with connect(url) as commands:
        assert not commands.is_cluster
        arguments = commands._servers.pool.connection_kwargs  # type: ignore[union-attr]
        assert {name: arguments[name] for name in expected} == expected


async def test_rediss_is_spoken_over_tls() -> None:
    """A typed `s` is not forgotten."""
    async with connect("rediss://cache.example") as commands:
        assert commands._servers.pool.connection_class is SSLConnection  # type: ignore[union-attr]


async def test_sentinels_are_asked_for_the_master() -> None:
    """All hosts of the address, port 26379 where it names none, and the master's name after the slash."""
    async with connect("redis+sentinel://:s3cret@one.example:5000,two.example/talowa") as commands:
        pool = commands._servers.pool
        assert isinstance(pool, SentinelConnectionPool)
        assert pool.service_name == "talowa"
        asked = [
            (sentinel.connection_pool.connection_kwargs["host"], sentinel.connection_pool.connection_kwargs["port"])
            for sentinel in pool.sentinel_manager.sentinels
        ]
        assert asked == [("one.example", 5000), ("two.example", 26379)]
        assert pool.connection_kwargs["password"] == "s3cret"  # noqa: S105 - not one


async def test_a_master_without_a_name_is_mymaster() -> None:
    """As Sentinel's own documents call it."""
    async with connect("redis+sentinel://one.example") as commands:
        assert commands._servers.pool.service_name == "mymaster"  # type: ignore[union-attr]


async def test_a_cluster_is_known_as_one() -> None:
    """So that streams of several slots are read apart."""
    async with connect("redis+cluster://one.example:7000") as commands:
        assert commands.is_cluster


@pytest.mark.parametrize("url", ["http://cache.example", "cache.example:6379", "", "redis+magic://x"])
async def test_an_address_of_another_kind_is_refused_with_the_remedy(url: str) -> None:
    """The message names the variable and what it may be."""
    with pytest.raises(Unstartable, match=r"REDIS_URL: .* is not known\. Use redis://, rediss://"):
        async with connect(url):
            pass


async def test_a_refused_address_is_not_shown_with_its_password() -> None:
    """It would stand in the log."""
    with pytest.raises(Unstartable) as refused:
        async with connect("http://user:s3cret@cache.example"):
            pass
    assert "s3cret" not in str(refused.value)


async def test_a_reader_waits_longer_than_its_read_may_block(server: RunningBroker) -> None:
    """Else each quiet read would look like a broker that is gone."""
    async with connect(server.url) as commands, connect(server.url, blocking_s=30) as reader:
        waits = [one._timeout_s for one in (commands, reader)]
    assert waits == [module._TIMEOUT_S, module._TIMEOUT_S + 30]


# Its age


class Says:
    """A broker that says its version."""

    is_cluster = False

    def __init__(self, **info: str) -> None:
        self.info = info

    async def command(self, *_: str) -> dict[str, str]:
        return self.info


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "7.0.15"},
        {"redis_version": "8.2.3"},
        {"redis_version": "7.2.4", "valkey_version": "8.0.1"},
        {"redis_version": "7.2.4", "valkey_version": "9.1.0"},
    ],
)
async def test_a_server_that_is_young_enough_is_used(info: dict[str, str]) -> None:
    """Redis from 7.0, Valkey from 8."""
    await wait_until_usable(Says(**info), asyncio.Event())  # type: ignore[arg-type]


@pytest.mark.parametrize("info", [{"redis_version": "6.2.14"}, {}])
async def test_a_server_that_is_too_old_is_not_started_with(info: dict[str, str]) -> None:
    """The message names its version and the least."""
    with pytest.raises(Unstartable, match=r"version (6\.2\.14|0); Redis 7\.0 or Valkey 8 is the least"):
        await wait_until_usable(Says(**info), asyncio.Event())  # type: ignore[arg-type]


async def test_who_is_stopped_waits_for_no_broker() -> None:
    """SIGTERM during a start without a broker ends it."""
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(Stopped):
        await wait_until_usable(Says(), stop)  # type: ignore[arg-type]


# Commands, batches, scripts


async def test_a_batch_answers_in_its_order(broker: Broker) -> None:
    """An error of one command stands in its place, and the others are done."""
    replies = await broker.batch([("SET", "k", "v"), ("LPUSH", "k", "x"), ("GET", "k")])
    assert replies[2] == b"v"
    assert isinstance(replies[1], exceptions.ResponseError)
    assert await broker.batch([]) == []


async def test_a_script_that_the_broker_has_not_seen_is_loaded(broker: Broker) -> None:
    """Also when only some of a batch are new, and again after a restart forgot them."""
    calls = [_beat.call([KEY], "one", 60_000), _look.call([KEY], 60_000), _beat.call([KEY], "one", 60_000)]
    assert await broker.scripts(calls) == [0, [[b"one"], []], 1]
    await broker.command("SCRIPT", "FLUSH")
    await broker.script(_look.call([KEY], 60_000))
    assert await broker.scripts(calls) == [1, [[b"one"], []], 1]
    assert await broker.scripts([]) == []


async def test_a_script_that_fails_is_told(broker: Broker) -> None:
    """By its error, not by a reply that looks like one."""
    await broker.command("SET", KEY, "not a sorted set")
    with pytest.raises(exceptions.ResponseError, match="WRONGTYPE"):
        await broker.script(_look.call([KEY], 60_000))


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError(),
        exceptions.TimeoutError(),
        exceptions.BusyLoadingError(),
        exceptions.ReadOnlyError(),
        exceptions.OutOfMemoryError(),
        exceptions.ClusterDownError("down"),
        exceptions.MasterDownError("down"),
        exceptions.TryAgainError("later"),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_away(error: Exception) -> None:
    """Trying again later may work: such a broker is loading, failing over, full, or not there."""
    assert isinstance(error, AWAY)


@pytest.mark.parametrize("error", [exceptions.ResponseError(), exceptions.DataError(), exceptions.NoScriptError()])
def test_a_mistake_of_ours_is_not_away(error: Exception) -> None:
    """Trying it again for ever would hide it."""
    assert not isinstance(error, AWAY)


async def test_a_broker_that_is_not_there_is_away(server: RunningBroker, broker: Broker) -> None:
    """A command raises at once: nobody retries behind its caller's back."""
    server.kill()
    try:
        async with asyncio.timeout(2):
            for _ in range(2):
                with pytest.raises(AWAY):
                    await broker.command("PING")
                with pytest.raises(AWAY):
                    await broker.batch([("PING",)])
    finally:
        await server.start()
    assert await broker.command("PING")


async def test_who_is_cancelled_in_a_command_ends(broker: Broker) -> None:
    """Else a loop outlives the death of its task group: the process neither works nor dies."""

    async def work() -> None:
        while True:
            await broker.command("PING")
            await broker.batch([("PING",), ("PING",)])

    for _ in range(100):
        task = asyncio.get_running_loop().create_task(work())
        await asyncio.sleep(random.uniform(0, 0.002))
        task.cancel()
        _, survivors = await asyncio.wait([task], timeout=0.5)
        await lifecycle.cancel([task])
        assert not survivors


async def test_a_server_that_may_not_write_now_is_away(broker: Broker) -> None:
    """Its replica is gone: a command, a batch and a script say so, and nobody dies of it."""
    await broker.command("CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        with pytest.raises(AWAY):
            await broker.command("SET", "a", 1)
        assert isinstance((await broker.batch([("SET", "a", 1)]))[0], AWAY)
        with pytest.raises(AWAY):
            await broker.script(_beat.call([KEY], "one", 1000))
    finally:
        await broker.command("CONFIG", "SET", "min-replicas-to-write", 0)


async def test_a_reader_whose_server_is_demoted_finds_it_away(server: RunningBroker, broker: Broker) -> None:
    """A failover ends blocking reads with an error of its own."""

    async def is_blocked() -> bool:
        return int((await broker.command("INFO", "clients"))["blocked_clients"]) > 0

    async def demote() -> None:
        await until(is_blocked, 5, "the reader to block")
        await broker.command("REPLICAOF", "127.0.0.1", 1)

    async with connect(server.url, blocking_s=5.0) as reader, asyncio.TaskGroup() as tasks:
        tasks.create_task(demote())
        try:
            with pytest.raises(AWAY):
                await reader.command("XREAD", "BLOCK", 5000, "STREAMS", "none", "0-0")
        finally:
            await broker.command("REPLICAOF", "NO", "ONE")


async def test_a_primary_that_was_replaced_is_left_before_it_knows(server: RunningBroker, tmp_path: Path) -> None:
    """Also by a read that waits there. Sentinels name another, and the old one takes itself for the primary still."""
    async with (
        live_broker(tmp_path / "other") as other,
        _sentinel(tmp_path, server.port) as (url, ask),
        connect(url) as commands,
        connect(url, blocking_s=60) as reader,
        asyncio.TaskGroup() as tasks,
    ):
        assert await _port(commands) == server.port
        following = [tasks.create_task(one.follow()) for one in (commands, reader)]

        async def read() -> None:
            with pytest.raises(exceptions.ConnectionError, match="another server"):
                await reader.command("XREAD", "BLOCK", 60_000, "STREAMS", "s", "0-0")

        reading = tasks.create_task(read())
        await until(lambda: reader._busy, SOON_S, "the read to wait")
        await ask("REMOVE", NAME)
        await ask("MONITOR", NAME, HOST, other.port, 1)

        async def is_followed() -> bool:
            return await _port(commands) == other.port

        await until(is_followed, SOON_S, "the new primary", despite=AWAY)
        async with asyncio.timeout(SOON_S):
            await reading
        assert await _port(reader) == other.port
        await lifecycle.cancel(following)


async def _port(commands: Broker) -> int:
    """Where the server listens that answers."""
    _, port = await commands.command("CONFIG", "GET", "port")
    return int(port)


@asynccontextmanager
async def _sentinel(home: Path, primary: int) -> AsyncIterator[tuple[str, Callable[..., Awaitable[object]]]]:
    """One Sentinel: the address to use it by, and a way to talk to it."""
    (port,) = ports.free(1, HOST, start=random.randrange(10_000, 30_000))
    file = home / "sentinel.conf"
    file.write_text(f"port {port}\nbind {HOST}\ndir {home}\nsentinel monitor {NAME} {HOST} {primary} 1\n")
    process = await asyncio.create_subprocess_exec(
        str(find_server()), str(file), "--sentinel", stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with Redis(host=HOST, port=port, protocol=2) as client:

            async def ask(*words: str | int) -> object:
                return await client.execute_command("SENTINEL", *words)  # type: ignore[no-untyped-call]

            await until(partial(ask, "MASTERS"), SOON_S, "a Sentinel", despite=(*AWAY, exceptions.RedisError))
            yield f"redis+sentinel://{HOST}:{port}/{NAME}", ask
    finally:
        process.kill()
        await process.wait()
