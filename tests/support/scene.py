"""A cluster, four people on two gateways, and what they write to each other while a test breaks something."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from tests.support.clients import Client, JsClients, PythonClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.load import Lane, arrived
from tests.support.waiting import until

_REST_S: Final = 30.0
PEOPLE: Final = ("asha", "bala", "chitra", "devi")
EXPECTED: Final = {
    "direct:asha:bala": ("asha1", "bala1"),
    "direct:asha:devi": ("asha1", "devi1"),
    "direct:bala:chitra": ("bala1", "chitra1"),
    "direct:chitra:devi": ("chitra1", "devi1"),
    "group:sangham": ("asha1", "bala1", "chitra1", "devi1"),
}


class Scene(NamedTuple):
    """A cluster, four people on it, and what they write to each other."""

    cluster: LiveCluster
    history: History
    clients: Mapping[str, Client]
    lanes: list[Lane]

    async def judge(self) -> None:
        """Everything arrived, once, in order, without a gap, and is accounted for. Raises AssertionError."""
        report = await arrived(self.history, EXPECTED)
        assert report.ok, report
        assert not report.refused
        assert not report.unanswered

        async def at_rest() -> Any:
            for gateway in ("g1", "g2"):
                with suppress(aiohttp.ClientError):  # it may be dead
                    sums = await self.cluster.get(gateway, "/ledger")
                    return sums if sums.get("inFlight") == 0 else None
            return None

        sums = await until(at_rest, _REST_S, "nothing to be in flight")
        assert sums["unaccounted"] == 0, sums


@asynccontextmanager
async def scene_of(home: Path, **options: Any) -> AsyncIterator[Scene]:
    """Asha and Chitra on the first gateway, Bala and Devi on the second; each may go to the other.

    `options` are those of `live_cluster`.
    """
    history = History()
    async with live_cluster(home, **options) as cluster, JsClients(history) as js:
        await cluster.people(PEOPLE, {"sangham": PEOPLE})
        clients: dict[str, Client] = {}
        for number, person in enumerate(PEOPLE[:3]):
            urls = cluster.urls if number % 2 == 0 else cluster.urls[::-1]
            clients[person] = await js.open(f"{person}1", urls, {"token": cluster.token(person)}, user=person)
        async with await PythonClient.open(
            history, "devi1", cluster.urls[::-1], {"token": cluster.token("devi")}, user="devi"
        ) as devi:
            clients["devi"] = devi
            for client in clients.values():
                await client.wait_for("auth_success")
            lanes = [
                Lane(clients["asha"], {"recipientId": "bala"}),
                Lane(clients["bala"], {"recipientId": "chitra"}),
                Lane(clients["chitra"], {"recipientId": "devi"}),
                Lane(clients["devi"], {"recipientId": "asha"}),
                Lane(clients["asha"], {"groupId": "sangham"}),
                Lane(clients["bala"], {"groupId": "sangham"}),
            ]
            yield Scene(cluster, history, clients, lanes)
