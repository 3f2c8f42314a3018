"""What a running cluster exports is the catalogue, and a message leaves its traces in it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from docs.metrics import catalogue
from tests.support.clients import Client, PythonClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.waiting import until

_SOON_S: Final = 20.0
_WHOSE: Final = {"A gateway": "g1", "A router": "r1", "Presence": "presence"}


async def _exported(cluster: LiveCluster, name: str) -> dict[str, tuple[str, set[str]]]:
    """The series of a process, with their kinds and labels."""
    text = str(await cluster.get(name, "/metrics"))
    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        if not family.name.endswith("_created"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[family.name + "_total" * (family.type == "counter")] = (family.type, labels)
    return found


async def _total(cluster: LiveCluster, names: Sequence[str], series: str) -> float:
    """The sum over processes, of which some may have none."""
    lines = [line for name in names for line in str(await cluster.get(name, "/metrics")).splitlines()]
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


@asynccontextmanager
async def _client(cluster: LiveCluster, gateway: int, user: str) -> AsyncIterator[Client]:
    urls, auth = [cluster.urls[gateway]], {"token": cluster.token(user)}
    async with await PythonClient.open(History(), user, urls, auth, user=user) as client:
        await client.wait_for("auth_success")
        yield client


async def test_a_cluster_exports_its_catalogue_and_a_message_shows_in_it(tmp_path: Path) -> None:
    """No series that is not in the catalogue and none that is missing; stations, store, phones, broker count."""
    async with live_cluster(tmp_path) as cluster:
        await cluster.people(["asha", "ravi"])
        async with _client(cluster, 0, "asha") as asha, _client(cluster, 1, "ravi") as ravi:
            sent = await asha.send_message({"recipientId": "ravi", "content": "sixty quintals", "clientId": "1"})
            await ravi.wait_for_messages(1)
            assert sent["ok"]

            async def is_counted() -> bool:
                routers, gateways = ("r1", "r2"), ("g1", "g2")
                counts = [
                    await _total(cluster, routers, f'talowa_router_station_seconds_count{{station="{station}"}}')
                    for station in ("read", "save", "publish")
                ]
                counts += [
                    await _total(cluster, routers, 'talowa_router_store_seconds_count{call="save"}'),
                    await _total(cluster, gateways, "talowa_gateway_confirm_seconds_count"),
                    await _total(cluster, gateways, "talowa_gateway_uplink_seconds_count"),
                    await _total(cluster, ("presence",), "talowa_redis_memory_bytes"),
                ]
                return all(count >= 1 for count in counts)

            await until(is_counted, _SOON_S, "the message to be counted everywhere")
            everywhere, *_ = rows = catalogue()
            for whose, name in _WHOSE.items():
                declared = {row.name: row for row in (*rows[everywhere], *rows[whose])}
                exported = await _exported(cluster, name)
                assert exported.keys() == declared.keys(), name
                for series, (kind, labels) in exported.items():
                    assert kind == declared[series].kind
                    assert not labels or labels == set(declared[series].labels)
        assert await cluster.metric("g1", "talowa_gateway_connections_max") > 0
        assert await cluster.metric("g1", 'talowa_redis_commands_total{command="XADD"}') > 0
        assert await cluster.metric("r1", 'talowa_redis_scripts_total{script="lease.lua"}') > 0
        servers = await cluster.servers.primaries()
        assert await cluster.metric("presence", "talowa_redis_persists") == len(servers)
