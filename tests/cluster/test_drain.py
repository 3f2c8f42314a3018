"""Gateways leave without a stampede, and fill up when they are empty: each client is told when to be back, and is.

One cluster serves the whole module: three gateways that let 40 a second sign in elsewhere, and have little time.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from services.local import operators
from services.local.keyring import Keyring
from tests.support.clients import JsClients, RawClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.load import Lane, arrived, steady_traffic
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SIGN_INS_PER_S: Final = 40
_DEADLINE_S: Final = 1.0
_SOON_S: Final = 20.0
_ENVIRONMENT: Final = {
    "DRAIN_WINDOW_S": "0.5",
    "DRAIN_SIGN_INS_PER_S": str(_SIGN_INS_PER_S),
    "DRAIN_DEADLINE_S": str(_DEADLINE_S),
    "REBALANCE_REST_S": "0.5",
    "REBALANCE_SIGN_INS_PER_S": str(_SIGN_INS_PER_S),
}
_PEOPLE: Final = ("asha", "bala", "chitra", "devi")
_CROWD: Final = tuple(f"user{number}" for number in range(48))
_SEPARATOR: Final = "\x1e"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """Three gateways."""
    home = tmp_path_factory.mktemp("cluster")
    async with live_cluster(home, gateways=3, routers=1, environment=_ENVIRONMENT) as cluster:
        await cluster.people([*_PEOPLE, *_CROWD])
        yield cluster


# --- what is said before the close --------------------------------------------------------------------------


async def test_everyone_is_told_when_to_be_back_with_a_ticket_that_signs_in_elsewhere(cluster: LiveCluster) -> None:
    """Before the 1012; no faster than may sign in elsewhere, however much the operator is in a hurry."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await _sign_in(cluster, 0, "asha")) for _ in range(12)]
        stranger = await stack.enter_async_context(await RawClient.connect(cluster.urls[0], handshake=False))
        before = await _sent_back(cluster, "g1", "drain")
        status, answer = await cluster.post("g1", "/stop?windowS=0")
        assert (status, answer["draining"]) == (200, 13)
        assert answer["windowS"] >= round(13 / _SIGN_INS_PER_S, 1)
        for client in clients:
            told = await client.expect_event("reconnect")
            assert 500 <= told["afterMs"] <= 1500
            assert await client.wait_closed() == 1012
            async with await RawClient.connect(cluster.urls[1], {"resumeTicket": told["resumeTicket"]}) as again:
                assert (await again.expect_event("auth_success"))["userId"] == "asha"
        assert await stranger.wait_closed() == 1012
        assert not any("reconnect" in str(frame) for frame in stranger.frames)
        assert await _sent_back(cluster, "g1", "drain") == before + 13
    await cluster.post("g1", "/start")
    await cluster.wait_ready("g1")


async def test_who_polls_hears_it_with_the_end_in_one_body(cluster: LiveCluster) -> None:
    """In the poll that waits: the next might find nobody."""
    async with aiohttp.ClientSession() as http:
        url = f"{cluster.urls[0]}/socket.io/?EIO=4&transport=polling"
        opened = json.loads((await _polled(http, url))[0][1:])
        url += f"&sid={opened['sid']}"
        async with http.post(url, data="40" + json.dumps({"token": cluster.token("asha")})) as response:
            assert response.status == 200
        while not any("auth_success" in packet for packet in await _polled(http, url)):
            pass
        async with asyncio.TaskGroup() as tasks:
            poll = tasks.create_task(_last_poll(http, url))
            await cluster.post("g1", "/stop")
        *_, told, end = poll.result()
        assert told.startswith('42["reconnect",{"afterMs":')
        assert end == "1"
    await cluster.post("g1", "/start")
    await cluster.wait_ready("g1")


async def test_what_passes_through_a_gateway_that_leaves_is_told_too(cluster: LiveCluster) -> None:
    """By the gateway that passes it on, which has no ticket to give; the owner, who takes others as before, lets go."""
    async with aiohttp.ClientSession() as http:
        here = f"{cluster.urls[1]}/socket.io/?EIO=4&transport=polling"
        opened = json.loads((await _polled(http, here))[0][1:])
        there = f"{cluster.urls[0]}/socket.io/?EIO=4&transport=websocket&sid={opened['sid']}"
        async with http.ws_connect(there) as websocket:
            await websocket.send_str("2probe")
            assert await websocket.receive_str() == "3probe"
            await websocket.send_str("5")
            await websocket.send_str("40" + json.dumps({"token": cluster.token("asha")}))
            while "auth_success" not in await websocket.receive_str():
                pass
            await cluster.post("g1", "/stop")
            while "reconnect" not in (last := await websocket.receive_str()):
                pass
            assert json.loads(last[2:])[1].keys() == {"afterMs"}
            await websocket.receive()
            assert websocket.close_code == 1012
    await cluster.post("g1", "/start")
    await cluster.wait_ready("g1")


async def test_clients_that_heed_it_and_clients_that_do_not_come_back(cluster: LiveCluster) -> None:
    """The one with the ticket, at the time it was given; the other by itself, with what it had."""
    async with JsClients(History()) as js:
        heeding, plain = [
            await js.open(
                f"{user}1",
                cluster.urls[:2],
                {"token": cluster.token(user)},
                user=user,
                transports=["websocket"],
                heeds=user == "asha",
            )
            for user in ("asha", "bala")
        ]
        for client in (heeding, plain):
            await client.wait_for("auth_success")
        marks = {client.name: client.mark for client in (heeding, plain)}
        await cluster.post("g1", "/stop")
        for client in (heeding, plain):
            since = marks[client.name]
            await client.wait_for("reconnect", since=since)
            await client.wait_for("connect", lambda event: bool(event.data["url"] == cluster.urls[1]), since=since)
            await client.wait_for("auth_success", since=since)
        said, gone, back = (heeding.events(kind)[-1] for kind in ("reconnect", "disconnect", "connect"))
        assert gone.data["reason"] == "io client disconnect"
        assert plain.events("disconnect")[-1].data["code"] == 1012
        assert back.at_ms - said.at_ms >= said.data["afterMs"]
    await cluster.post("g1", "/start")
    await cluster.wait_ready("g1")


# --- leaving for good ---------------------------------------------------------------------------------------


async def test_a_rolling_restart_under_traffic_loses_nothing(cluster: LiveCluster) -> None:
    """All three gateways, one after another; half of the clients heed what they are told."""
    history = History()
    async with JsClients(history) as js:
        clients = {
            user: await js.open(
                f"{user}1",
                cluster.urls[number % 3 :] + cluster.urls[: number % 3],
                {"token": cluster.token(user)},
                user=user,
                transports=["websocket"],
                heeds=number % 2 == 0,
            )
            for number, user in enumerate(_PEOPLE)
        }
        for client in clients.values():
            await client.wait_for("auth_success")
        ring = list(zip(_PEOPLE, (*_PEOPLE[1:], _PEOPLE[0]), strict=True))
        async with steady_traffic([Lane(clients[user], {"recipientId": to}) for user, to in ring]) as traffic:
            for name in ("g1", "g2", "g3"):
                await _restart(cluster, name)
                await traffic.wait_flows()
        report = await arrived(
            history, {f"direct:{min(pair)}:{max(pair)}": [f"{one}1" for one in pair] for pair in ring}
        )
        assert report.ok, report
        assert not report.refused
        assert not report.unanswered
        assert all(client.events("reconnect") for client in clients.values())


async def test_who_has_no_time_left_closes_the_rest_at_once_and_still_spreads_them(cluster: LiveCluster) -> None:
    """Killed after a while, it says how many it could not close in time; each of them has a time of its own."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await _sign_in(cluster, 2, user)) for user in (*_CROWD, *_CROWD)]
        cluster.processes.set_restarts("g3", False)
        cluster.processes.kill("g3", signal.SIGTERM)
        told = [(await client.expect_event("reconnect", _SOON_S))["afterMs"] for client in clients]
        assert {await client.wait_closed() for client in clients} == {1012}
        assert await cluster.processes.wait_exit("g3", _SOON_S) == 0
    lines = [json.loads(line) for line in cluster.processes.log("g3").read_text().splitlines()]
    (said,) = [line for line in lines if line["event"].startswith("no time is left")]
    assert said["level"] == "warning"
    late = said["sockets"]
    assert len(clients) - _SIGN_INS_PER_S * (_DEADLINE_S + 0.5) <= late < len(clients)
    # The last of them a second later for each lot that may sign in.
    assert max(told) >= 500 + 1000 * (late - 1) / _SIGN_INS_PER_S
    await cluster.processes.start("g3")
    cluster.processes.set_restarts("g3", True)
    await cluster.wait_ready("g3")


# --- rebalance ----------------------------------------------------------------------------------------------


async def test_an_empty_gateway_gets_its_share_and_then_it_ends(cluster: LiveCluster) -> None:
    """Those who move are told when to be back; nobody is seen to go or moves twice; asked again, nothing is done."""
    async with JsClients(History()) as js:
        watcher = await js.open("watcher", cluster.urls[2], {"token": cluster.token("devi")})
        await watcher.wait_for("auth_success")
        await watcher.emit("subscribe_presence", {"userIds": list(_CROWD)})
        clients = [
            await js.open(
                user,
                [cluster.urls[number % 2], cluster.urls[2]],
                {"token": cluster.token(user)},
                transports=["websocket"],
                heeds=number % 3 == 0,
            )
            for number, user in enumerate(_CROWD)
        ]
        for client in clients:
            await client.wait_for("auth_success")
        await until(lambda: _counts(cluster, [24, 24, 1]), _SOON_S, "figures that know of all")
        mark, before = watcher.mark, [await _sent_back(cluster, name, "rebalance") for name in ("g1", "g2", "g3")]
        answer = json.loads(await _talowa_rebalance(cluster))
        assert answer["target"] == 17
        assert sorted(answer["gateways"].values()) == [0, 7, 7]
        await until(lambda: _counts(cluster, [17, 17, 15]), _SOON_S, "an empty gateway to get its share")
        moved = [client for client in clients if client.events("reconnect")]
        assert len(moved) == 14
        for client in moved:
            assert len(client.events("reconnect")) == 1
            assert client.events("connect")[-1].data["url"] == cluster.urls[2]
        after = [await _sent_back(cluster, name, "rebalance") for name in ("g1", "g2", "g3")]
        assert [now - then for now, then in zip(after, before, strict=True)] == [7, 7, 0]
        assert not [
            event for event in watcher.events("presence_update", since=mark) if event.data["status"] == "offline"
        ]
        answer = json.loads(await _talowa_rebalance(cluster))
        assert set(answer["gateways"].values()) == {0}


async def test_only_operators_may_and_gateways_that_leave_are_left_out(cluster: LiveCluster) -> None:
    """A gateway that was stopped is nobody's target."""
    url = f"http://127.0.0.1:{cluster._internal['g1']}/rebalance"
    async with aiohttp.ClientSession() as http, http.post(url) as response:
        assert response.status == 401
    await cluster.post("g3", "/stop")

    async def is_left_out() -> bool:
        _, answer = await cluster.post("g3", "/rebalance")
        return len(answer["gateways"]) == 2

    await until(is_left_out, _SOON_S, "a mean without the gateway that was stopped")
    await cluster.post("g3", "/start")


# --- the means ----------------------------------------------------------------------------------------------


async def _sign_in(cluster: LiveCluster, gateway: int, user: str) -> RawClient:
    client = await RawClient.connect(cluster.urls[gateway], {"token": cluster.token(user)})
    await client.expect_event("auth_success")
    return client


async def _polled(http: aiohttp.ClientSession, url: str) -> list[str]:
    async with http.get(url) as response:
        assert response.status == 200
        return (await response.text()).split(_SEPARATOR)


async def _last_poll(http: aiohttp.ClientSession, url: str) -> list[str]:
    """Poll until the end was said; that body. Pings and statuses are of no interest here."""
    while (packets := await _polled(http, url))[-1] != "1":
        pass
    return packets


async def _restart(cluster: LiveCluster, name: str) -> None:
    cluster.processes.set_restarts(name, False)
    cluster.processes.kill(name, signal.SIGTERM)
    assert await cluster.processes.wait_exit(name, _SOON_S) == 0
    await cluster.processes.start(name)
    cluster.processes.set_restarts(name, True)
    await cluster.wait_ready(name)


async def _sent_back(cluster: LiveCluster, name: str, why: str) -> float:
    return await cluster.metric(name, f'talowa_gateway_sent_back_total{{why="{why}"}}')


async def _counts(cluster: LiveCluster, expected: list[int]) -> bool:
    """Whether gateways have so many sockets, as `/status` tells."""
    gateways: list[dict[str, Any]] = (await cluster.status())["gateways"]
    return [each["connections"] for each in sorted(gateways, key=lambda each: str(each["id"]))] == expected


async def _talowa_rebalance(cluster: LiveCluster) -> str:
    token = Keyring(cluster.home).admin_token()
    return await operators.call(cluster.processes.state(), token, "POST", "/rebalance")
