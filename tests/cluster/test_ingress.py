"""An ingress before gateways, for real: HAProxy and nginx with the documents' own files (docs/ingress), by TLS.

Round robin, no affinity, idle time-outs of 60 s. One cluster of three gateways serves the whole module; who asks of
addresses has clusters of its own.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from loadtests.letters import pairs
from loadtests.phone import Person
from loadtests.swarm import Swarm, open_swarm
from tests.support.certificates import Authority, authority
from tests.support.clients import Client, JsClient, JsClients
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.load import Lane, arrived, steady_traffic, tell
from tests.support.proxies import Kind, Proxy, proxy_of
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Sockets, and messages a second. Firestore's emulator goes through a collection for each query: fewer.
_SOCKETS, _RATE = (100, 20) if os.environ.get("STORE") == "firestore" else (1000, 100)
_SOON_S: Final = 15.0
_BACK_S: Final = 45.0
_WHOLE_S: Final = 60
_PATH: Final = "/socket.io/?EIO=4&transport=polling"
_BELIEVED: Final = "127.0.0.1/32"
# Connections an address may open in a minute, where that is asked.
_CONNECTS: Final = 20
_KINDS: Final[tuple[Kind, ...]] = ("haproxy", "nginx")
# How long what is left of the proxy from before a reload may last; operators have half an hour.
_LAST: Final = {
    "haproxy": {"hard-stop-after 30m": "hard-stop-after 2s"},
    "nginx": {"worker_shutdown_timeout 30m": "worker_shutdown_timeout 2s"},
}
# As phones do, in every way.
_WAYS: Final[tuple[list[str] | None, ...]] = (["websocket"], ["polling"], None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """Three gateways; polls end soon, and thousand sockets sign in at once."""
    environment = {"PING_INTERVAL_S": "5", "TRUSTED_PROXIES": _BELIEVED}
    async with live_cluster(tmp_path_factory.mktemp("cluster"), gateways=3, environment=environment) as cluster:
        await cluster.people(_people(_SOCKETS))
        yield cluster


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom clients trust."""
    return authority(tmp_path_factory.mktemp("authority"))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=_KINDS)
async def proxy(
    request: pytest.FixtureRequest, cluster: LiveCluster, ours: Authority, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Proxy]:
    """One of the two, as documented."""
    async with _before(cluster, request.param, tmp_path_factory.mktemp(request.param), ours) as proxy:
        yield proxy


# --- clients -------------------------------------------------------------------------------------------------


async def test_websockets_polls_and_upgrades_pass(cluster: LiveCluster, proxy: Proxy) -> None:
    """Unmodified clients, each in its way, write to each other: none lost, none doubled, nobody cut off."""
    history = History()
    async with JsClients(history) as js:
        clients = await _open(js, cluster, proxy, f"{proxy.name}pass", 6)
        for client in clients[2::3]:
            await client.wait_for("upgrade")
        report = await _written(history, clients)
        assert report.ok, report
        assert report.messages == 5 * len(clients)
        for client in clients:
            assert client.events("disconnect") == client.events("connect_error") == []


# --- reloads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _KINDS)
async def test_a_thousand_sockets_outlive_a_reload_and_come_back_when_it_ends_them(
    cluster: LiveCluster, ours: Authority, kind: Kind, tmp_path: Path
) -> None:
    """The old worker keeps them for as long as it may; then it drops them at once, and nothing is lost."""
    async with (
        _before(cluster, kind, tmp_path, ours, _LAST[kind]) as proxy,
        open_swarm(tls=proxy.tls) as swarm,
        JsClients(History()) as js,
    ):
        await _sign_in(swarm, cluster, proxy)
        swarm.back_to = [proxy.url]
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(swarm.send(pairs(_as_people(cluster, proxy)), _RATE, _WHOLE_S, _SOON_S))
            before = await proxy.reload()
            newcomer = await js.open("newcomer", proxy.url, {"token": cluster.token("pass0")}, options=proxy.options)
            at_reload = swarm.closed.total()
            await until(lambda: not before & proxy.workers, _BACK_S, "the old worker to end")
            await until(lambda: swarm.came_back == swarm.closed.total() == _SOCKETS, _BACK_S, "all to be back")
            swarm.enough()
        sent = sending.result()
        tell(
            f"{kind}: {at_reload} of {_SOCKETS} sockets closed by the reload, {swarm.closed.total()} by the end of the "
            f"old worker ({dict(swarm.closed)}); back within {_spread(swarm)}; {sent.summary}"
        )
        assert at_reload == 0
        assert sent.missing == sent.lost == 0
        assert sent.answered == sent.sent
        assert newcomer.events("disconnect") == newcomer.events("connect_error") == []
        await swarm.sign_out()


async def test_thousand_sockets_stay_through_a_reload(cluster: LiveCluster, proxy: Proxy) -> None:
    """As documented: not one is closed, and their messages go on; who is new is with the new worker."""
    async with open_swarm(tls=proxy.tls) as swarm, JsClients(History()) as js:
        await _sign_in(swarm, cluster, proxy)
        letters = pairs(_as_people(cluster, proxy))
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(swarm.send(letters, _RATE, _WHOLE_S, _SOON_S))
            before = await proxy.reload()
            newcomer = await js.open("newcomer", proxy.url, {"token": cluster.token("pass0")}, options=proxy.options)
            swarm.enough()
        sent = sending.result()
        after = await swarm.send(letters, 2 * _RATE, 2)
        tell(f"{proxy.name}: reloaded; {sent.summary}; then {after.summary}")
        assert before <= proxy.workers
        assert sent.is_whole
        assert after.is_whole
        assert not swarm.closed
        assert newcomer.events("connect_error") == []
        await swarm.sign_out()


# --- gateways that go ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
async def test_nobody_loses_a_message_with_the_gateway_behind(
    cluster: LiveCluster, proxy: Proxy, number: signal.Signals
) -> None:
    """Its clients come back elsewhere by themselves; who is new is let in elsewhere, from the first moment on."""
    history = History()
    await cluster.wait_ready("g1", "g2", "g3")
    word = f"{proxy.name}{number.name.lower()}"
    async with JsClients(history) as js:
        clients = await _open(js, cluster, proxy, word, 9)
        while not (its := [client for client in clients if _is_at("g2", client)]):  # a proxy may not trust it again yet
            clients += await _open(js, cluster, proxy, f"{word}more{len(clients)}", 3)
        lanes = [Lane(one, {"recipientId": other.name}) for one, other in _ring(clients)]
        async with steady_traffic(lanes, 20 / _RATE) as traffic:
            cluster.processes.set_restarts("g2", False)
            cluster.processes.kill("g2", number)
            newcomers = await _open(js, cluster, proxy, f"{word}new", 9)
            await cluster.processes.wait_exit("g2", _SOON_S)
            newcomers += await _open(js, cluster, proxy, f"{word}late", 9)
            await traffic.wait_flows()
        report = await arrived(history, {f"direct:{min(a, b)}:{max(a, b)}": (a, b) for a, b in _names(clients)})
        assert report.ok, report
        back = [client for client in clients if client.events("disconnect")]
        assert set(its) <= set(back)
        for client in back:
            await client.wait_connected()
            assert not any(event.data["final"] for event in client.events("disconnect"))
        for client in newcomers:
            assert client.events("connect_error") == [], client.dump()
        for client in newcomers[:: len(_WAYS)]:  # the others' polls may have been on their way through it
            assert client.events("disconnect") == [], client.dump()
        reasons = {f"{event.data['reason']} {event.data['code']}" for c in back for event in c.events("disconnect")}
        tell(f"{proxy.name}, {number.name}: {len(back)} of {len(clients)} came back ({', '.join(sorted(reasons))})")
    await cluster.processes.start("g2")
    cluster.processes.set_restarts("g2", True)
    await cluster.wait_ready("g2")


# --- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _KINDS)
async def test_a_client_counts_as_the_address_a_trusted_proxy_saw(kind: Kind, ours: Authority, tmp_path: Path) -> None:
    """Whatever it says itself; others go on."""
    async with _limited(tmp_path, TRUSTED_PROXIES=_BELIEVED) as cluster:
        async with _before(cluster, kind, tmp_path / "proxy", ours) as proxy:
            assert await _connects(proxy.url, proxy, "127.0.0.201") == _CONNECTS
            assert await _connects(proxy.url, proxy, "127.0.0.202") == _CONNECTS
        assert await _connects(cluster.urls[0], None, "127.0.0.203") == _CONNECTS  # not believed: it is no proxy


@pytest.mark.parametrize("kind", _KINDS)
async def test_nobody_is_believed_of_a_proxy_that_is_not_trusted(kind: Kind, ours: Authority, tmp_path: Path) -> None:
    """Its clients share its address, and what they may open."""
    async with (
        _limited(tmp_path, TRUSTED_PROXIES="10.0.0.0/8") as cluster,
        _before(cluster, kind, tmp_path / "proxy", ours) as proxy,
    ):
        assert await _connects(proxy.url, proxy, "127.0.0.201") == _CONNECTS
        assert await _connects(proxy.url, proxy, "127.0.0.202") == 0


async def test_a_proxy_of_bytes_says_whose_a_connection_is(ours: Authority, tmp_path: Path) -> None:
    """With either version of the PROXY protocol; clients in every way."""
    older = {"send-proxy-v2": "send-proxy"}
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(_limited(tmp_path, TRUSTED_PROXIES=_BELIEVED, PROXY_PROTOCOL="on"))
        for number, changes in enumerate(({}, older)):
            folder = tmp_path / f"proxy{number}"
            proxy = await stack.enter_async_context(_before(cluster, "haproxy-tcp", folder, ours, changes))
            history = History()
            async with JsClients(history) as js:
                clients = await _open(js, cluster, proxy, f"v{number}", 3)
                report = await _written(history, clients)
            assert report.ok, report
            assert await _connects(proxy.url, proxy, f"127.0.0.21{number}") == _CONNECTS
            assert await _connects(proxy.url, proxy, f"127.0.0.22{number}") == _CONNECTS
        # Past it: a trusted address has to say whose a connection is, anybody else has nothing to say.
        with pytest.raises(aiohttp.ClientError):
            await _connects(cluster.urls[0], None, "127.0.0.1")
        assert await _connects(cluster.urls[0], None, "127.0.0.231") == _CONNECTS
        assert b" 400 " in await _told(cluster.urls[0], "127.0.0.232", b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n\r\n")
        assert await cluster.metric("g1", 'talowa_gateway_http_closed_total{why="preface"') > 0


# --- the means -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def _before(
    cluster: LiveCluster, kind: Kind, folder: Path, ours: Authority, changes: dict[str, str] | None = None
) -> AsyncIterator[Proxy]:
    port = int(cluster.urls[-1].rpartition(":")[2]) + 50
    async with proxy_of(kind, folder, cluster.urls, first_port=port, authority=ours, changes=changes) as proxy:
        yield proxy


@asynccontextmanager
async def _limited(folder: Path, **environment: str) -> AsyncIterator[LiveCluster]:
    """A gateway at which an address may open so many connections."""
    given = {"CONNECTS_PER_MINUTE": str(_CONNECTS), **environment}
    async with live_cluster(folder / "cluster", gateways=1, routers=1, environment=given) as cluster:
        yield cluster


def _people(count: int) -> list[str]:
    return [f"crowd{number}" for number in range(count)]


def _as_people(cluster: LiveCluster, proxy: Proxy) -> list[Person]:
    return [Person(user, proxy.url, f'{{"token":"{cluster.token(user)}"}}') for user in _people(_SOCKETS)]


async def _sign_in(swarm: Swarm, cluster: LiveCluster, proxy: Proxy) -> None:
    await cluster.people(["pass0"])
    signed_in = await swarm.connect(_as_people(cluster, proxy))
    assert signed_in.signed_in == _SOCKETS, signed_in.summary


async def _open(js: JsClients, cluster: LiveCluster, proxy: Proxy, word: str, count: int) -> list[JsClient]:
    """Clients, in every way that there is, signed in."""
    names = [f"{word}{number}" for number in range(count)]
    await cluster.people(names)
    clients = [
        await js.open(
            name,
            proxy.url,
            {"token": cluster.token(name)},
            transports=_WAYS[number % len(_WAYS)],
            options=dict(proxy.options),
            wait=False,
        )
        for number, name in enumerate(names)
    ]
    for client in clients:
        await client.wait_for("auth_success", timeout_s=_SOON_S)
    return clients


def _is_at(gateway: str, client: JsClient) -> bool:
    sid: str = client.events("connect")[-1].data["sid"]
    return sid.startswith(f"{gateway}-")


def _ring(clients: Sequence[JsClient]) -> list[tuple[JsClient, JsClient]]:
    return list(zip(clients, [*clients[1:], clients[0]], strict=True))


def _names(clients: Sequence[JsClient]) -> list[tuple[str, str]]:
    return [(one.name, other.name) for one, other in _ring(clients)]


async def _written(history: History, clients: Sequence[JsClient]) -> Any:
    await asyncio.gather(*(_say(one, other.name, 5) for one, other in _ring(clients)))
    return await arrived(history, {f"direct:{min(a, b)}:{max(a, b)}": (a, b) for a, b in _names(clients)})


async def _say(client: Client, to: str, count: int) -> None:
    for number in range(count):
        message = {"clientId": f"{client.name}-{to}-{number}", "recipientId": to, "content": "నమస్తే"}
        assert (await client.send_message(message))["ok"]


async def _connects(url: str, proxy: Proxy | None, source: str) -> int:
    """How many connections this address may open, though it says each time that it is another one's."""
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    async with aiohttp.ClientSession(connector=connector) as http:
        for number in range(2 * _CONNECTS):
            headers = {"X-Forwarded-For": f"203.0.113.{number}"}
            tls = proxy.tls if proxy is not None else None
            async with http.get(f"{url}{_PATH}", headers=headers, ssl=tls or True) as response:
                if response.status == 429:
                    return number
                assert json.loads((await response.text())[1:])["sid"]
    return 2 * _CONNECTS


async def _told(url: str, source: str, said: bytes) -> bytes:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
    writer.write(said)
    async with asyncio.timeout(_SOON_S):
        told = await reader.read()
    writer.close()
    return told


def _spread(swarm: Swarm) -> str:
    return f"{max(swarm.returned) - min(swarm.returned):.1f} s" if swarm.returned else "no time"
