"""Connections that keep a gateway waiting are closed, each after its own time; on a real port, by a told clock."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any, Final

import pytest
from aiohttp import web

from libs.telemetry import health
from services.gateway import addresses
from services.gateway.doorstep import Doorstep
from services.gateway.settings import GatewaySettings
from tests.support.proxies import binary_preface
from tests.support.waiting import until

_SOON_S: Final = 10.0
_REQUEST_S: Final = 30.0
_ANSWER_S: Final = 95.0
_GET: Final = b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n"
_POLL: Final = b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n"
_WHO: Final = b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n"
_LARGE: Final = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
_HALF_A_HEAD: Final = b"GET /info HTTP/1.1\r\nHost: x\r\nX-Slow: "
_HALF_A_BODY: Final = b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"


class Watched:
    """A server whose doorstep is looked at when a test says so."""

    def __init__(self, doorstep: Doorstep, port: int, closed: Counter[str]) -> None:
        self.doorstep = doorstep
        self.closed = closed
        self.writers: list[asyncio.StreamWriter] = []
        self._port = port

    async def dial(self, said: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, say something, and wait until the server knows of it."""
        before = self.doorstep.arrived
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 12)
        self.writers.append(writer)
        writer.write(said)
        await until(lambda: self.doorstep.arrived > before, _SOON_S, "the connection to arrive")
        return reader, writer

    @property
    def connections(self) -> list[Any]:
        """Those that HTTP has."""
        assert self.doorstep._server is not None
        return self.doorstep._server.connections

    def look(self, after_s: float) -> None:
        """Look, as if so much time had passed."""
        self.doorstep.look(time.monotonic() + after_s)


@asynccontextmanager
async def watched(*, idle_per_address: int = 0, trusted: str = "", prefacing: bool = False) -> AsyncIterator[Watched]:
    closed: Counter[str] = Counter()
    over = asyncio.Event()
    app = web.Application()

    async def info(_: web.Request) -> web.Response:
        return web.Response(text="info")

    async def poll(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response(text="over")

    async def post(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="read")

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(64 << 20))

    async def who(request: web.Request) -> web.Response:
        return web.Response(text=request.remote)

    app.router.add_get("/info", info)
    app.router.add_get("/who", who)
    app.router.add_get("/poll", poll)
    app.router.add_post("/post", post)
    app.router.add_get("/large", large)
    doorstep = Doorstep(
        addresses.networks(trusted),
        lambda why: closed.update((why,)),
        request_timeout_s=_REQUEST_S,
        keep_alive_s=75.0,
        answer_timeout_s=_ANSWER_S,
        idle_per_address=idle_per_address,
        prefacing=prefacing,
    )
    async with asyncio.timeout(60), health.serve(app, "127.0.0.1", 0, "PORT", doorstep) as port:
        served = Watched(doorstep, port, closed)
        yield served
        over.set()
        for writer in served.writers:
            writer.close()


async def _is_cut_off(reader: asyncio.StreamReader) -> bool:
    try:
        while await reader.read(1 << 20):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    ("said", "patience_s", "why"),
    [
        (b"", _REQUEST_S, "head"),
        (_HALF_A_HEAD, _REQUEST_S, "head"),
        (_HALF_A_BODY, _REQUEST_S, "body"),
        (_LARGE, _ANSWER_S, "answer"),
    ],
    ids=["says nothing", "half a head", "half a body", "does not read its answer"],
)
async def test_who_is_waited_for_too_long_is_cut_off(said: bytes, patience_s: float, why: str) -> None:
    """Not before its time; a byte now and then is no reprieve."""
    async with watched() as served:
        reader, writer = await served.dial(said)

        def is_waited_for() -> bool:
            served.look(0)
            return [wait.value for wait, _, _ in served.doorstep._since.values()] == [why]

        await until(is_waited_for, _SOON_S, f"it to be waited for: {why}")
        served.look(patience_s - 1)
        assert served.closed == {}
        if why != "answer":
            writer.write(b"x")
            await writer.drain()
        served.look(patience_s + 1)
        assert served.closed == {why: 1}
        assert await _is_cut_off(reader)


async def test_what_is_no_request_is_not_told_its_own_words() -> None:
    """They may be somebody's token, and who keeps answers on the way would keep it."""
    async with watched() as served:
        reader, _ = await served.dial(b"GET /quince HTTP/9.9\r\n\r\n")
        told = await reader.read()
        assert told.startswith(b"HTTP/1.0 400 ")
        assert told.endswith(b"\r\n\r\nThis is no request.")


async def test_who_polls_or_is_between_requests_is_left_alone() -> None:
    """A poll is our work; aiohttp's own timer is for who is idle."""
    async with watched() as served:
        poller, _ = await served.dial(_POLL)
        idler, idles = await served.dial(_GET)
        await idler.readuntil(b"info")
        served.look(0)
        served.look(10_000)
        idles.write(_GET)
        await idler.readuntil(b"info")
        assert served.closed == {}
        assert served.doorstep.options["keepalive_timeout"] == 75.0
        assert not poller.at_eof()


async def test_an_address_keeps_so_many_idle_connections_and_the_oldest_go() -> None:
    """Those that are used meanwhile are not idle."""
    async with watched(idle_per_address=3) as served:
        idle = [await served.dial(said) for said in (b"", _HALF_A_HEAD, b"", b"", b"", _POLL)]

        def are_five() -> bool:
            served.look(0)
            return len(served.doorstep._since) == 5

        await until(are_five, _SOON_S, "the poll to be at work")
        assert served.closed == {}  # they may be on their way
        served.look(2)
        assert served.closed == {"crowd": 2}
        for reader, _ in idle[:2]:
            assert await _is_cut_off(reader)
        await _assert_open(idle[2:])
        served.look(4)
        assert served.closed == {"crowd": 2}


async def test_a_trusted_proxy_keeps_as_many_as_it_likes() -> None:
    """It holds them for whom it likes; what never comes is closed all the same."""
    async with watched(idle_per_address=1, trusted="127.0.0.0/8") as served:
        for _ in range(4):
            await served.dial()
        served.look(0)
        served.look(2)
        assert served.closed == {}
        served.look(_REQUEST_S + 1)
        assert served.closed == {"head": 4}


async def _assert_open(idle: Sequence[tuple[asyncio.StreamReader, Any]]) -> None:
    await asyncio.sleep(0)
    assert [reader.at_eof() for reader, _ in idle] == [False] * len(idle)


async def test_a_trusted_proxy_says_first_whose_a_connection_is() -> None:
    """In either version, in one piece or byte by byte, with a request behind it or later."""
    client = ip_address("203.0.113.7")
    async with watched(trusted="127.0.0.0/8", prefacing=True) as served:
        for said in (b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 443\r\n", binary_preface(client, 4711)):
            reader, _ = await served.dial(said + _WHO)
            assert (await reader.readuntil(b"203.0.113.7")).startswith(b"HTTP/1.1 200 ")
            reader, writer = await served.dial()
            for byte in said:
                writer.write(bytes((byte,)))
                await writer.drain()
            writer.write(_WHO)
            assert (await reader.readuntil(b"203.0.113.7")).startswith(b"HTTP/1.1 200 ")
        reader, _ = await served.dial(binary_preface(None, 0) + _WHO)
        assert await reader.readuntil(b"127.0.0.1")
        assert served.closed == {}


@pytest.mark.parametrize("said", [_GET, b"PROXY TCP4 somebody\r\n", b"\x16\x03\x01"])
async def test_a_trusted_proxy_that_does_not_say_is_cut_off(said: bytes) -> None:
    """Else its clients would all be counted as one, or somebody could reach past it."""
    async with watched(trusted="127.0.0.0/8", prefacing=True) as served:
        reader, _ = await served.dial(said)
        assert await _is_cut_off(reader)
        assert served.closed == {"preface": 1}


async def test_who_says_nothing_of_a_connection_is_waited_for_so_long() -> None:
    """As for a first request."""
    async with watched(trusted="127.0.0.0/8", prefacing=True) as served:
        reader, _ = await served.dial(b"PROXY TCP4 ")
        gone, writer = await served.dial(b"PROXY TCP4 ")
        writer.close()
        await until(lambda: len(served.doorstep.unsaid) == 1, _SOON_S, "the other to be gone")
        served.look(_REQUEST_S - 1)
        assert served.closed == {}
        served.look(_REQUEST_S + 1)
        assert served.closed == {"preface": 1}
        assert await _is_cut_off(reader)
        assert gone.at_eof() or await gone.read() == b""


@pytest.mark.parametrize("prefacing", [True, False])
async def test_nobody_else_says_whose_a_connection_is(prefacing: bool) -> None:
    """To whom is no trusted proxy, or where none is to say it, the header is a request that is none."""
    async with watched(trusted="10.0.0.0/8" if prefacing else "127.0.0.0/8", prefacing=prefacing) as served:
        for said in (b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n", binary_preface(ip_address("203.0.113.7"), 1)):
            reader, _ = await served.dial(said + _WHO)
            assert b" 400 " in await reader.read()
        reader, _ = await served.dial(_WHO)
        assert await reader.readuntil(b"127.0.0.1")


async def test_connections_of_a_proxy_are_counted_as_their_clients() -> None:
    """One client's are too many; the proxy's own are as many as it likes."""
    async with watched(trusted="127.0.0.0/8", prefacing=True, idle_per_address=1) as served:
        for said in (binary_preface(ip_address("203.0.113.7"), 1), binary_preface(None, 0)):
            for _ in range(3):
                await served.dial(said)
        await until(lambda: len(served.connections) == 6, _SOON_S, "all to have said whose they are")
        served.look(0)
        served.look(2)
        assert served.closed == {"crowd": 2}


def test_believing_nobody_is_no_setting() -> None:
    """The variables and the remedy are said."""
    settings = GatewaySettings(redis_url="", ticket_secret="x" * 32, proxy_protocol="on")
    (problem,) = [one for one in settings.problems() if one.startswith("PROXY")]
    assert problem.startswith("PROXY_PROTOCOL=on, and TRUSTED_PROXIES is empty")
