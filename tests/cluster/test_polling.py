"""Polling without affinity: each request may reach any gateway, and the socket's own answers.

Two gateways, and HAProxy in plain round robin before them: of two requests of a client, one reaches the wrong
gateway. One cluster serves the whole module.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from tests.support.clients import Client, JsClients, PythonClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.load import arrived, tell
from tests.support.proxies import proxy_of
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_COUNT: Final = 50
_SOON_S: Final = 15.0
_CONTENT: Final = "నమస్తే"
_UNKNOWN: Final = (400, '{"code":1,"message":"Session ID unknown"}')


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """Two gateways, whose polls end soon."""
    home = tmp_path_factory.mktemp("cluster")
    async with live_cluster(home, routers=1, environment={"PING_INTERVAL_S": "5"}) as cluster:
        await cluster.people(["asha", "bala"])
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Where clients connect."""
    port = int(cluster.urls[-1].rpartition(":")[2])
    folder = tmp_path_factory.mktemp("proxy")
    soon = {"inter 2s fastinter 500ms fall 2": "inter 200ms fall 1"}
    async with proxy_of("haproxy", folder, cluster.urls, first_port=port + 50, changes=soon) as proxy:
        yield proxy.url


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """For requests by hand."""
    async with aiohttp.ClientSession() as session:
        yield session


# --- unmodified clients behind a proxy without affinity -----------------------------------------------------


async def test_javascript_and_python_clients_poll_through_any_gateway(cluster: LiveCluster, proxy: str) -> None:
    """Fifty messages each way, every request to the other gateway than the one before: none lost, none doubled."""
    history = History()
    await cluster.people(["js", "py"])
    async with JsClients(history) as js:
        jaya = await js.open("js", proxy, {"token": cluster.token("js")}, transports=["polling"])
        auth = {"token": cluster.token("py")}
        async with await PythonClient.open(history, "py", proxy, auth, transports=["polling"]) as pavan:
            await jaya.wait_for("auth_success")
            await pavan.wait_for("auth_success")
            await asyncio.gather(_say(jaya, "py", _COUNT), _say(pavan, "js", _COUNT))
            report = await arrived(history, {"direct:js:py": ("js", "py")})
            assert jaya.events("disconnect") == pavan.events("disconnect") == []
    assert report.ok, report
    assert report.messages == 2 * _COUNT
    assert await _relayed(cluster, "poll") > _COUNT
    assert await _relayed(cluster, "post") > _COUNT
    assert await _relayed(cluster, "un") == 0  # unknown, unreachable


async def test_clients_upgrade_through_any_gateway(cluster: LiveCluster, proxy: str) -> None:
    """A client whose upgrade reaches the wrong gateway ends on a WebSocket all the same, and loses nothing."""
    history = History()
    names = [f"up{number}" for number in range(8)]
    pairs = list(zip(names, [*names[1:], names[0]], strict=True))
    await cluster.people(names)
    async with JsClients(history) as js:
        # All at once, so that chance decides which gateway each upgrade reaches.
        clients = [await js.open(name, proxy, {"token": cluster.token(name)}, wait=False) for name in names]
        for client in clients:
            await client.wait_for("upgrade")
            await client.wait_for("auth_success")
        assert sum([await cluster.metric(name, "talowa_gateway_bridges") for name in ("g1", "g2")]) > 0
        await asyncio.gather(*(_say(client, to, 5) for client, (_, to) in zip(clients, pairs, strict=True)))
        report = await arrived(history, {f"direct:{min(pair)}:{max(pair)}": pair for pair in pairs})
        assert report.ok, report
        assert report.messages == 5 * len(names)
        for client in clients:
            assert client.events("disconnect") == []
            await client.close()
    await until(lambda: _is_unbridged(cluster), _SOON_S, "the bridges to be gone with their clients")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
async def test_clients_of_a_gateway_that_goes_come_back_by_themselves(
    cluster: LiveCluster, proxy: str, number: signal.Signals
) -> None:
    """Polling, upgraded at home or over a bridge: they sign in at the gateway that stays, and have what was due."""
    history = History()
    await cluster.wait_ready("g1", "g2")
    names = [f"{number.name.lower()}{n}" for n in range(6)]
    await cluster.people([*names, "writer"])
    async with JsClients(history) as js:
        clients = [
            await js.open(
                name,
                # Some begin at the gateway that will go, for the rest chance decides.
                proxy if n > 1 else [cluster.urls[1], proxy],
                {"token": cluster.token(name)},
                transports=["polling"] if n % 2 else None,
                wait=False,
            )
            for n, name in enumerate(names)
        ]
        writer = await js.open("writer", cluster.urls[0], {"token": cluster.token("writer")}, transports=["websocket"])
        for client in clients:
            await client.wait_for("auth_success")
        await asyncio.gather(*(_say(writer, name, 2) for name in names))
        cluster.processes.set_restarts("g2", False)
        cluster.processes.kill("g2", number)
        await asyncio.gather(*(_say(writer, name, 4, first=2) for name in names))
        report = await arrived(history, {f"direct:{name}:writer": (name, "writer") for name in names})
        assert report.ok, report
        assert report.messages == 4 * len(names)
        for client in clients[:2]:
            await client.wait_for("disconnect")
        assert writer.events("disconnect") == []
        back = [client for client in clients if client.events("disconnect")]
        for client in back:
            await client.wait_connected()
            assert not any(event.data["final"] for event in client.events("disconnect"))
            gone, here = client.events("disconnect")[0], client.events("connect")[-1]
            tell(f"{number.name} {client.name}: {gone.data['reason']}, back after {here.at_ms - gone.at_ms} ms")
    await cluster.processes.wait_exit("g2", _SOON_S)
    await cluster.processes.start("g2")
    cluster.processes.set_restarts("g2", True)
    await cluster.wait_ready("g2")


# --- by hand ------------------------------------------------------------------------------------------------


async def test_a_session_is_served_by_either_gateway(cluster: LiveCluster, http: aiohttp.ClientSession) -> None:
    """Polls, posts and what is said of origins are the owner's own, in order; the answer says nothing of the relay."""
    here, there = await _open(http, cluster)
    origin = {"Origin": "https://app.example"}
    async with http.post(there, data="40" + json.dumps({"token": cluster.token("bala")}), headers=origin) as response:
        assert (response.status, await response.text()) == (200, "OK")
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert len(response.headers.getall("Date")) == len(response.headers.getall("Server")) == 1
    packets: list[str] = []
    for polling in (there, here, there, here):
        if not any("auth_success" in packet for packet in packets):
            packets += (await _poll(http, polling))[1].split("\x1e")
    assert packets[0].startswith("40{")
    assert await _post(http, there, '421["heartbeat",{}]') == 200
    while not packets[-1].startswith("431["):
        packets += (await _poll(http, there))[1].split("\x1e")


async def test_two_polls_at_once_close_the_session_wherever_they_arrive(
    cluster: LiveCluster, http: aiohttp.ClientSession
) -> None:
    """One at each gateway is two at the owner."""
    here, there = await _open(http, cluster)
    async with asyncio.TaskGroup() as tasks:
        polls = [tasks.create_task(_poll(http, polling)) for polling in (here, there)]
    assert sorted(poll.result()[0] for poll in polls) == [200, 400]
    assert await _poll(http, there) == _UNKNOWN


async def test_an_unknown_session_is_the_protocols_400_at_once(
    cluster: LiveCluster, http: aiohttp.ClientSession
) -> None:
    """A gateway that never was, a session that never was, no id at all: for polls, posts and upgrades alike."""
    here, _ = await _open(http, cluster)
    base, _, sid = here.partition("&sid=")
    owner, _, secret = sid.partition(".")
    unknown = (
        f"gateway-00000000.{secret}",
        f"{owner}.{secret[::-1]}",
        f"{(await _open(http, cluster))[1].partition('&sid=')[2].partition('.')[0]}.{'x' * 24}",
        "x",
        "..",
        f"{owner}.{secret}.{secret}",
        "%F0%9F%98%80.x",
        "127.0.0.1:1.x",
        "g" * 3000,
    )
    for url in cluster.urls:
        for sid in unknown:
            polling = f"{url}{base[base.index('/socket.io/') :]}&sid={sid}"
            assert await _poll(http, polling) == _UNKNOWN, sid
            assert await _post(http, polling, "3") == 400
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(polling.replace("polling", "websocket"))
            assert refused.value.status == 400


async def test_an_upgrade_at_the_wrong_gateway_is_bridged_with_its_close_codes(
    cluster: LiveCluster, http: aiohttp.ClientSession
) -> None:
    """Probe, the waiting poll ends, frames both ways; what breaks the protocol or is too large is closed as ever."""
    for said, code in (("42nonsense", 1008), ("4" * 70_000, 1009)):
        here, there = await _open(http, cluster)
        async with http.ws_connect(there.replace("polling", "websocket")) as websocket, asyncio.TaskGroup() as tasks:
            poll = tasks.create_task(_poll(http, here))
            await websocket.send_str("2probe")
            assert await _receive(websocket) == "3probe"
            assert (await poll)[0] == 200
            await websocket.send_str("5")
            await websocket.send_str("40" + json.dumps({"token": cluster.token("bala")}))
            assert str(await _receive(websocket)).startswith("40{")
            assert "auth_success" in str(await _receive(websocket))
            assert (await _poll(http, there))[0] == 400
            await websocket.send_str(said)
            while await _receive(websocket) is not None:
                pass
            assert websocket.close_code == code


async def test_a_body_that_is_too_large_is_refused_where_it_arrives(
    cluster: LiveCluster, http: aiohttp.ClientSession
) -> None:
    """The owner does not hear of it."""
    _, there = await _open(http, cluster)
    before = await _relayed(cluster, "post")
    assert 400 <= await _post(http, there, "4" * 70_000) < 500
    assert await _relayed(cluster, "post") == before


async def test_the_internal_port_answers_gateways_only(cluster: LiveCluster, http: aiohttp.ClientSession) -> None:
    """Who does not know the cluster's secret is refused, even with a session's id; and no session begins there."""
    here, _ = await _open(http, cluster)
    address = next(one["relayAddress"] for one in (await cluster.status())["gateways"] if one["id"].startswith("g1-"))
    internal = f"http://{address}{here[here.index('/socket.io/') :]}"
    for headers in ({}, {"X-Talowa-Relay": "guess"}, {"X-Talowa-Relay": "ü"}):
        async with http.get(internal, headers=headers) as response:
            assert response.status == 403


# --- the means ----------------------------------------------------------------------------------------------


async def _say(client: Client, to: str, until_number: int, first: int = 0) -> None:
    for number in range(first, until_number):
        message = {"clientId": f"{client.name}-{to}-{number}", "recipientId": to, "content": _CONTENT}
        assert (await client.send_message(message))["ok"]


async def _relayed(cluster: LiveCluster, kind: str) -> float:
    series = f'talowa_gateway_relayed_total{{kind="{kind}'
    counts = []
    for name in ("g1", "g2"):
        text = str(await cluster.get(name, "/metrics"))
        counts += [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series)]
    return sum(counts)


async def _is_unbridged(cluster: LiveCluster) -> bool:
    return sum([await cluster.metric(name, "talowa_gateway_bridges") for name in ("g1", "g2")]) == 0


async def _open(http: aiohttp.ClientSession, cluster: LiveCluster) -> tuple[str, str]:
    """A polling session of the first gateway: its address there, and at the other gateway."""
    path = "/socket.io/?EIO=4&transport=polling"
    async with http.get(f"{cluster.urls[0]}{path}") as response:
        sid: Any = json.loads((await response.text())[1:])["sid"]
    here, there = (f"{url}{path}&sid={sid}" for url in cluster.urls)
    return here, there


async def _poll(http: aiohttp.ClientSession, polling: str) -> tuple[int, str]:
    async with http.get(polling) as response:
        return response.status, await response.text()


async def _post(http: aiohttp.ClientSession, polling: str, body: str) -> int:
    async with http.post(polling, data=body.encode()) as response:
        return response.status


async def _receive(websocket: aiohttp.ClientWebSocketResponse) -> Any:
    """The next text, None once the server has closed."""
    async with asyncio.timeout(10):
        message = await websocket.receive()
    return message.data if message.type is aiohttp.WSMsgType.TEXT else None
