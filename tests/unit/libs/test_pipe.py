"""One connection for many: replies find their callers, whoever gives up, and whatever becomes of the connection."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import redis
from redis import exceptions

from libs import broker as module
from libs.broker import AWAY, Broker, connect
from tests.support.broker import RunningBroker, live_broker
from tests.support.waiting import until


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


async def clients(broker: Broker) -> int:
    """How many connections the broker has."""
    return int((await broker.command("INFO", "clients"))["connected_clients"])


async def test_each_caller_gets_its_own_replies(broker: Broker) -> None:
    """A hundred at once, over one connection."""

    async def ask(number: int) -> None:
        for turn in range(20):
            said = f"{number}/{turn}".encode()
            size = (number + turn) % 4 + 1
            assert await broker.batch([("ECHO", said)] * size) == [said] * size

    before = await clients(broker)
    async with asyncio.TaskGroup() as tasks:
        for number in range(100):
            tasks.create_task(ask(number))
    assert await clients(broker) == before


async def test_large_replies_come_in_parts(broker: Broker) -> None:
    """A megabyte and what follows it."""
    large = random.randbytes(1 << 20)
    assert await broker.batch([("SET", "large", large), ("GET", "large"), ("ECHO", "after")]) == [True, large, b"after"]


async def test_who_gives_up_puts_nobody_out_of_step(broker: Broker) -> None:
    """The reply to a cancelled call is dropped; the next caller gets the next."""
    for turn in range(50):
        given_up = asyncio.get_running_loop().create_task(broker.batch([("ECHO", "old")] * 3))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await broker.command("ECHO", f"new{turn}") == f"new{turn}".encode()
        with pytest.raises(asyncio.CancelledError):
            await given_up


async def test_a_broker_that_falls_silent_fails_every_call_in_time(
    server: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one deadline for all, counted from the oldest; afterwards there is a new connection."""
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.3)
    async with connect(server.url) as commands:
        await commands.command("PING")
        server.pause()
        try:
            async with asyncio.timeout(3):
                results = await asyncio.gather(*(commands.command("PING") for _ in range(3)), return_exceptions=True)
        finally:
            server.resume()
        assert [type(result) for result in results] == [exceptions.TimeoutError] * 3
        assert await commands.command("ECHO", "back") == b"back"


async def test_a_connection_that_is_lost_fails_what_waits_and_is_made_anew(
    broker: Broker, server: RunningBroker
) -> None:
    """Also one that was lost while nobody used it."""
    blocked = asyncio.get_running_loop().create_task(broker.command("BLPOP", "none", 5))
    async with connect(server.url) as another:

        async def is_blocked() -> bool:
            return int((await another.command("INFO", "clients"))["blocked_clients"]) > 0

        await until(is_blocked, 5, "the call to wait")
        await another.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(AWAY):
            await blocked
        assert await broker.command("ECHO", "one") == b"one"
        await another.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: broker._pipes[0].is_over, 5, "the loss to be noticed")
        assert await broker.command("ECHO", "two") == b"two"


async def test_who_is_no_primary_any_more_is_left(server: RunningBroker, broker: Broker) -> None:
    """The next command asks anew where to go, as after a failover it must, and is content with no replica."""
    await broker.command("PING")
    await broker.command("REPLICAOF", "127.0.0.1", 1)
    with redis.Redis.from_url(server.url) as other:
        try:
            with pytest.raises(AWAY):
                await broker.command("SET", "a", 1)
            assert broker._pipes[0].is_over
            with pytest.raises(AWAY, match="replica"):
                await broker.command("PING")
        finally:
            other.replicaof("NO", "ONE")
    assert await broker.command("PING")


async def test_another_server_where_one_was_is_noticed_before_anything_is_said_to_it(
    server: RunningBroker, broker: Broker
) -> None:
    """One that was started again, or promoted, may have lost what the one before had taken last."""
    await broker.command("PING")
    broker._pipes[0]._wire.end(redis.ConnectionError("hung up"))  # type: ignore[union-attr]
    await broker.command("PING")
    assert broker.successions == 0, "the same server as before"
    server.kill()
    await server.start()
    await broker.command("PING")  # nobody was told that the connection was lost
    assert broker.successions == 1
    # Promoted without an end: it has a history of its own from then on.
    with redis.Redis.from_url(server.url) as other:
        other.replicaof("127.0.0.1", 1)
        other.replicaof("NO", "ONE")
    broker._pipes[0]._wire.end(redis.ConnectionError("hung up"))  # type: ignore[union-attr]
    await broker.command("PING")
    assert broker.successions == 2


async def test_reads_that_block_do_not_wait_for_each_other(server: RunningBroker, broker: Broker) -> None:
    """Each has a connection of its own, and leaves it to the next."""

    async def read(reader: Broker, stream: str) -> Any:
        return await reader.command("XREAD", "BLOCK", 5000, "STREAMS", stream, "0-0")

    async with connect(server.url, blocking_s=5.0) as reader, asyncio.timeout(4):
        for turn in range(3):
            async with asyncio.TaskGroup() as tasks:
                quiet = tasks.create_task(read(reader, f"quiet{turn}"))
                busy = tasks.create_task(read(reader, f"busy{turn}"))
                await asyncio.sleep(0)
                await broker.command("XADD", f"busy{turn}", "*", "f", "1")
                assert await busy
                await broker.command("XADD", f"quiet{turn}", "*", "f", "1")
                assert await quiet
        assert len(reader._pipes) <= 2


async def test_a_read_that_was_cancelled_holds_up_no_other(server: RunningBroker, broker: Broker) -> None:
    """The server would answer the next only when the first has waited in vain."""
    async with connect(server.url, blocking_s=60.0) as reader, asyncio.timeout(4):
        for _ in range(3):
            read = asyncio.get_running_loop().create_task(
                reader.command("XREAD", "BLOCK", 60_000, "STREAMS", "none", "0-0")
            )

            async def is_blocked() -> bool:
                return int((await broker.command("INFO", "clients"))["blocked_clients"]) > 0

            await until(is_blocked, 3, "the read to wait")
            read.cancel()
            with pytest.raises(asyncio.CancelledError):
                await read
            assert await reader.command("ECHO", "next") == b"next"
