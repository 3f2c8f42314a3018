"""What hangs notices it and starts over; what is only cut off, paused or without work does not."""

import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from libs import keys
from tests.support.clients import Client, JsClients
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.load import Lane, arrived, steady_traffic, tell
from tests.support.waiting import until

# Three periods, and the deadline of what takes a few of them; the machine may be busy.
_CANARY_S: Final = 1.0
_PATIENCE_S: Final = 3 * _CANARY_S
_SOON_S: Final = 40.0
_PEOPLE: Final = ("asha", "bala", "chitra")
_EXPECTED: Final = {
    "direct:asha:bala": ("asha1", "bala1"),
    "direct:bala:chitra": ("bala1", "chitra1"),
    "group:sangham": ("asha1", "bala1", "chitra1"),
}
# Who does not start over in any of this.
_SERVICES: Final = ("g1", "g2", "r1", "r2", "presence")


class Scene(NamedTuple):
    """A cluster, three people on it, and what they write to each other."""

    cluster: LiveCluster
    history: History
    lanes: list[Lane]

    @property
    def pids(self) -> dict[str, int | None]:
        """The services' processes."""
        return {name: self.cluster.processes.pid(name) for name in _SERVICES}

    async def judge(self) -> None:
        """Everything arrived, once, in order, without a gap. Raises AssertionError."""
        report = await arrived(self.history, _EXPECTED)
        assert report.ok, report
        assert not report.refused
        assert not report.unanswered


@asynccontextmanager
async def _scene(home: Path, mutants: Mapping[str, str] | None = None) -> AsyncIterator[Scene]:
    """Asha and Chitra on the first gateway, Bala on the second; each may go to the other."""
    history = History()
    # A store may be waited for, so long as that is less than the patience with what hangs.
    environment = {"CANARY_S": f"{_CANARY_S:g}", "STORE_PATIENCE_S": "2", "MUTANT_FILE": str(_told(home))}
    async with (
        live_cluster(home, environment=environment, mutants=mutants) as cluster,
        JsClients(history) as js,
    ):
        await cluster.people(_PEOPLE, {"sangham": _PEOPLE})
        clients: dict[str, Client] = {}
        for number, person in enumerate(_PEOPLE):
            urls = cluster.urls if number % 2 == 0 else cluster.urls[::-1]
            clients[person] = await js.open(f"{person}1", urls, {"token": cluster.token(person)}, user=person)
            await clients[person].wait_for("auth_success")
        lanes = [
            Lane(clients["asha"], {"recipientId": "bala"}),
            Lane(clients["bala"], {"recipientId": "chitra"}),
            Lane(clients["chitra"], {"groupId": "sangham"}),
        ]
        yield Scene(cluster, history, lanes)


def _told(home: Path) -> Path:
    """While this file is there, mutants break."""
    return home / "break"


@pytest.mark.parametrize(
    ("name", "mutant"),
    [("g1", "deaf_gateway"), ("g1", "mute_gateway"), ("r1", "deaf_router"), ("r1", "stuck_router")],
)
async def test_a_process_that_hangs_is_not_ready_and_starts_over_and_nothing_is_lost(
    tmp_path: Path, name: str, mutant: str
) -> None:
    """It waits while another of its kind has just done so; the others stay."""
    async with _scene(tmp_path, {name: mutant}) as scene:
        cluster = scene.cluster
        before, gave_up = scene.pids, keys.given_up("gateway" if name == "g1" else "router")
        async with steady_traffic(scene.lanes) as traffic:
            await cluster.broker.command("SET", gave_up, "another")
            _told(tmp_path).touch()
            began = time.monotonic()

            async def is_noticed() -> bool:
                return "canary: " in (await cluster.processes.lacks(name) or "")

            await until(is_noticed, _SOON_S, f"{name} to notice")
            tell(f"{mutant} noticed after {time.monotonic() - began:.1f} s, with a canary each {_CANARY_S:g} s")
            assert scene.pids == before
            await cluster.broker.command("DEL", gave_up)
            await until(lambda: scene.pids[name] not in (None, before[name]), _SOON_S, f"{name} to be started again")
            await cluster.wait_ready(name)
            await traffic.wait_flows(50)
            tell(f"all is well after {time.monotonic() - began:.1f} s")
        await scene.judge()
        assert {**scene.pids, name: None} == {**before, name: None}
        assert "GaveUp" in cluster.processes.log(name).read_text()


async def test_a_silent_path_is_seen_in_the_metrics_and_restarts_no_gateway(tmp_path: Path) -> None:
    """All routers stopped for more than three periods: no canary comes back, and no gateway is at fault."""
    async with _scene(tmp_path) as scene:
        cluster, before = scene.cluster, scene.pids
        async with steady_traffic(scene.lanes) as traffic:
            for router in ("r1", "r2"):
                await cluster.processes.stop(router)
            for gateway in ("g1", "g2"):
                await until(partial(_silent, cluster, gateway), _SOON_S, "every path to be silent")
            for router in ("r1", "r2"):
                await cluster.processes.start(router)
            await traffic.wait_flows()
            for gateway in ("g1", "g2"):
                await until(partial(_heard, cluster, gateway), _SOON_S, "no path to be silent")
        await scene.judge()
        gateways = ("g1", "g2", "presence")
        assert {name: scene.pids[name] for name in gateways} == {name: before[name] for name in gateways}


async def test_who_is_paused_or_cut_off_from_broker_or_store_does_not_start_over(tmp_path: Path) -> None:
    """Each for more than three periods: the broker paused, then killed; a gateway and a router paused; no store."""
    async with _scene(tmp_path) as scene:
        cluster, before = scene.cluster, scene.pids
        async with steady_traffic(scene.lanes) as traffic:
            for paused in (await cluster.servers.primaries(), ["g1", "r1"]):
                for name in paused:
                    cluster.processes.kill(name, signal.SIGSTOP)
                await _passes(2 * _PATIENCE_S)
                for name in paused:
                    cluster.processes.kill(name, signal.SIGCONT)
                await traffic.wait_flows()
                await _passes(_PATIENCE_S + _CANARY_S)
            servers = await cluster.servers.primaries()
            for name in servers:
                await cluster.processes.stop(name)
            await _passes(2 * _PATIENCE_S)
            for name in servers:
                await cluster.processes.start(name)
            await traffic.wait_flows()
            with cluster.store_away():
                await _passes(2 * _PATIENCE_S)
                for gateway in ("g1", "g2"):
                    await until(partial(_heard, cluster, gateway), _SOON_S, "canaries without a store")
            await traffic.wait_flows()
            await _passes(_PATIENCE_S + _CANARY_S)
        await scene.judge()
        assert scene.pids == before


async def _ages(cluster: LiveCluster, gateway: str) -> list[float]:
    """For how long each path has been silent."""
    text = str(await cluster.get(gateway, "/metrics"))
    series = "talowa_gateway_canary_silent_seconds{"
    return [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series)]


async def _silent(cluster: LiveCluster, gateway: str) -> bool:
    ages = await _ages(cluster, gateway)
    assert len(ages) == 17
    return min(ages) > 2 * _PATIENCE_S


async def _heard(cluster: LiveCluster, gateway: str) -> bool:
    return max(await _ages(cluster, gateway)) < _PATIENCE_S


async def _passes(seconds: float) -> None:
    """How long an outage lasts, or nothing happens, is what the test is about."""
    ends = time.monotonic() + seconds
    await until(lambda: time.monotonic() >= ends, 60.0, "time to pass")
