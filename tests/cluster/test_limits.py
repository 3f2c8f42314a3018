"""Too much at once is refused, with the time to come back, wherever it comes from; and nobody else notices."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from tests.support.clients import JsClients, PythonClient, RawClient
from tests.support.cluster import UNLIMITED, LiveCluster, lasting_cluster
from tests.support.history import History

pytestmark = pytest.mark.asyncio(loop_scope="module")

_MINUTE_MS: Final = 60_000
# "True to 100 ms", and what passes between the broker's answer and its arrival here.
_TRUE_MS: Final = 100
_CONNECTS: Final = 30
_SIGN_INS: Final = 8
_BURST: Final = 100
_JOINS: Final = 40
_OVER_ENGINE: Final = "/socket.io/?EIO=4&transport=polling"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """One cluster for all tests here, with the limits of messages as they are for people."""
    home: Path = tmp_path_factory.mktemp("cluster")
    environment = {
        **dict.fromkeys(UNLIMITED, ""),
        "CONNECTS_PER_MINUTE": str(_CONNECTS),
        "SIGN_INS_PER_MINUTE": str(_SIGN_INS),
        "FRAMES_BURST": str(_BURST),
        "JOINS_PER_MINUTE": str(_JOINS),
        "TRUSTED_PROXIES": "127.0.0.0/8",
        "LOG_LEVEL": "debug",
    }
    async with lasting_cluster(home, routers=1, environment=environment) as running:
        yield running


async def test_a_users_messages_are_counted_over_devices_and_gateways(cluster: LiveCluster) -> None:
    """Sixty texts pass, from a browser and a Python client together; the next is told when to come back."""
    await cluster.people(["a.asha", "a.bala"])
    history, token = History(), {"token": cluster.token("a.asha")}
    async with JsClients(history) as js:
        browser = await js.open("browser", cluster.urls[0], token, user="a.asha")
        bala = await js.open("bala", cluster.urls[1], {"token": cluster.token("a.bala")}, user="a.bala")
        async with await PythonClient.open(history, "python", cluster.urls[1], token, user="a.asha") as python:
            for client in (browser, bala, python):
                await client.wait_for("auth_success")
            devices = (browser, python)
            first = await browser.emit("send_message", _text(0))
            answers = await asyncio.gather(*(devices[n % 2].emit("send_message", _text(n)) for n in range(1, 66)))
            answers = [first, *answers]
            refused = [answer["error"] for answer in answers if not answer["ok"]]
            assert len(refused) == 6
            assert {(error["code"], error["retryable"]) for error in refused} == {("rate_limited", True)}
            assert sorted(answer["seq"] for answer in answers if answer["ok"]) == list(range(1, 61))
            for device in devices:
                asked_at = _now_ms()
                error = (await device.emit("send_message", _text(70)))["error"]
                told_at, due_at = _now_ms(), first["serverTime"] + _MINUTE_MS
                assert due_at - told_at - _TRUE_MS <= error["retryAfterMs"] <= due_at - asked_at + _TRUE_MS
                said = await device.wait_for("message_error", lambda event: event.data["clientId"] == "c70")
                assert said.data["code"] == "rate_limited"
            again = await python.emit("send_message", _text(0))
            assert (again["ok"], again["seq"], again["messageId"]) == (True, 1, first["messageId"])
            assert (await python.emit("send_message", _text(80) | {"type": "voice"}))["seq"] == 61
            assert (await bala.emit("send_message", _text(0) | {"recipientId": "a.asha"}))["seq"] == 62
            await bala.wait_for_messages(61)


async def test_a_socket_that_floods_is_refused_and_in_the_end_closed(cluster: LiveCluster) -> None:
    """A burst is answered; then each event is refused with the time to come back; ten bursts of refusals close it."""
    await cluster.people(["b.asha"])
    async with _session(cluster, "198.51.100.1") as client:
        await _sign_in(client, cluster.token("b.asha"))
        began = time.monotonic()
        for number in range(_BURST + 20):
            await client.send_event("heartbeat", {}, ack=number)
        answers = [await client.expect_answer(number) for number in range(_BURST + 20)]
        took_ms = 1000 * (time.monotonic() - began)
        refused = [answer["error"] for answer in answers if not answer["ok"]]
        assert 0 < len(refused) <= 20
        assert {error["code"] for error in refused} == {"rate_limited"}
        # Each is told a time of its own, at which there is room for it.
        waits_ms = [error["retryAfterMs"] for error in refused]
        for number, wait_ms in enumerate(waits_ms, 1):
            assert 20 * number - took_ms <= wait_ms <= 20 * number
        assert (await client.expect_event("error"))["event"] == "heartbeat"
        for number, (earlier_ms, later_ms) in enumerate(pairwise([0, *waits_ms]), 1000):
            await asyncio.sleep(max(0, later_ms - earlier_ms) / 1000)
            await client.send_event("heartbeat", {}, ack=number)
            assert (await client.expect_answer(number))["ok"]
        for _ in range(12 * _BURST):
            await client.send_text('42["heartbeat",{}]')
        assert await client.wait_closed() == 1008


async def test_binary_packets_count_as_well(cluster: LiveCluster) -> None:
    """What is refused anyway costs its sender the connection, when there is no end of it."""
    async with _session(cluster, "198.51.100.2") as client:
        await client.send_text("40")
        await client.expect_event("auth_required")
        for _ in range(_BURST + 50):
            await client.send_bytes(b"x")
        assert await client.wait_closed() == 1008
        codes = [json.loads(frame[2:])[1]["code"] for frame in client.frames if str(frame).startswith('42["error"')]
        assert codes.count("binary_not_accepted") >= _BURST - 2
        assert codes[-1] == "rate_limited"


async def test_what_a_session_asks_is_counted_by_kind(cluster: LiveCluster) -> None:
    """So many joins and leaves in a minute, and no more; heartbeats and sync go on."""
    await cluster.people(["d.asha"])
    async with _session(cluster, "198.51.100.3") as client:
        await _sign_in(client, cluster.token("d.asha"))
        began = time.monotonic()
        for number in range(_JOINS + 5):
            event = ("join_user_room", "leave_conversation")[number % 2]
            await client.send_event(event, {"userId": "d.asha", "conversationId": "group:g"}, ack=number)
        answers = [await client.expect_answer(number) for number in range(_JOINS + 5)]
        assert [answer["ok"] for answer in answers] == [True] * _JOINS + [False] * 5
        error = answers[-1]["error"]
        assert error["code"] == "rate_limited"
        assert _MINUTE_MS - 1000 * (time.monotonic() - began) - _TRUE_MS < error["retryAfterMs"] <= _MINUTE_MS
        assert (await client.expect_event("error"))["event"] in ("join_user_room", "leave_conversation")
        await client.send_event("sync", {}, ack=200)
        assert (await client.expect_answer(200))["ok"]


async def test_connections_of_an_address_are_counted_over_gateways(cluster: LiveCluster) -> None:
    """Beyond the limit: 429 with Retry-After, before there is a socket. Who is behind the same proxy is not hit."""
    async with aiohttp.ClientSession() as http:

        async def connect(number: int, forwarded: str) -> tuple[int, str | None]:
            url = cluster.urls[number % 2] + _OVER_ENGINE
            async with http.get(url, headers={"X-Forwarded-For": forwarded}) as response:
                return response.status, response.headers.get("Retry-After")

        found = await asyncio.gather(*(connect(n, "1.2.3.4, 203.0.113.9") for n in range(_CONNECTS + 10)))
        assert sorted(status for status, _ in found) == [200] * _CONNECTS + [429] * 10
        assert {after for status, after in found if status == 429} <= {"59", "60"}
        # What a client makes up is not what counts, and neighbours are let in.
        assert (await connect(0, "5.6.7.8, 203.0.113.9"))[0] == 429
        assert (await connect(0, "203.0.113.9, 203.0.113.10"))[0] == 200
        # A /64 is one subscriber.
        shared = [await connect(n, f"2001:db8:1:2::{n:x}") for n in range(_CONNECTS + 1)]
        assert [status for status, _ in shared] == [200] * _CONNECTS + [429]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(
                f"{cluster.urls[1]}/socket.io/?EIO=4&transport=websocket", headers={"X-Forwarded-For": "203.0.113.9"}
            )
        assert refused.value.status == 429


async def test_sign_ins_of_an_address_are_counted_good_and_bad(cluster: LiveCluster) -> None:
    """Over gateways; said in the handshake, and by the event; who is signed in stays so."""
    await cluster.people(["f.asha"])
    address, token = "203.0.113.20", cluster.token("f.asha")
    async with _session(cluster, address, gateway=1) as signed_in, _session(cluster, address, gateway=1) as waits:
        await _sign_in(signed_in, token)
        await waits.send_text("40")
        await waits.expect_event("auth_required")
        for number in range(1, _SIGN_INS):
            async with _session(cluster, address, gateway=number % 2) as stranger:
                await stranger.send_text('40{"token":"bad"}')
                assert '"token_invalid"' in await stranger.expect("44")
        async with _session(cluster, address) as late:
            await late.send_text(f'40{{"token":"{token}"}}')
            data = json.loads((await late.expect("44"))[2:])["data"]
            assert (data["code"], data["retryable"]) == ("rate_limited", True)
            assert 50_000 < data["retryAfterMs"] <= _MINUTE_MS
        await waits.send_event("authenticate", {"token": token}, ack=1)
        assert (await waits.expect_answer(1))["error"]["retryAfterMs"] > 50_000
        failed = await waits.expect_event("auth_failed")
        assert (failed["code"], failed["retryable"]) == ("rate_limited", True)
        assert await waits.wait_closed() == 1012
        await signed_in.send_event("authenticate", {"token": token}, ack=2)
        assert (await signed_in.expect_answer(2))["error"]["code"] == "rate_limited"
        await signed_in.send_event("heartbeat", {}, ack=3)
        assert (await signed_in.expect_answer(3))["ok"]
    async with _session(cluster, "203.0.113.21") as neighbour:
        await _sign_in(neighbour, token)


async def test_no_address_is_told(cluster: LiveCluster) -> None:
    """Not in a log, not on a page of metrics, not in the broker."""
    keys = [key.decode() for key in await cluster.broker.command("KEYS", "*")]
    assert any(":connects:" in key for key in keys)
    pages = [str(await cluster.get(name, "/metrics")) for name in ("g1", "g2", "r1")]
    told = "\n".join([cluster.logs(), *pages, *keys])
    assert '"event": "started"' in told
    assert [address for address in ("203.0.113", "198.51.100", "2001:db8", "1.2.3.4") if address in told] == []


async def test_a_broker_that_does_not_answer_keeps_nobody_out(cluster: LiveCluster) -> None:
    """But whom it told when to come back, until then: better too many than nobody."""
    async with aiohttp.ClientSession() as http:
        headers = {"X-Forwarded-For": "203.0.113.9"}

        async def connect(gateway: int, headers: dict[str, str]) -> int:
            async with http.get(cluster.urls[gateway] + _OVER_ENGINE, headers=headers) as response:
                return response.status

        assert await connect(0, headers) == 429
        cluster.servers.pause()
        try:
            assert await connect(0, headers) == 429
            assert await connect(0, {"X-Forwarded-For": "203.0.113.99"}) == 200
        finally:
            cluster.servers.resume()


def _text(number: int) -> dict[str, Any]:
    return {"clientId": f"c{number}", "recipientId": "a.bala", "content": "భూమి"}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def _session(cluster: LiveCluster, address: str, gateway: int = 0) -> AsyncIterator[RawClient]:
    """A WebSocket that a proxy says comes from `address`."""
    session = aiohttp.ClientSession(headers={"X-Forwarded-For": address})
    websocket = await session.ws_connect(f"{cluster.urls[gateway]}/socket.io/?EIO=4&transport=websocket")
    async with RawClient(session, websocket, address, History()) as client:
        await client.expect("0{")
        yield client


async def _sign_in(client: RawClient, token: str) -> None:
    await client.send_text(f'40{{"token":"{token}"}}')
    await client.expect_event("auth_success")
