"""The broker as production has it: a primary fails over under Sentinel, slots move in a cluster, while people write.

On the embedded Valkey, or the server that `TALOWA_TEST_BROKER` names; `make topologies` runs the whole suite on all.
"""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Final, cast

import pytest

from libs import keys
from libs.wire import names
from tests.support import topologies
from tests.support.address import one_address
from tests.support.load import steady_traffic, tell
from tests.support.scene import Scene, scene_of
from tests.support.topologies import Movable, Sharded, UnderSentinel
from tests.support.waiting import until

_SOON_S: Final = 30.0
_PARTITIONS: Final = 16


async def test_a_failover_loses_nothing_whichever_way_the_primary_goes(tmp_path: Path) -> None:
    """Killed with -9, then its successor stopped with every connection to it open: replicas are promoted."""
    async with scene_of(tmp_path, topology="sentinel") as scene:
        servers = cast(UnderSentinel, scene.cluster.servers)
        async with steady_traffic(scene.lanes) as traffic:
            for number in (signal.SIGKILL, signal.SIGSTOP):
                primary = await servers.primary()
                began = time.monotonic()
                await servers.fail_over(partial(servers.running.kill, primary, number))
                promoted = time.monotonic()
                await traffic.wait_flows()
                tell(
                    f"{number.name}: promoted {promoted - began:.1f} s, traffic {time.monotonic() - began:.1f} s later"
                )
                await servers.bring_back(primary)
                await traffic.wait_flows()
        await scene.judge()
        await _nothing_was_taken_back(scene)


@pytest.mark.parametrize("behind_s", [0, 5], ids=["", "and its clock is behind"])
async def test_a_failover_that_loses_the_tail_takes_nothing_back(tmp_path: Path, behind_s: int) -> None:
    """Streams, places and leases of the last second are gone: `sent` stays, and all arrives once, in order.

    Where the clock of the new primary is behind, new entries and new tokens are below those that were seen.
    """
    if behind_s and not topologies.clocks_can_be_behind():
        assert "CI" not in os.environ, "faketime is missing"
        pytest.skip("faketime is missing")
    async with scene_of(tmp_path, topology="sentinel", replicas_behind_s=behind_s) as scene:
        cluster = scene.cluster
        servers = cast(UnderSentinel, cluster.servers)
        async with steady_traffic(scene.lanes) as traffic:
            primary = await servers.cut_off()
            answered = traffic.answered
            # Its partitions change hands: the tokens of their new owners are lost with the rest.
            cluster.processes.kill("r1", signal.SIGTERM)
            await traffic.wait_flows(30)
            await servers.ask(primary, "SET", "tail", 1)
            answered = traffic.answered - answered
            began = time.monotonic()
            heir = await servers.lose(primary)
            assert await servers.ask(heir, "EXISTS", "tail") == 0
            await traffic.wait_flows()
            tell(f"{answered} messages of the tail; traffic flows {time.monotonic() - began:.1f} s after it was lost")
            await servers.bring_back(primary)
            await traffic.wait_flows()
        await scene.judge()
        await _nothing_was_taken_back(scene)


async def test_slots_move_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    """A partition's, a gateway's and a directory shard's: each is open on both sides for a while, under traffic."""
    async with scene_of(tmp_path, topology="cluster") as scene:
        cluster = scene.cluster
        servers = cast(Sharded, cluster.servers)
        (gateway,) = [g["id"] for g in (await cluster.status())["gateways"] if g["id"].startswith("g1-")]
        moved = (
            keys.inbound(names.partition_of("group:sangham", _PARTITIONS)),
            keys.downlink(gateway),
            keys.seats(0),
            keys.gateways(),
        )
        async with steady_traffic(scene.lanes) as traffic:
            for key in moved:
                began = time.monotonic()
                before = await servers.owner(key)
                after = await servers.move_slot(key, lambda: _passes(0.3))
                assert await servers.owner(key) == after != before
                await traffic.wait_flows()
                tell(f"{key}: traffic flows {time.monotonic() - began:.1f} s after its move began")
        await scene.judge()
        await _nothing_was_taken_back(scene)


async def test_a_primary_of_a_cluster_dies_and_its_replica_takes_over(tmp_path: Path) -> None:
    """With it went a third of all partitions: those of the others go on by themselves, and nothing is lost."""
    async with scene_of(tmp_path, topology="cluster", replicas=1) as scene:
        servers = cast(Sharded, scene.cluster.servers)
        async with steady_traffic(scene.lanes) as traffic:
            began = time.monotonic()
            owner = await servers.owner(keys.inbound(names.partition_of("group:sangham", _PARTITIONS)))
            await servers.fail_over(owner)
            promoted = time.monotonic()
            await traffic.wait_flows()
            tell(f"promoted {promoted - began:.1f} s, traffic {time.monotonic() - began:.1f} s after it died")
            servers.running.set_restarts(owner, True)
            await servers.running.start(owner)
            await traffic.wait_flows()
        await scene.judge()
        await _nothing_was_taken_back(scene)


async def test_a_broker_moves_to_another_server_and_no_service_starts_anew(tmp_path: Path) -> None:
    """Replicate, fail over, point the address to the new one: nothing is lost, and nobody was told another address."""
    async with one_address() as address, scene_of(tmp_path, topology="movable", address=address) as scene:
        servers = cast(Movable, scene.cluster.servers)
        pids = _pids(scene)
        async with steady_traffic(scene.lanes) as traffic:
            began = time.monotonic()
            await servers.move()
            moved = time.monotonic()
            await traffic.wait_flows()
            tell(f"moved after {moved - began:.1f} s, traffic {time.monotonic() - moved:.1f} s later")
            old, _ = servers.servers
            servers.running.set_restarts(old, False)
            servers.running.kill(old, signal.SIGTERM)
            await traffic.wait_flows()
        await scene.judge()
        await _nothing_was_taken_back(scene)
        assert _pids(scene) == pids


def _pids(scene: Scene) -> dict[str, int | None]:
    processes = scene.cluster.processes
    return {name: processes.pid(name) for name in ("g1", "g2", "r1", "r2", "presence")}


async def _nothing_was_taken_back(scene: Scene) -> None:
    """What was answered `sent` is in the store, under the place that it was given."""
    sent = {
        (one.answer["conversationId"], one.answer["seq"]): one.answer["messageId"]
        for one in scene.history.sent
        if one.answer is not None and one.answer.get("status") == "sent"
    }
    assert sent
    assert sent.items() <= (await scene.cluster.stored()).items()


async def _passes(seconds: float) -> None:
    """How long a slot is open is what the test is about."""
    end = time.monotonic() + seconds
    await until(lambda: time.monotonic() >= end, _SOON_S, "time to pass")
