"""Requests on the socket port, with real clients: what is answered, what is refused and in which words."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import WSMsgType, hdrs, web
from aiohttp.test_utils import make_mocked_request

from services.gateway.compression import Compression
from services.gateway.engine import server as module
from tests.support.waiting import until
from tests.unit.services.gateway.echo import FRAME_MAX_BYTES, Place, serving
from tests.unit.services.gateway.engine.wire import dial

_SOON_S: Final = 10.0
_UNKNOWN_TRANSPORT: Final = {"code": 0, "message": "Transport unknown"}
_UNKNOWN_SESSION: Final = {"code": 1, "message": "Session ID unknown"}
_BAD_METHOD: Final = {"code": 2, "message": "Bad handshake method"}
_BAD_REQUEST: Final = {"code": 3, "message": "Bad request"}
_BAD_VERSION: Final = {"code": 5, "message": "Unsupported protocol version"}
_ORIGIN: Final = "https://app.example"
_SEPARATOR: Final = "\x1e"


class Phone:
    """A client that polls by hand."""

    def __init__(self, http: aiohttp.ClientSession, place: Place, sid: str) -> None:
        self.http = http
        self.place = place
        self.sid = sid
        self.url = place.of(sid)

    async def poll(self) -> list[str]:
        """What there is to hear."""
        async with self.http.get(self.url) as response:
            assert response.status == 200
            return (await response.text()).split(_SEPARATOR)

    async def post(self, *packets: str) -> None:
        """Say something."""
        async with self.http.post(self.url, data=_SEPARATOR.join(packets).encode()) as response:
            assert (response.status, await response.text()) == (200, "OK")


@asynccontextmanager
async def _polling(*, is_joined: bool = True, **options: Any) -> AsyncIterator[Phone]:
    """A phone that has (with `is_joined`) joined."""
    async with serving(**options) as place, aiohttp.ClientSession() as http:
        async with http.get(place.polling) as response:
            assert response.status == 200
            phone = Phone(http, place, json.loads((await response.text())[1:])["sid"])
        if is_joined:
            await phone.post("40")
            connected, welcome = await phone.poll()
            assert (connected[:3], welcome) == ("40{", '42["welcome",{}]')
        yield phone


async def _refusal(response: aiohttp.ClientResponse) -> object:
    assert (response.status, response.content_type) == (400, "application/json")
    return await response.json()


# --- opening ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("method", "query", "refusal"),
    [
        ("GET", "", _BAD_VERSION),
        ("GET", "?EIO=3&transport=polling", _BAD_VERSION),
        ("GET", "?EIO=&transport=websocket", _BAD_VERSION),
        ("GET", "?EIO=4&transport=pigeon", _UNKNOWN_TRANSPORT),
        ("GET", "?EIO=4&transport=", _UNKNOWN_TRANSPORT),
        ("POST", "?EIO=4&transport=polling", _BAD_METHOD),
        ("POST", "?EIO=3&transport=polling", _BAD_VERSION),
        ("GET", "?EIO=4&transport=websocket", _BAD_REQUEST),
        ("GET", "?EIO=4&transport=polling&sid=", _UNKNOWN_SESSION),
        ("GET", "?EIO=4&transport=polling&sid=g1.x", _UNKNOWN_SESSION),
        ("POST", "?EIO=4&transport=polling&sid=g1.x", _UNKNOWN_SESSION),
        ("GET", "?EIO=4&transport=websocket&sid=g1.x", _UNKNOWN_SESSION),
        ("GET", "?EIO=4&transport=pigeon&sid=g1.x", _UNKNOWN_TRANSPORT),
        ("GET", "?EIO=4&transport=polling&sid=%00%ff", _UNKNOWN_SESSION),
    ],
)
async def test_what_is_no_opening_is_refused_in_the_words_of_the_protocol(
    method: str, query: str, refusal: object
) -> None:
    """And opens nothing."""
    async with serving() as place, aiohttp.ClientSession() as http:
        async with http.request(method, place.url + query) as response:
            assert await _refusal(response) == refusal
        assert not place.connections


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("transport", ["&transport=polling", ""])
async def test_a_connection_is_opened_by_its_first_poll(transport: str) -> None:
    """Which is also the transport of who names none."""
    async with serving() as place, aiohttp.ClientSession() as http:
        async with http.get(f"{place.url}?EIO=4{transport}") as response:
            assert response.status == 200
            assert response.headers[hdrs.CONTENT_TYPE] == "text/plain; charset=utf-8"
            hello = json.loads((await response.text()).removeprefix("0"))
        assert hello == {
            "sid": next(iter(place.connections)),
            "upgrades": ["websocket"],
            "pingInterval": 25_000,
            "pingTimeout": 60_000,
            "maxPayload": FRAME_MAX_BYTES,
        }


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_other_methods_are_not_served(method: str) -> None:
    """They are no part of the protocol."""
    async with serving() as place, aiohttp.ClientSession() as http, http.request(method, place.polling) as response:
        assert response.status == 405


@pytest.mark.usefixtures("quiet")
async def test_a_gateway_that_takes_nobody_says_when_to_come_back() -> None:
    """503; those who are connected go on."""
    async with _polling() as phone:
        phone.place.server.accept(is_accepting=False)
        for url in (phone.place.polling, phone.place.websocket):
            headers = {"Connection": "Upgrade", "Upgrade": "websocket"} if url == phone.place.websocket else {}
            async with phone.http.get(url, headers=headers) as response:
                assert (response.status, response.headers[hdrs.RETRY_AFTER]) == (503, "1")
                assert (await response.json())["error"]["code"] == "unavailable"
        await phone.post('421["one",1]')
        assert await phone.poll() == ["431[1]"]


@pytest.mark.usefixtures("quiet")
async def test_who_comes_too_often_is_told_when_to_come_back() -> None:
    """429, in whole seconds; by the address that a proxy says."""
    seen: list[str] = []

    async def admit(address: str) -> int:
        seen.append(address)
        return 1_001

    def came_from(request: web.Request) -> str:
        return request.headers["X-Forwarded-For"]

    headers = {"X-Forwarded-For": "203.0.113.7"}
    async with (
        serving(admit=admit, came_from=came_from) as place,
        aiohttp.ClientSession() as http,
        http.get(place.polling, headers=headers) as response,
    ):
        assert (response.status, response.headers[hdrs.RETRY_AFTER]) == (429, "2")
        assert (await response.json())["error"]["code"] == "rate_limited"
        assert (seen, place.connections) == (["203.0.113.7"], {})


# --- origins ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("allowed", ["*", f"https://other.example,{_ORIGIN}"])
async def test_an_origin_that_is_allowed_is_named_in_the_answer(allowed: str) -> None:
    """By itself, not by a star; also where the answer is a refusal."""
    async with serving(allowed_origins=allowed) as place, aiohttp.ClientSession() as http:
        for url in (place.polling, place.of("g1.x")):
            async with http.get(url, headers={"Origin": _ORIGIN}) as response:
                assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == _ORIGIN
                assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] == "true"
        async with http.get(place.polling) as response:  # an app, or the same origin
            assert response.status == 200
            assert hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in response.headers


@pytest.mark.usefixtures("quiet")
async def test_an_origin_that_is_not_allowed_is_refused() -> None:
    """However it comes, and whatever it asks; a WebSocket too, which no browser would refuse by itself."""
    async with serving(allowed_origins=_ORIGIN) as place, aiohttp.ClientSession() as http:
        for origin in ("https://evil.example", f"{_ORIGIN}.evil.example", "null"):
            for method in ("GET", "POST", "OPTIONS"):
                async with http.request(method, place.polling, headers={"Origin": origin}) as response:
                    assert await _refusal(response) == _BAD_REQUEST
                    assert hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in response.headers
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(place.websocket, headers={"Origin": origin})
            assert refused.value.status == 400
        assert not place.connections
        async with http.ws_connect(place.websocket, headers={"Origin": _ORIGIN}) as websocket:
            assert (await websocket.receive_str())[0] == "0"


@pytest.mark.usefixtures("quiet")
async def test_a_browser_that_asks_first_is_told_what_it_may() -> None:
    """Whether or not there is such a connection: another gateway may have it."""
    async with serving() as place, aiohttp.ClientSession() as http:
        headers = {"Origin": _ORIGIN, hdrs.ACCESS_CONTROL_REQUEST_HEADERS: "x-one, x-two"}
        for url in (place.polling, place.of("g2.x")):
            async with http.options(url, headers=headers) as response:
                assert (response.status, await response.text()) == (200, "OK")
                assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] == _ORIGIN
                assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] == "OPTIONS, GET, POST"
                assert response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] == "x-one, x-two"


# --- polls and posts ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
async def test_what_is_posted_is_answered_by_a_poll() -> None:
    """Several packets in one body, binary ones among them; a poll waits until there is something."""
    async with _polling() as phone, asyncio.TaskGroup() as tasks:
        await phone.post('421["one","భూమి"]', "b" + base64.b64encode(b"bytes").decode(), '422["two",2]')
        answers = await phone.poll()
        assert (answers[0], answers[2]) == ('431["భూమి"]', "432[2]")
        assert '"binary_not_accepted"' in answers[1]
        waiting = tasks.create_task(phone.poll())
        (socket,) = phone.place.connections.values()
        await until(lambda: socket._poll is not None, _SOON_S, "a poll that waits")
        await phone.post('423["three",3]')
        assert await waiting == ["433[3]"]


@pytest.mark.usefixtures("quiet")
async def test_what_is_posted_while_a_client_joins_waits() -> None:
    """The post is answered when all of it has been taken."""
    async with _polling(is_joined=False) as phone, asyncio.TaskGroup() as tasks:
        posting = tasks.create_task(phone.post('40{"token":"slow"}', '421["one",1]'))
        await until(lambda: phone.place.application.seen, _SOON_S, "the client to begin to join")
        assert not posting.done()
        phone.place.application.may_join.set()
        await posting
        assert [packet[:3] for packet in await phone.poll()] == ["40{", "42[", "431"]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"x", {}),
        (b"4\xff", {}),
        (b"4nonsense", {}),
        (b"b!!!!", {}),
        (b'421["one",1]\x1e', {}),
        (b"4" + b"x" * FRAME_MAX_BYTES, {}),
        (b"42[", {"Content-Encoding": "gzip"}),
    ],
    ids=["empty", "no packet", "no UTF-8", "no event", "no base64", "an empty packet", "too large", "no gzip"],
)
async def test_a_body_that_is_none_closes_the_connection(body: bytes, headers: dict[str, str]) -> None:
    """It is refused, and the poll that follows says that it was the last."""
    async with _polling() as phone:
        async with phone.http.post(phone.url, data=body, headers=headers) as response:
            assert await _refusal(response) == _BAD_REQUEST
        assert (await phone.poll())[-1] == "1"
        assert phone.place.application.seen[-1] == "closed"


@pytest.mark.usefixtures("quiet")
async def test_a_body_as_large_as_the_bound_is_taken() -> None:
    """To the byte."""
    async with _polling(outbox_max_bytes=1 << 20) as phone:
        head, tail = '421["one","', '"]'
        await phone.post(f"{head}{'x' * (FRAME_MAX_BYTES - len(head) - len(tail))}{tail}")
        ((answer),) = await phone.poll()
        assert len(answer) == FRAME_MAX_BYTES - len('"one",')


@pytest.mark.usefixtures("quiet")
async def test_half_a_body_is_none() -> None:
    """A client that is cut off in the middle has said nothing; its connection goes on by another."""
    async with _polling() as phone:
        async with dial(phone.place) as wire:
            path = phone.url.partition(str(phone.place.port))[2]
            wire.write(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n".encode(), b'421["one",1]')
            await wire.writer.drain()
            server = phone.place.runner.server
            assert server is not None
            await until(lambda: len(server.connections) == 2, _SOON_S, "it to be read")
        await until(lambda: len(server.connections) == 1, _SOON_S, "it to be gone")
        await phone.post('422["two",2]')
        assert await phone.poll() == ["432[2]"]


@pytest.mark.usefixtures("quiet")
async def test_two_polls_at_a_time_close_the_connection() -> None:
    """The second is refused; the first hears the end."""
    async with _polling() as phone, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(phone.poll())
        (socket,) = phone.place.connections.values()
        await until(lambda: socket._poll is not None, _SOON_S, "a poll that waits")
        async with phone.http.get(phone.url) as response:
            assert await _refusal(response) == _BAD_REQUEST
        assert await first == ["1"]


@pytest.mark.usefixtures("quiet")
async def test_who_only_asks_for_the_head_takes_nothing() -> None:
    """Nor does it disturb who polls, nor open anything."""
    async with _polling() as phone, asyncio.TaskGroup() as tasks:
        await phone.post('421["one",1]')
        for url in (phone.url, phone.place.polling, phone.place.websocket, phone.place.of(phone.sid, "websocket")):
            async with phone.http.head(url) as response:
                assert response.status == 400
        assert len(phone.place.connections) == 1
        assert await phone.poll() == ["431[1]"]
        waiting = tasks.create_task(phone.poll())
        (socket,) = phone.place.connections.values()
        await until(lambda: socket._poll is not None, _SOON_S, "a poll that waits")
        async with phone.http.head(phone.url) as response:
            assert response.status == 400
        await phone.post('422["two",2]')
        assert await waiting == ["432[2]"]


@pytest.mark.usefixtures("quiet")
async def test_a_large_poll_is_gzipped_for_who_takes_it() -> None:
    """Over the bound, and for nobody else."""
    squeezed = 0

    def count() -> None:
        nonlocal squeezed
        squeezed += 1

    async with _polling(compression=Compression(1_000, count)) as phone:
        for accepted, length, is_squeezed in (
            ("gzip, deflate", 2_000, True),
            ("deflate, gzip;q=0.5", 2_000, True),
            ("gzip", 100, False),
            ("deflate", 2_000, False),
            ("", 2_000, False),
            ("gzipped", 2_000, False),
        ):
            await phone.post(f'421["one","{"x" * length}"]')
            headers = {hdrs.ACCEPT_ENCODING: accepted}
            async with phone.http.get(phone.url, headers=headers, auto_decompress=False) as response:
                body = await response.read()
                assert response.headers.get(hdrs.CONTENT_ENCODING) == ("gzip" if is_squeezed else None)
            assert (gzip.decompress(body) if is_squeezed else body).decode() == f'431["{"x" * length}"]'
        assert squeezed == 2


@pytest.mark.usefixtures("quiet")
async def test_last_words_may_be_fetched_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody knows of the connection."""
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.5)
    async with _polling() as phone:
        (socket,) = phone.place.connections.values()
        socket.emit("last", b'"words"')
        socket.close_for_good()
        assert await phone.poll() == ['42["last","words"]', "41", "1"]
        await until(lambda: not phone.place.connections, _SOON_S, "it to be forgotten")
        async with phone.http.get(phone.url) as response:
            assert await _refusal(response) == _UNKNOWN_SESSION


@pytest.mark.usefixtures("quiet")
async def test_a_client_that_leaves_its_poll_is_no_error() -> None:
    """Nobody hears the answer."""
    async with _polling() as phone:
        (socket,) = phone.place.connections.values()
        async with dial(phone.place) as wire:
            path = phone.url.partition(str(phone.place.port))[2]
            wire.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await until(lambda: socket._poll is not None, _SOON_S, "a poll that waits")
        server = phone.place.runner.server
        assert server is not None
        await until(lambda: any(one.transport is None for one in server.connections), _SOON_S, "aiohttp to notice")
        socket.emit("one", b"1")
        await until(lambda: socket._poll is None, _SOON_S, "the poll to end")
        await phone.post('421["one",1]')
        assert await phone.poll() == ["431[1]"]


# --- the upgrade --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
async def test_a_connection_that_is_polled_goes_over_to_a_websocket() -> None:
    """What waits goes by it, and polls are refused from then on."""
    async with _polling() as phone, asyncio.TaskGroup() as tasks:
        (socket,) = phone.place.connections.values()
        waiting = tasks.create_task(phone.poll())
        await until(lambda: socket._poll is not None, _SOON_S, "a poll that waits")
        async with phone.http.ws_connect(phone.place.of(phone.sid, "websocket")) as websocket:
            await websocket.send_str("2probe")
            assert await websocket.receive_str() == "3probe"
            assert await waiting == ["6"]
            await phone.post('421["one",1]')
            assert await phone.poll() == ["6"]
            await websocket.send_str("5")
            assert await websocket.receive_str() == "431[1]"
            await websocket.send_str('422["two",2]')
            assert await websocket.receive_str() == "432[2]"
            for method in ("GET", "POST"):
                async with phone.http.request(method, phone.url) as response:
                    assert await _refusal(response) == _BAD_REQUEST
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await phone.http.ws_connect(phone.place.of(phone.sid, "websocket"))
            await websocket.send_str('423["three",3]')
            assert await websocket.receive_str() == "433[3]"
        await until(lambda: not phone.place.connections, _SOON_S, "it to be gone")


@pytest.mark.usefixtures("quiet")
async def test_one_websocket_at_a_time_is_probed() -> None:
    """The other is refused; when the first is gone another may come, and meanwhile it is polled as before."""
    async with _polling() as phone:
        url = phone.place.of(phone.sid, "websocket")
        async with phone.http.ws_connect(url):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await phone.http.ws_connect(url)
            assert refused.value.status == 400
        (socket,) = phone.place.connections.values()
        await until(lambda: socket.probe is None, _SOON_S, "the probe to be gone")
        await phone.post('421["one",1]')
        assert await phone.poll() == ["431[1]"]
        async with phone.http.ws_connect(url) as websocket:
            await websocket.send_str("2probe")
            assert await websocket.receive_str() == "3probe"


@pytest.mark.usefixtures("quiet")
async def test_a_probe_that_breaks_the_protocol_is_closed_and_polling_goes_on() -> None:
    """As does the connection."""
    async with _polling() as phone:
        async with phone.http.ws_connect(phone.place.of(phone.sid, "websocket")) as websocket:
            await websocket.send_str('421["one",1]')
            assert (await websocket.receive()).type is WSMsgType.CLOSE
        (socket,) = phone.place.connections.values()
        await until(lambda: socket.probe is None, _SOON_S, "the probe to be gone")
        await phone.post('422["two",2]')
        assert await phone.poll() == ["432[2]"]


@pytest.mark.usefixtures("quiet")
async def test_an_upgrade_without_its_headers_is_refused_and_polling_goes_on() -> None:
    """A proxy has taken them off."""
    async with _polling() as phone:
        async with phone.http.get(phone.place.of(phone.sid, "websocket")) as response:
            assert await _refusal(response) == _BAD_REQUEST
        await phone.post('421["one",1]')
        assert await phone.poll() == ["431[1]"]


# --- other gateways -----------------------------------------------------------------------------------------


async def test_what_is_another_gateways_is_passed_on_once() -> None:
    """Not what is ours, nor what opens a connection, nor what was passed on to us."""
    passed_on: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse | None:
        passed_on.append(request.query["sid"])
        return web.Response(text="the owner's") if request.query["sid"] == "g2.x" else None

    async with _polling(elsewhere=elsewhere) as phone:
        async with phone.http.get(phone.place.of("g2.x")) as response:
            assert await response.text() == "the owner's"
        async with phone.http.get(phone.place.of("g3.x")) as response:
            assert await _refusal(response) == _UNKNOWN_SESSION
        assert passed_on == ["g2.x", "g3.x"]
        for query in ("?EIO=4&transport=polling&sid=g2.x", "?EIO=4&transport=polling"):
            request = make_mocked_request("GET", f"/socket.io/{query}")
            relayed = await phone.place.server.engine.handle_relayed(request)
            assert relayed.status == 400
        assert passed_on == ["g2.x", "g3.x"]
        assert len(phone.place.connections) == 1
