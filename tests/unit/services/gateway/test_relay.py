"""One gateway passes on to another what is the other's: two servers, no broker, no Socket.IO."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.gateway import relay
from services.gateway.bridge import CLOSE_TIMEOUT_S
from services.gateway.compression import NO_COMPRESSION
from services.gateway.metrics import GatewayMetrics
from services.gateway.relay import Relay, gateway_of
from tests.support.waiting import until
from tests.unit.services.gateway import echo
from tests.unit.services.gateway.fakes import FakeWheel

_SECRET: Final = "s" * 32
_SID: Final = "owner-1.abc"
_POLL_MAX_S: Final = 0.5
_SOON_S: Final = 10.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OneNeighbour:
    """Knows one gateway, wherever it is."""

    def __init__(self) -> None:
        self.address = ""
        self.forgotten: list[str] = []

    async def address_of(self, gateway: str) -> str | None:
        """The owner's."""
        return self.address if gateway == "owner-1" else None

    def forget(self, gateway: str) -> None:
        """It did not answer."""
        self.forgotten.append(gateway)


class Way:
    """Client → first gateway → owner."""

    def __init__(self, http: aiohttp.ClientSession, first: Relay, neighbour: OneNeighbour, url: str) -> None:
        self.http = http
        self.first = first
        self.neighbour = neighbour
        self.url = url

    async def connect(self) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket to the owner, through the first gateway."""
        return await self.http.ws_connect(self.url)


def _relay(gateway: str, neighbour: OneNeighbour, session: aiohttp.ClientSession, *secrets: str) -> Relay:
    return Relay(
        gateway,
        neighbour,  # type: ignore[arg-type]
        session,
        GatewayMetrics(CollectorRegistry()),
        NO_COMPRESSION,
        secrets=secrets or [_SECRET],
        poll_max_s=_POLL_MAX_S,
        frame_max_bytes=65_536,
        client_address=lambda _: "203.0.113.7",
    )


@asynccontextmanager
async def _serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _way(answer: Handler, *, secrets: Sequence[str] = (_SECRET,)) -> AsyncIterator[Way]:
    """The owner answers with `answer`; the first gateway has `_SECRET`, the owner `secrets`."""
    neighbour = OneNeighbour()
    async with relay.open_session() as neighbourhood, aiohttp.ClientSession() as http:
        first = _relay("first-1", neighbour, neighbourhood)

        async def relayed(request: web.Request) -> web.StreamResponse:
            return await first.pass_on(request) or web.Response(status=400, text="unknown")

        public, internal = web.Application(client_max_size=65_536), web.Application()
        public.router.add_route("*", relay.PATH, relayed)
        _relay("owner-1", neighbour, neighbourhood, *secrets).serve(internal, answer)
        async with _serving(internal) as neighbour.address, _serving(public) as address:
            yield Way(http, first, neighbour, f"http://{address}{relay.PATH}?EIO=4&sid={_SID}&t=a%20b")


# --- ids ------------------------------------------------------------------------------------------------------


@given(st.text())
def test_no_id_is_an_error(sid: str) -> None:
    """Clients may send anything."""
    gateway = gateway_of(sid)
    assert gateway is None or sid.startswith(f"{gateway}.")


async def test_the_ids_that_are_given_name_their_gateway() -> None:
    """As `Server` makes them."""
    server = echo.server(echo.Echo(), asyncio.TaskGroup(), FakeWheel(), gateway="gateway-0-1a2b3c4d")
    assert gateway_of(server.engine.generate_id()) == "gateway-0-1a2b3c4d"


# --- polls and posts -----------------------------------------------------------------------------------------


async def test_what_a_client_says_arrives_as_it_said_it() -> None:
    """Path, body, cookies and headers; who it is, the first gateway says, whatever the client claims."""
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return web.Response(text=f"{request.method} {request.path_qs} {(await request.read()).decode()}")

    claims = {
        "X-Forwarded-For": "198.51.100.1",
        "X-Talowa-Relay": "mine",
        "Origin": "https://a.example",
        "Cookie": "a=b",
    }
    async with _way(answer) as way:
        async with way.http.get(way.url, headers=claims, skip_auto_headers=("Accept-Encoding",)) as response:
            assert await response.text() == f"GET {relay.PATH}?EIO=4&sid={_SID}&t=a%20b "
        async with way.http.post(way.url, data="నమస్తే".encode(), headers={"Content-Encoding": "identity"}) as response:
            assert (await response.text()).endswith("t=a%20b నమస్తే")
    got, posted = seen
    assert got.headers.getall("X-Forwarded-For") == ["203.0.113.7"]
    assert (got.headers["Origin"], got.cookies["a"]) == ("https://a.example", "b")
    assert "Accept-Encoding" not in got.headers
    assert posted.headers["Content-Length"] == "18"
    assert len(posted.headers.getall("Host")) == 1


async def test_an_answer_arrives_as_the_owner_gave_it() -> None:
    """Status, cookies, what is said of origins, a compressed body."""
    body = gzip.compress("నమస్తే".encode() * 1000)

    async def answer(_: web.Request) -> web.StreamResponse:
        headers = {"Content-Encoding": "gzip", "Access-Control-Allow-Origin": "*", "Set-Cookie": "a=b"}
        return web.Response(status=403, body=body, headers=headers)

    async with _way(answer) as way, way.http.get(way.url, auto_decompress=False) as response:
        assert (response.status, await response.read()) == (403, body)
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.cookies["a"].value == "b"


async def test_a_body_over_the_bound_is_not_passed_on() -> None:
    """It is refused where it arrives."""

    async def answer(_: web.Request) -> web.StreamResponse:
        raise AssertionError

    async with _way(answer) as way, way.http.post(way.url, data=b"x" * 65_537) as response:
        assert response.status == 413


async def test_an_owner_that_is_gone_is_unknown_at_once_and_forgotten() -> None:
    """The client starts anew; a gateway that does not take a connection in a second is gone too."""

    async def answer(_: web.Request) -> web.StreamResponse:
        raise AssertionError

    async with _way(answer) as way:
        for gone in ("127.0.0.1:9", "192.0.2.1:9"):
            way.neighbour.address = gone
            began = time.monotonic()
            async with way.http.get(way.url) as response:
                assert (response.status, await response.text()) == (400, "unknown")
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await way.connect()
            assert time.monotonic() - began < 3
            assert way.neighbour.forgotten == ["owner-1", "owner-1"]
            way.neighbour.forgotten.clear()


async def test_an_owner_that_hangs_or_breaks_off_is_unknown() -> None:
    """After the longest that a poll may take."""

    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def break_off(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    for answer in (hang, break_off):
        async with _way(answer) as way, way.http.get(way.url) as response:
            assert (response.status, await response.text()) == (400, "unknown")


async def test_a_gateway_with_another_secret_is_refused() -> None:
    """It says so to the client, for somebody to find."""

    async def answer(_: web.Request) -> web.StreamResponse:
        raise AssertionError

    async with _way(answer, secrets=["t" * 32]) as way, way.http.get(way.url) as response:
        assert response.status == 403
        assert "TICKET_SECRET" in await response.text()


async def test_a_secret_can_be_changed_on_one_gateway_after_the_other() -> None:
    """Whoever has the new one and the old, in either order, believes who says the old."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="here")

    for secrets in ([_SECRET, "t" * 32], ["t" * 32, _SECRET]):
        async with _way(answer, secrets=secrets) as way, way.http.get(way.url) as response:
            assert (response.status, await response.text()) == (200, "here")


# --- bridges ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1008, 1012, 4001])
async def test_the_code_that_an_owner_closes_with_arrives(code: int) -> None:
    """After what it said before."""

    async def answer(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.send_str("hello")
        await websocket.send_bytes(b"bytes")
        await websocket.close(code=code)
        return websocket

    async with _way(answer) as way:
        websocket = await way.connect()
        assert await websocket.receive_str() == "hello"
        assert await websocket.receive_bytes() == b"bytes"
        assert (await websocket.receive()).data == code
        await until(lambda: not way.first.bridges, _SOON_S, "the bridge to be gone")


@pytest.mark.parametrize(("code", "heard"), [(1000, 1000), (1001, 1001), (4002, 4002), (None, 1000)])
async def test_the_code_that_a_client_closes_with_arrives(code: int | None, heard: int) -> None:
    """Or that it said none."""
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def answer(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        assert await websocket.receive_str() == "hello"
        ended.set_result((await websocket.receive()).data)
        return websocket

    async with _way(answer) as way, asyncio.timeout(_SOON_S):
        websocket = await way.connect()
        await websocket.send_str("hello")
        if code is None:
            await websocket._writer.send_frame(b"", WSMsgType.CLOSE)
        else:
            await websocket.close(code=code)
        assert await ended == heard


async def test_whose_owner_dies_is_told_to_come_back() -> None:
    """Without a word from it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return websocket

    async with _way(answer) as way:
        assert (await (await way.connect()).receive()).data == 1012


async def test_a_client_that_is_cut_off_is_gone_for_its_owner() -> None:
    """At once."""
    ended = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.receive()
        ended.set()
        return websocket

    async with _way(answer) as way, asyncio.timeout(_SOON_S):
        websocket = await way.connect()
        websocket._writer.transport.abort()
        await ended.wait()


async def test_a_gateway_that_leaves_sends_its_bridges_back() -> None:
    """Both sides hear 1012; the client, when to be back."""
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def answer(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        ended.set_result((await websocket.receive()).data)
        return websocket

    async with _way(answer) as way, asyncio.timeout(_SOON_S):
        websocket = await way.connect()
        (bridge,) = way.first.bridges
        bridge.send_back(0.7)
        assert (await websocket.receive()).data == '42["reconnect",{"afterMs":700}]'
        assert (await websocket.receive()).data == 1012
        assert await ended == 1012


async def test_a_message_over_the_bound_closes_both_sides() -> None:
    """Where it arrives."""
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def answer(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        ended.set_result((await websocket.receive()).data)
        return websocket

    async with _way(answer) as way, asyncio.timeout(_SOON_S):
        websocket = await way.connect()
        await websocket.send_str("x" * 65_537)
        assert (await websocket.receive()).data == 1009
        assert await ended == 1009


async def test_a_client_that_does_not_read_holds_its_owner_up() -> None:
    """Little waits on the way; after the longest that a poll may take it is closed, for both."""
    written = 0
    ended = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        websocket = web.WebSocketResponse(writer_limit=1)
        await websocket.prepare(request)
        try:
            while True:
                await websocket.send_str("x" * 16_384)
                written += 16_384
        except ConnectionError:
            ended.set()
        return websocket

    looked = -1

    def is_held_up() -> bool:
        nonlocal looked
        grown, looked = written > looked, written
        return written > 0 and not grown

    async with _way(answer) as way, asyncio.timeout(_SOON_S + CLOSE_TIMEOUT_S):
        websocket = await way.connect()
        websocket._writer.transport.pause_reading()
        await until(is_held_up, _SOON_S, "the owner to be held up")
        assert written < 32 << 20  # mostly the kernel's
        await ended.wait()
        await until(lambda: not way.first.bridges, _SOON_S, "the bridge to be gone")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"GET http://elsewhere.example/socket.io/?sid={_SID} HTTP/1.1\r\n", 200),
        (f"POST /socket.io/?sid={_SID} HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n", 400),
    ],
)
async def test_what_a_client_does_wrong_is_no_error_of_ours(request_: str, status: int) -> None:
    """A target with a host in it goes to the owner all the same; a body that is not gzip is refused."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response()

    async with _way(answer) as way:
        reader, writer = await asyncio.open_connection(*way.url.split("/")[2].split(":"))
        writer.write(f"{request_}Host: a\r\n\r\n\r\n".encode())
        assert (await reader.readline()).split()[1] == str(status).encode()
        writer.close()
        await writer.wait_closed()
        assert way.neighbour.forgotten == []


async def test_a_secret_that_is_no_text_is_not_ours() -> None:
    """It is refused like any other."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response()

    async with _way(answer) as way:
        reader, writer = await asyncio.open_connection(*way.neighbour.address.split(":"))
        writer.write(f"GET /socket.io/?sid={_SID} HTTP/1.1\r\nHost: a\r\nX-Talowa-Relay: ".encode() + b"\xff\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"403"
        writer.close()
