"""Engine.IO and Socket.IO as their texts have them: WebSocket, polling, the way between, pings and closing.

Protocols: https://socket.io/docs/v4/engine-io-protocol/ · https://socket.io/docs/v4/socket-io-protocol/
One cluster serves the whole module; it pings twice a second.
"""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from tests.support.clients import Client, JsClients, PythonClient, RawClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History, check
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_PING_INTERVAL_S: Final = 0.5
_PING_TIMEOUT_S: Final = 1.0
_PINGING: Final = {"PING_INTERVAL_S": str(_PING_INTERVAL_S), "PING_TIMEOUT_S": str(_PING_TIMEOUT_S)}
_BURST: Final = 40
_LONG: Final = "భూమి హక్కులు " * 100


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """One gateway: without affinity, polling over several is another matter."""
    home = tmp_path_factory.mktemp("cluster")
    async with live_cluster(home, gateways=1, routers=1, environment=_PINGING) as cluster:
        await cluster.people(["asha", "bala"])
        yield cluster


@pytest.fixture
def url(cluster: LiveCluster) -> str:
    """Where clients connect."""
    return cluster.urls[0]


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """For polling by hand."""
    async with aiohttp.ClientSession() as session:
        yield session


# --- the handshake -----------------------------------------------------------------------------------


async def test_the_open_packet_says_what_will_be_in_milliseconds(url: str, http: aiohttp.ClientSession) -> None:
    """Also under a second, where the library says 0; an upgrade is offered to who polls, and to nobody else."""
    told = {"pingInterval": 500, "pingTimeout": 1000, "maxPayload": 65_536}
    async with await RawClient.connect(url, handshake=False) as client:
        opened = json.loads(str(client.frames[0])[1:])
    sid = opened.pop("sid")
    assert opened == told | {"upgrades": []}
    async with http.get(f"{url}/socket.io/?EIO=4&transport=polling") as response:
        polled = json.loads((await response.text())[1:])
    assert polled.pop("sid") != sid
    assert polled == told | {"upgrades": ["websocket"]}


async def test_the_socket_port_serves_clients_and_nothing_else(url: str, http: aiohttp.ClientSession) -> None:
    """`/info`, `/healthz` and `/readyz` besides the sockets; what operators see is elsewhere."""
    async with http.get(f"{url}/info") as response:
        assert await response.json() == {
            "url": url,
            "transports": ["websocket", "polling"],
            "path": "/socket.io/",
            "heartbeatInterval": 500,
            "heartbeatTimeout": 1000,
        }
    for path, status in {"/healthz": 200, "/readyz": 200, "/metrics": 404, "/status": 404, "/": 404}.items():
        async with http.get(f"{url}{path}") as response:
            assert (path, response.status) == (path, status)


# --- each transport, with unmodified clients -----------------------------------------------------------


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_messages_cross_on_each_transport(cluster: LiveCluster, url: str, transport: str) -> None:
    """From a JavaScript client to a Python client and back, in order, Indic text as it is."""
    history = History()
    one, other = f"{transport}1", f"{transport}2"
    await cluster.people([one, other])
    async with JsClients(history) as js:
        asha = await js.open(one, url, {"token": cluster.token(one)}, transports=[transport])
        auth = {"token": cluster.token(other)}
        async with await PythonClient.open(history, other, url, auth, transports=[transport]) as bala:
            await asha.wait_for("auth_success")
            await bala.wait_for("auth_success")
            await asyncio.gather(_say(asha, other, count=10), _say(bala, one, count=10))
            await asha.wait_for_messages(10)
            await bala.wait_for_messages(10)
            assert {e.data["content"] for e in bala.events("new_message")} == {"నమస్తే"}
            assert asha.events("disconnect") == bala.events("disconnect") == []
    report = check(history, {f"direct:{one}:{other}": (one, other)})
    assert report.ok, report


async def test_nothing_is_lost_while_unmodified_clients_upgrade(cluster: LiveCluster, url: str) -> None:
    """Messages to and from a JavaScript client that connects in the middle of them arrive once, and in order."""
    history = History()
    await cluster.people(["early", "late"])
    auth = {"token": cluster.token("early")}
    async with JsClients(history) as js, await PythonClient.open(history, "early", url, auth) as early:
        await early.wait_for("auth_success")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_say(early, "late"))
            late = await js.open("late", url, {"token": cluster.token("late")}, wait=False)
            tasks.create_task(_say(late, "early"))
            await late.wait_for("upgrade")
        await early.wait_for_messages(_BURST)
        await late.wait_for_messages(_BURST)
        assert late.events("disconnect") == []
    report = check(history, {"direct:early:late": ("early", "late")})
    assert report.ok, report


# --- compression -----------------------------------------------------------------------------------------


async def test_compression_is_negotiated_without_contexts(url: str) -> None:
    """A context per socket costs more memory than all else of it; who offers nothing is answered nothing."""
    forgetting = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    for offered, answered in ((True, forgetting), (False, None)):
        async with await RawClient.connect(url, handshake=False, compress=offered) as client:
            assert client.extensions == answered


async def test_unmodified_clients_that_offer_it_have_large_messages_compressed(cluster: LiveCluster, url: str) -> None:
    """A JavaScript and a Python client write 3 KB to each other, also in frames of their own that are compressed."""
    history = History()
    await cluster.people(["squeeze1", "squeeze2"])
    before = await cluster.metric("g1", "talowa_gateway_compressed_total")
    async with JsClients(history) as js:
        one = await js.open(
            "squeeze1",
            url,
            {"token": cluster.token("squeeze1")},
            transports=["websocket"],
            options={"perMessageDeflate": {"threshold": 1024}},
        )
        async with await PythonClient.open(
            history,
            "squeeze2",
            url,
            {"token": cluster.token("squeeze2")},
            transports=["websocket"],
            options={"websocket_extra_options": {"compress": 15}},
        ) as two:
            await one.wait_for("auth_success")
            await two.wait_for("auth_success")
            await asyncio.gather(_say(one, "squeeze2", 5, _LONG), _say(two, "squeeze1", 5, _LONG))
            await one.wait_for_messages(5)
            await two.wait_for_messages(5)
            assert {event.data["content"] for event in two.events("new_message")} == {_LONG}
            asked = await one.emit("get_conversation_history", {"conversationId": "direct:squeeze1:squeeze2"})
            assert [message["content"] for message in asked["messages"]] == [_LONG] * 10
    report = check(history, {"direct:squeeze1:squeeze2": ("squeeze1", "squeeze2")})
    assert report.ok, report
    # Ten messages, and the history as answer and as event.
    assert await cluster.metric("g1", "talowa_gateway_compressed_total") - before >= 12


async def test_a_bomb_closes_with_1009_and_takes_no_memory(cluster: LiveCluster, url: str) -> None:
    """Sixty megabytes in a frame that is small enough; the gateway does not grow by what one of them would be."""
    deflater = zlib.compressobj(9, wbits=-15)
    bomb = deflater.compress(b"4" + bytes(60 << 20)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 65_536
    before = _memory(cluster)
    for _ in range(5):
        async with await RawClient.connect(url, {"token": cluster.token("bala")}, compress=True) as client:
            await client.expect_event("auth_success")
            client.send_deflated_nowait(bomb.removesuffix(b"\x00\x00\xff\xff"))
            assert await client.wait_closed() == 1009
    assert _memory(cluster) - before < 8 << 20


async def test_polled_bodies_are_gzipped_for_who_accepts_it(
    cluster: LiveCluster, url: str, http: aiohttp.ClientSession
) -> None:
    """Over the bound, and only then."""
    await cluster.people(["polled"])
    polling = await _open(http, url)
    connect = "40" + json.dumps({"token": cluster.token("polled")})
    send = json.dumps(["send_message", {"clientId": "z", "recipientId": "bala", "content": _LONG}], ensure_ascii=False)
    ask = '421["get_conversation_history",{"conversationId":"direct:bala:polled"}]'
    assert await _post(http, polling, f"{connect}\x1e422{send}") == 200
    encodings = {}
    for accepted in ("gzip", "identity"):
        assert await _post(http, polling, ask) == 200
        body = ""
        while "431[" not in body:
            async with http.get(polling, headers={"Accept-Encoding": accepted}) as response:
                body = await response.text()
                encodings[accepted, len(body.encode()) > 1024] = response.headers.get("Content-Encoding")
                if "\x1e2" in f"\x1e{body}":
                    assert await _post(http, polling, "3") == 200
    assert encodings["gzip", True] == "gzip"
    assert {encodings.get(("gzip", False)), encodings["identity", True]} == {None}


# --- pings -----------------------------------------------------------------------------------------------


async def test_who_does_not_answer_pings_is_closed_and_who_does_stays(cluster: LiveCluster, url: str) -> None:
    """After the interval and the time-out; a session that ended so is gone."""
    auth = {"token": cluster.token("bala")}
    async with await RawClient.connect(url, auth) as deaf, await RawClient.connect(url, auth) as alive:
        deaf.answer_pings = False
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(_listen(alive))
            await deaf.wait_closed()
            assert deaf.frames.count("2") == 1
            await until(lambda: alive.frames.count("2") >= 4, 10, "four pings")
            listening.cancel()
        await alive.send_event("heartbeat", {}, ack=1)
        assert (await alive.expect_answer(1))["ok"]


async def test_who_polls_is_pinged_too(url: str, http: aiohttp.ClientSession) -> None:
    """A ping comes with a poll; answered, the session goes on, unanswered it ends."""
    polling = await _open(http, url)
    assert (await _poll(http, polling)) == (200, "2")
    assert await _post(http, polling, "3") == 200
    assert (await _poll(http, polling)) == (200, "2")

    async def is_gone() -> bool:
        return (await _poll(http, polling))[0] == 400

    await until(is_gone, 10, "the session to be gone")


# --- polling by hand -------------------------------------------------------------------------------------


async def test_a_payload_carries_several_packets(cluster: LiveCluster, url: str, http: aiohttp.ClientSession) -> None:
    """In both directions, apart by the record separator, in order."""
    polling = await _open(http, url)
    connect = "40" + json.dumps({"token": cluster.token("bala")})
    assert await _post(http, polling, f'{connect}\x1e421["heartbeat",{{}}]\x1e422["heartbeat",{{}}]') == 200
    received: list[str] = []
    while not any(packet.startswith("432[") for packet in received):
        status, body = await _poll(http, polling)
        assert status == 200
        received += body.split("\x1e")
    kinds = [packet[:3] for packet in received if packet.startswith(("40", "43"))]
    assert kinds == ["40{", "431", "432"]


async def test_a_second_poll_beside_the_first_closes_the_session(url: str, http: aiohttp.ClientSession) -> None:
    """A client has one poll at a time: the second is refused, and the first ends with it."""
    polling = await _open(http, url)
    async with asyncio.TaskGroup() as tasks:
        polls = [tasks.create_task(_poll(http, polling)) for _ in range(2)]
    assert sorted(poll.result()[0] for poll in polls) == [200, 400]
    assert (await _poll(http, polling))[0] == 400


async def test_a_close_packet_ends_a_polling_session(url: str, http: aiohttp.ClientSession) -> None:
    """Polled in, it ends the poll that waits as well."""
    polling = await _open(http, url)
    async with asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(_poll(http, polling))
        assert await _post(http, polling, "1") == 200
    assert poll.result()[0] in (200, 400)
    assert await _post(http, polling, "3") in (200, 400)
    assert (await _poll(http, polling))[0] in (200, 400)


# --- the upgrade by hand ---------------------------------------------------------------------------------


async def test_an_upgrade_ends_the_poll_and_moves_what_follows(url: str, http: aiohttp.ClientSession) -> None:
    """Probe, the waiting poll ends with a NOOP, `5`; from then on the session is not polled any more."""
    polling = await _open(http, url)
    async with http.ws_connect(polling.replace("polling", "websocket")) as websocket, asyncio.TaskGroup() as tasks:
        poll = tasks.create_task(_poll(http, polling))
        await websocket.send_str("2probe")
        assert await _receive(websocket) == "3probe"
        status, body = await poll
        assert status == 200
        assert body in ("6", "2")
        await websocket.send_str("5")
        await websocket.send_str("40")
        assert str(await _receive(websocket)).startswith(("40", "2"))
        assert (await _poll(http, polling))[0] == 400
        assert await _post(http, polling, "3") == 400
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(polling.replace("polling", "websocket"))


async def test_an_upgrade_in_the_middle_of_messages_loses_none(
    cluster: LiveCluster, url: str, http: aiohttp.ClientSession
) -> None:
    """What waits when the probe comes goes out in order, by the last poll or the WebSocket, each once."""
    await cluster.people(["sender", "mover"])
    polling = await _open(http, url)
    assert await _post(http, polling, "40" + json.dumps({"token": cluster.token("mover")})) == 200
    packets: list[str] = []
    auth = {"token": cluster.token("sender")}
    async with (
        await PythonClient.open(History(), "sender", url, auth, transports=["websocket"]) as sender,
        asyncio.TaskGroup() as tasks,
    ):
        await sender.wait_for("auth_success")
        tasks.create_task(_say(sender, "mover"))
        while len(_client_ids(packets)) < 3:
            polled = (await _poll(http, polling))[1].split("\x1e")
            packets += polled
            if "2" in polled:
                assert await _post(http, polling, "3") == 200
        async with http.ws_connect(polling.replace("polling", "websocket")) as websocket:
            poll = tasks.create_task(_poll(http, polling))
            await websocket.send_str("2probe")
            assert await _receive(websocket) == "3probe"
            polled = (await poll)[1].split("\x1e")
            packets += polled
            await websocket.send_str("5")
            if "2" in polled:
                await websocket.send_str("3")
            while len(_client_ids(packets)) < _BURST:
                packets.append(await _receive(websocket))
                assert packets[-1] is not None
                if packets[-1] == "2":
                    await websocket.send_str("3")
    assert _client_ids(packets) == [f"sender-{number}" for number in range(_BURST)]


async def test_a_probe_that_comes_to_nothing_leaves_polling_as_it_was(url: str, http: aiohttp.ClientSession) -> None:
    """A proxy may cut the WebSocket at any step."""
    polling = await _open(http, url)
    for said in ((), ("2probe",), ("hello",), ("2probe", "4hello")):
        async with http.ws_connect(polling.replace("polling", "websocket")) as websocket:
            for text in said:
                await websocket.send_str(text)
            if said[:1] == ("2probe",):
                assert await _receive(websocket) == "3probe"
        assert await _post(http, polling, "3") == 200

    async def is_polled() -> bool:
        return (await _poll(http, polling))[1] == "2"

    await until(is_polled, 10, "a ping over polling")


async def test_a_probe_that_is_never_finished_ends_with_its_session(url: str, http: aiohttp.ClientSession) -> None:
    """A WebSocket that only began to upgrade is not left open for ever."""
    polling = await _open(http, url)
    async with http.ws_connect(polling.replace("polling", "websocket")) as websocket:
        await websocket.send_str("2probe")
        assert await _receive(websocket) == "3probe"
        assert await _receive(websocket) is None


# --- Socket.IO on top ------------------------------------------------------------------------------------


async def test_a_disconnect_packet_ends_the_session_and_not_the_connection(cluster: LiveCluster, url: str) -> None:
    """The namespace may be joined again, as someone else."""
    async with await RawClient.connect(url, {"token": cluster.token("bala")}) as client:
        first = json.loads((await client.expect("40"))[2:])["sid"]
        await client.expect_event("auth_success")
        await client.send_text("41")
        await client.send_text("40" + json.dumps({"token": cluster.token("asha")}))
        second = json.loads((await client.expect("40"))[2:])["sid"]
        assert second != first
        success = await client.expect_event("auth_success")
        assert (success["userId"], success["connectionId"]) == ("asha", second)
        await client.send_event("send_message", {"clientId": "re", "recipientId": "bala", "content": "x"}, ack=1)
        assert (await client.expect_answer(1))["ok"]
        await client.send_text("41")

        async def is_gone() -> bool:
            return await cluster.metric("g1", "talowa_gateway_sessions") == 0

        await until(is_gone, 10, "the session to be gone")


async def test_a_client_that_leaves_is_gone_within_a_second(cluster: LiveCluster, url: str) -> None:
    """By a packet, a close frame, or a connection that is cut."""
    await cluster.people(["leaver"])

    async def is_here() -> bool:
        return await cluster.metric("g1", "talowa_gateway_sessions") == 1

    async def is_gone() -> bool:
        return await cluster.metric("g1", "talowa_gateway_sessions") == 0

    await until(is_gone, 10, "nobody's session")
    async with JsClients(History()) as js:
        for way in ("close", "drop"):
            auth = {"token": cluster.token("leaver")}
            client = await js.open(way, url, auth, transports=["websocket"], options={"reconnection": False})
            await client.wait_for("auth_success")
            assert await is_here()
            await (client.close() if way == "close" else client.drop())
            await until(is_gone, 5, f"the session to be gone after {way}")


# --- the means -------------------------------------------------------------------------------------------


async def _say(client: Client, to: str, count: int = _BURST, content: str = "నమస్తే") -> None:
    """Messages in a row, the next as soon as one is answered; sent again where there is no answer."""
    for number in range(count):
        message = {"clientId": f"{client.name}-{number}", "recipientId": to, "content": content}
        assert (await client.send_message(message))["ok"]


def _client_ids(packets: list[str]) -> list[str]:
    """Of the messages in Engine.IO packets, live or due, in order."""
    ids: list[str] = []
    for packet in packets:
        start = packet.find("[")
        match json.loads(packet[start:]) if packet.startswith("42") else None:
            case ["new_message", message]:
                ids.append(message["clientId"])
            case ["offline_messages", page]:
                ids += [message["clientId"] for message in page["messages"]]
    return ids


def _memory(cluster: LiveCluster) -> int:
    """The most that the gateway has had so far, in bytes."""
    told = Path(f"/proc/{cluster.processes.pid('g1')}/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) << 10


async def _listen(client: RawClient) -> None:
    while await client.receive(timeout_s=60) is not None:
        pass


async def _open(http: aiohttp.ClientSession, url: str) -> str:
    """The address of a new polling session."""
    base = f"{url}/socket.io/?EIO=4&transport=polling"
    async with http.get(base) as response:
        return f"{base}&sid={json.loads((await response.text())[1:])['sid']}"


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
