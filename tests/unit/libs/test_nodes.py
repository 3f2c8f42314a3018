"""A cluster's nodes: a batch is in order on each key while its slot moves, and what fails of it fails by itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from libs.broker import AWAY, Broker, Script, connect
from services.local.cluster import open_cluster
from tests.support import topologies
from tests.support.topologies import Sharded
from tests.support.waiting import until

_look = Script("libs", "look.lua")


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Sharded]:
    """Three primaries."""
    made = topologies.chosen(tmp_path, 11_000, {}, "cluster")
    async with open_cluster(tmp_path, made.processes, lambda _: None) as running:
        await made.start(running)
        yield cast(Sharded, made)


async def _numbers(broker: Broker, stream: str) -> list[int]:
    return [int(fields[b"n"]) for _, fields in await broker.command("XRANGE", stream, "-", "+")]


async def test_a_batch_keeps_its_order_wherever_its_keys_are(servers: Sharded) -> None:
    """On every key, whether it is at rest, moves to another node meanwhile, or has moved."""
    streams = [f"{{s{number}}}" for number in range(12)]
    async with connect(servers.url) as broker, asyncio.TaskGroup() as tasks:
        written = 0

        async def write() -> None:
            nonlocal written
            commands: list[Any] = []
            for _ in range(20):
                commands += [("XADD", stream, "*", "n", written) for stream in streams]
                written += 1
            assert not [reply for reply in await broker.batch(commands) if isinstance(reply, Exception)]

        async def move() -> None:
            for stream in streams[:3]:
                await servers.move_slot(stream, write)

        moving = tasks.create_task(move())
        while not moving.done():
            await write()
        await write()
        for stream in streams:
            assert await _numbers(broker, stream) == sorted(await _numbers(broker, stream))
            assert set(await _numbers(broker, stream)) == set(range(written))
        assert broker.successions == 0, "what moved took along what it held"


async def test_scripts_follow_their_keys_and_are_known_to_every_node(servers: Sharded) -> None:
    """One that was loaded before a node came, or that lost all its scripts, is loaded again."""
    members = [f"{{m{number}}}" for number in range(6)]
    async with connect(servers.url) as broker:
        for _ in range(2):
            assert await broker.scripts([_look.call([key], 60_000) for key in members]) == [[[], []]] * 6
            await servers.ask(servers.servers[1], "SCRIPT", "FLUSH")
        for key in members[:2]:
            await servers.move_slot(key)
        assert await broker.scripts([_look.call([key], 60_000) for key in members]) == [[[], []]] * 6


async def test_one_node_that_is_away_fails_only_what_it_has(servers: Sharded) -> None:
    """`attempt` tells which; `batch` and a single command raise. Back, it is another server than before."""
    keys = [f"{{k{number}}}" for number in range(12)]
    async with connect(servers.url) as broker:
        await broker.batch([("SET", key, 1) for key in keys])
        dead = await servers.owner(keys[0])
        lost = [await servers.owner(key) == dead for key in keys]
        assert not all(lost)
        servers.running.set_restarts(dead, False)
        servers.running.kill(dead)
        replies = await broker.attempt([("GET", key) for key in keys])
        assert [isinstance(reply, AWAY) for reply in replies] == lost
        with pytest.raises(AWAY):
            await broker.batch([("GET", key) for key in keys])
        with pytest.raises(AWAY):
            await broker.command("GET", keys[0])
        await servers.running.start(dead)
        await servers.running.wait_ready(dead, 10)

        async def is_back() -> bool:
            return bool(await broker.command("GET", keys[0]))

        await until(is_back, 20, "the node to serve", despite=AWAY)
        assert broker.successions == 1
