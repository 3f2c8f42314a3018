"""Whoever attacks hurts nobody else: beside each attack two people write to each other, and all of it arrives in order.

After each, the gateways have as many open files, connections, sessions and bridges as before, their memory has stayed
flat, and nobody has complained. Attackers come from addresses of their own on this machine (all of 127/8 is it), by
raw TCP where no library would do what they do. What is refused politely is in test_bad_input.py, limits to the number
are in test_limits.py, a phone that reads nothing is in test_bounds.py, compression bombs are in test_transport.py.
"""

import asyncio
import gzip
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

from services.local.keyring import Keyring
from tests.support.clients import PythonClient, RawClient
from tests.support.cluster import LiveCluster, lasting_cluster
from tests.support.history import History
from tests.support.load import arrived, tell
from tests.support.waiting import until
from tests.unit.services.gateway.engine.test_websocket import MALFORMED
from tests.unit.services.gateway.engine.wire import PING, PONG, TEXT, Wire, frame, request, text

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SOON_S: Final = 60.0
_ORIGIN: Final = "https://app.talowa.example"
_REQUEST_S: Final = 3
_SIGN_INS: Final = 150
_FLAT: Final = 24 << 20
_WEBSOCKET: Final = "/socket.io/?EIO=4&transport=websocket"
_POLLING: Final = "/socket.io/?EIO=4&transport=polling"
_HALF_A_HEAD: Final = f"GET {_POLLING} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode()
_numbers: Final = count()
_addresses: Final = count(2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """Two gateways whose patience is short."""
    environment = {
        "REQUEST_TIMEOUT_S": str(_REQUEST_S),
        "KEEP_ALIVE_S": "8",
        "IDLE_PER_ADDRESS": "300",
        "SIGN_IN_TIMEOUT_S": "4",
        "ANSWER_TIMEOUT_S": "4",
        "PING_INTERVAL_S": "2",
        "PING_TIMEOUT_S": "5",
        "SIGN_INS_PER_MINUTE": str(_SIGN_INS),
        "ALLOWED_ORIGINS": _ORIGIN,
        "LOG_LEVEL": "debug",
    }
    home = tmp_path_factory.mktemp("cluster")
    async with lasting_cluster(home, routers=1, environment=environment) as running:
        await running.people(["mallu"])
        yield running


# --- connections that say nothing, or not enough ------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"G", _HALF_A_HEAD], ids=["nothing", "a letter", "half a head"])
async def test_a_thousand_connections_that_do_not_say_what_they_want_are_closed(
    cluster: LiveCluster, said: bytes
) -> None:
    """Those over the bound of their address at once, the rest when their time is up; a byte now and then is no help."""
    before = await cluster.metric("g1", "talowa_gateway_http_closed_total")
    async with beside(cluster), _wires(cluster, 1_000) as wires, asyncio.TaskGroup() as tasks:
        for wire in wires:
            wire.write(said)
        await _wait_cut_off(wires, tasks, b"x" if said == _HALF_A_HEAD else b"")
        assert await cluster.metric("g1", "talowa_gateway_http_closed_total") > before


async def test_bodies_that_do_not_come_are_given_up(cluster: LiveCluster) -> None:
    """With a length or without, and however slowly they trickle; their session ends by its own time-out."""
    before = await cluster.metric("g1", 'talowa_gateway_http_closed_total{why="body"}')
    async with beside(cluster), _http() as http, asyncio.TaskGroup() as tasks:
        paths = await asyncio.gather(*(_open(http, cluster) for _ in range(100)))
        async with _wires(cluster, 100) as wires:
            for number, (wire, path) in enumerate(zip(wires, paths, strict=True)):
                length = "Content-Length: 60000" if number % 2 else "Transfer-Encoding: chunked"
                begin = b"" if number % 2 else b"ea60\r\n"
                wire.write(f"POST {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode(), begin)
            await _wait_cut_off(wires, tasks, b"4")
        assert await cluster.metric("g1", 'talowa_gateway_http_closed_total{why="body"}') > before


async def test_sockets_that_never_join_and_sessions_that_are_never_polled_are_gone_in_time(
    cluster: LiveCluster,
) -> None:
    """Five hundred of each, with nothing said after the handshake."""
    async with beside(cluster), _http() as http, _wires(cluster, 500, request(_WEBSOCKET)) as wires:
        for _ in range(500):
            await _open(http, cluster)
        assert [await wire.close_code() for wire in await _shaken(wires)] == [1012] * 500


async def test_sockets_that_join_and_never_sign_in_are_told_so_and_closed(cluster: LiveCluster) -> None:
    """For good: whoever knows no token need not come back."""
    async with beside(cluster), _wires(cluster, 100) as wires:
        for wire in wires:
            wire.write(request(_WEBSOCKET), text("40"))
        for wire in await _shaken(wires):
            said = await _said(wire)
            assert any('"auth_timeout"' in each for each in said)
            assert said[-1] == "41"


async def test_signed_in_sockets_that_fall_silent_are_closed(cluster: LiveCluster) -> None:
    """Without a pong, or in the middle of a frame; byte by byte is slow and is taken, who stops is not waited for."""
    async with beside(cluster), _wires(cluster, 12) as wires:
        for wire in wires:
            wire.write(request(_WEBSOCKET), text("40" + json.dumps({"token": cluster.token("mallu")})))
        shaken = await _shaken(wires)
        half = text('421["heartbeat",{}]')[:12]
        for number, wire in enumerate(shaken[1:]):
            await _until_said(wire, '"auth_success"')
            wire.write(half if number % 2 else b"")
        slow = shaken[0]
        await _until_said(slow, '"auth_success"')
        for byte in text('421["heartbeat",{}]'):
            slow.write(bytes([byte]))
            await slow.writer.drain()
        await _until_said(slow, '431[{"ok":true')
        assert [await wire.close_code() for wire in shaken] == [1012] * len(shaken)


# --- what is malformed, and what does not end ---------------------------------------------------------------


async def test_frames_of_every_malformation_close_their_socket_with_a_code(cluster: LiveCluster) -> None:
    """All of those that an Engine.IO server's own test knows, on sockets that are signed in, and one without a mask."""
    async with beside(cluster), _wires(cluster, len(MALFORMED) + 1) as wires:
        for wire in wires[1:]:
            wire.write(request(_WEBSOCKET), text("40" + json.dumps({"token": cluster.token("mallu")})))
        wires[0].write(request(_WEBSOCKET), b"\x81\x02" + b"40")
        shaken = await _shaken(wires)
        assert await shaken[0].close_code() == 1002
        for wire, (said, code) in zip(shaken[1:], MALFORMED.values(), strict=True):
            await _until_said(wire, '"auth_success"')
            wire.write(said)
            assert await wire.close_code() == code, said[:40]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (text('42["heartbeat",{}]'), 1008),
        (text("3"), 1008),
        (frame(PING, b"x" * 125), 1008),
        (frame(PONG), 1008),
        (text('459999-["heartbeat",{"_placeholder":true,"num":0}]'), 1008),
        (text(f'42["{"n" * 60_000}",{{}}]'), None),
        (text("40/elsewhere,"), 1008),
    ],
    ids=["events", "pongs", "WebSocket pings", "WebSocket pongs", "attachments", "names of 60 KB", "namespaces"],
)
async def test_a_flood_is_closed_or_held_up(cluster: LiveCluster, said: bytes, code: int | None) -> None:
    """Small frames are too many, and close; large ones are read no faster than a socket may send."""
    async with beside(cluster), _wires(cluster, 4) as wires:
        for wire in wires:
            wire.write(request(_WEBSOCKET), text("40" + json.dumps({"token": cluster.token("mallu")})))
        for wire in await _shaken(wires):
            await _until_said(wire, '"auth_success"')
            wire.write(*([said] * (4_000_000 // len(said) if code is None else 5_000)))
            if code is not None:
                assert await wire.close_code() == code


async def test_a_message_that_never_ends_is_bounded(cluster: LiveCluster) -> None:
    """Fragments up to the bound of a frame, then 1009; empty ones are read at a socket's rate, and kept nowhere."""
    async with beside(cluster), _wires(cluster, 8) as wires:
        for wire in wires:
            wire.write(request(_WEBSOCKET))
        shaken = await _shaken(wires)
        for wire in shaken[:4]:
            wire.write(frame(TEXT, b"4", flags=0), *([frame(0, b"x" * 1_000, flags=0)] * 70))
            assert await wire.close_code() == 1009
        for wire in shaken[4:]:
            wire.write(frame(TEXT, b"4", flags=0), *([frame(0, b"", flags=0)] * 500_000))


async def test_large_bodies_and_bombs_are_refused_before_they_are_read(cluster: LiveCluster) -> None:
    """Ten megabytes, with a length or in chunks; sixty in a gzip of sixty thousand bytes; 30,000 packets in a post."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(160):
            yield b"x" * 65_536

    bomb = gzip.compress(b"4" + bytes(60 << 20))
    assert len(bomb) < 65_536
    bodies: dict[str, Callable[[], Any]] = {
        "with a length": lambda: io.BytesIO(b"4" + b"x" * (10 << 20)),
        "in chunks": endless,
        "a bomb": lambda: bomb,
        "packets": lambda: "\x1e".join(["3"] * 32_000).encode(),
    }
    async with beside(cluster), _http() as http:
        for name, body in bodies.items():
            for _ in range(8):
                path = await _open(http, cluster)
                headers = {"Content-Encoding": "gzip"} if name == "a bomb" else {}
                try:
                    async with http.post(cluster.urls[0] + path, data=body(), headers=headers) as response:
                        assert response.status == 400, name
                except aiohttp.ClientError:
                    pass  # it went on writing, and was cut off
                async with http.get(cluster.urls[0] + path) as response:
                    assert (await response.read()).endswith(b"1") or response.status == 400, name


@pytest.mark.parametrize(
    "head",
    [
        "".join(f"X-{number}: {'x' * 1_000}\r\n" for number in range(65)),
        "".join(f"X-{number}: x\r\n" for number in range(5_000)),
        f"X-Long: {'x' * 65_536}\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "X-Split: a\rb\r\n",
        " X-Folded: x\r\n",
    ],
    ids=["65 KB", "5,000", "a long one", "both lengths", "two lengths", "no last chunk", "a bare CR", "a fold"],
)
async def test_heads_that_flood_or_smuggle_are_answered_400_and_end_their_connection(
    cluster: LiveCluster, head: str
) -> None:
    """What stands behind them is no request, whoever would like it to be."""
    behind = f"5\r\nhello\r\n0\r\n\r\nGET {_POLLING} HTTP/1.1\r\nHost: x\r\n\r\n"
    async with beside(cluster), _wires(cluster, 1) as wires:
        wires[0].write(f"POST {_POLLING} HTTP/1.1\r\nHost: x\r\n{head}\r\n{behind}".encode())
        told = await wires[0].end()
        assert told.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
        assert b'"sid"' not in told


async def test_requests_in_a_row_are_answered_in_a_row(cluster: LiveCluster) -> None:
    """Three hundred in one breath on one connection: each once, and no more than a few kept."""
    asked = b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n" * 300
    async with beside(cluster), _wires(cluster, 1) as wires:
        wires[0].write(asked, b"GET /info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await wires[0].end()).count(b"HTTP/1.1 200") == 301


# --- who is not who he says ---------------------------------------------------------------------------------


async def test_a_storm_of_bad_sign_ins_keeps_nobody_out(cluster: LiveCluster) -> None:
    """From four addresses; a bad token has its code until its address has had enough; good ones come in between."""
    await cluster.people([f"good{number}" for number in range(10)])
    heard: Counter[str] = Counter()
    bad = [
        "no.token.atall",
        cluster.token("mallu")[:-8] + "AAAAAAAA",
        cluster.token("mallu", ttl_s=-60),
        "x" * 9_000,
    ]

    async def attack(address: str) -> None:
        async with _http(address) as http:
            for number in range(_SIGN_INS + 20):
                async with http.ws_connect(cluster.urls[0] + _WEBSOCKET) as websocket:
                    await websocket.receive_str()
                    await websocket.send_str("40" + json.dumps({"token": bad[number % len(bad)]}))
                    said = await websocket.receive_str()
                    heard[json.loads(said[2:])["data"]["code"]] += 1

    async with beside(cluster), asyncio.TaskGroup() as tasks:
        attacks = [tasks.create_task(attack(_next_address())) for _ in range(4)]
        for number in range(10):
            async with await RawClient.connect(cluster.urls[0], {"token": cluster.token(f"good{number}")}) as good:
                await good.expect_event("auth_success")
        await asyncio.gather(*attacks)
    tell(f"bad sign-ins: {dict(heard)}")
    assert heard["rate_limited"] == 4 * 20
    assert heard["token_invalid"] + heard["token_expired"] == 4 * _SIGN_INS


async def test_a_stolen_ticket_is_worth_its_hour_and_nothing_once_its_user_is_revoked(cluster: LiveCluster) -> None:
    """It is a bearer's: the thief is in. Once revoked he is out, on every gateway, and nothing old lets him back."""
    await cluster.people(["theft"])
    token = cluster.token("theft")
    async with beside(cluster):
        async with await RawClient.connect(cluster.urls[0], {"token": token}) as owner:
            ticket = (await owner.expect_event("auth_success"))["resumeTicket"]
            async with await RawClient.connect(cluster.urls[1], {"resumeTicket": ticket}) as thief:
                stolen = (await thief.expect_event("auth_success"))["resumeTicket"]
                await _revoke(cluster, "theft")
                assert (await thief.expect_event("auth_failed"))["code"] == "token_revoked"
                await thief.wait_closed()
            await owner.expect("41")
        for url in cluster.urls:
            for auth in ({"resumeTicket": ticket}, {"resumeTicket": stolen}, {"token": token}):
                assert await _refusal(url, auth) == "token_revoked"
        for spoiled in (ticket[:-2] + "AA", ticket + ticket, "", "x" * 2_000):
            assert await _refusal(cluster.urls[0], {"resumeTicket": spoiled or "="}) == "token_invalid"

        async def lets_in() -> bool:
            return await _refusal(cluster.urls[0], {"token": cluster.token("theft")}) is None

        await until(lets_in, _SOON_S, "the user to be let in with a new token")


async def test_wrong_origins_are_refused_on_every_transport(cluster: LiveCluster) -> None:
    """A browser on somebody else's page; the app's own page and apps that say none are let in."""
    async with beside(cluster), _http() as http:
        for origin, status in (("https://evil.example", 400), ("null", 400), (f"{_ORIGIN}.evil.example", 400)):
            headers = {"Origin": origin}
            async with http.get(cluster.urls[0] + _POLLING, headers=headers) as response:
                assert response.status == status
                assert "Access-Control-Allow-Origin" not in response.headers
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(cluster.urls[0] + _WEBSOCKET, headers=headers)
            assert refused.value.status == status
        async with http.get(cluster.urls[0] + _POLLING, headers={"Origin": _ORIGIN}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == _ORIGIN


async def test_sessions_that_never_were_are_asked_for_in_vain(cluster: LiveCluster) -> None:
    """By the hundred, of gateways that exist and that do not; and a made-up address changes nothing of it."""
    async with beside(cluster), _http() as http:
        other = (await _open(http, cluster, gateway=1)).partition("sid=")[2].partition(".")[0]
        statuses: Counter[int] = Counter()

        async def ask(numbers: range) -> None:
            for number in numbers:
                gateway = other if number % 2 else f"g{number}-0000"
                headers = {"X-Forwarded-For": f"10.0.{number % 256}.1"}
                path = f"{_POLLING}&sid={gateway}.{number:024}"
                async with http.get(cluster.urls[0] + path, headers=headers) as response:
                    statuses[response.status] += 1

        await asyncio.gather(*(ask(range(start, start + 100)) for start in range(0, 500, 100)))
        assert statuses == {400: 500}


async def test_many_polls_and_posts_on_one_session_end_it_and_nothing_else(cluster: LiveCluster) -> None:
    """A client polls once at a time: whoever does otherwise has no session any more."""
    async with beside(cluster), _http() as http:
        path = await _open(http, cluster)

        async def poll() -> int:
            async with http.get(cluster.urls[0] + path) as response:
                return response.status

        statuses = Counter(await asyncio.gather(*(poll() for _ in range(100))))
        assert statuses[400] >= 99


# --- the means ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def beside(cluster: LiveCluster) -> AsyncIterator[None]:
    """Two people on two gateways write to each other while the block runs; at its end all is as it was before."""
    people = [f"{name}{next(_numbers)}" for name in ("asha", "bala")]
    await cluster.people(people)
    history, over, logged = History(), asyncio.Event(), len(cluster.logs())
    async with AsyncExitStack() as stack:
        asha, bala = [
            await stack.enter_async_context(
                await PythonClient.open(
                    history, name, url, {"token": cluster.token(name)}, transports=["websocket"], user=name
                )
            )
            for name, url in zip(people, cluster.urls, strict=True)
        ]
        await asha.wait_for("auth_success")
        await bala.wait_for("auth_success")
        before = [await _standing(cluster, gateway) for gateway in ("g1", "g2")]
        memory = [_begin_peak(cluster, gateway) for gateway in ("g1", "g2")]

        async def write(client: PythonClient, to: str) -> None:
            for number in count():
                answer = await client.send_message({"clientId": f"{to}-{number}", "recipientId": to, "content": "భూమి"})
                assert answer["ok"], answer
                if over.is_set() and number >= 10:
                    return

        async with asyncio.TaskGroup() as tasks:
            writing = [tasks.create_task(write(asha, people[1])), tasks.create_task(write(bala, people[0]))]
            yield
            over.set()
            await asyncio.gather(*writing)
        report = await arrived(history, {f"direct:{people[0]}:{people[1]}": people})
        assert report.ok, report
        for gateway, was in zip(("g1", "g2"), before, strict=True):
            await until(partial(_is_back, cluster, gateway, was), _SOON_S, f"{gateway} to be as before: {was}")
        grown = [_peak(cluster, gateway) - was for gateway, was in zip(("g1", "g2"), memory, strict=True)]
        tell(f"{report.messages} messages beside; at its peak a gateway had grown by {max(grown) >> 10} KiB")
        assert max(grown) < _FLAT
        assert [line for line in cluster.logs()[logged:].splitlines() if '"error"' in line or "Traceback" in line] == []


def _files(cluster: LiveCluster, gateway: str) -> int:
    return len(list(Path(f"/proc/{cluster.processes.pid(gateway)}/fd").iterdir()))


async def _standing(cluster: LiveCluster, gateway: str) -> dict[str, float]:
    """What must not leak."""
    series = ("connections", "sessions", "bridges")
    found = {name: await cluster.metric(gateway, f"talowa_gateway_{name}") for name in series}
    return found | {"files": _files(cluster, gateway)}


async def _is_back(cluster: LiveCluster, gateway: str, was: dict[str, float]) -> bool:
    now = await _standing(cluster, gateway)
    # Connections to the broker and to another gateway are kept for the next request.
    return all(now[name] <= was[name] + (8 if name == "files" else 0) for name in was)


def _begin_peak(cluster: LiveCluster, gateway: str) -> int:
    """From now on the kernel notes the most memory it has in RAM (proc(5), clear_refs); what it has now."""
    Path(f"/proc/{cluster.processes.pid(gateway)}/clear_refs").write_text("5")
    return _peak(cluster, gateway)


def _peak(cluster: LiveCluster, gateway: str) -> int:
    status = Path(f"/proc/{cluster.processes.pid(gateway)}/status").read_text()
    (peak_kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak_kib) << 10


def _next_address() -> str:
    return f"127.0.66.{next(_addresses)}"


@asynccontextmanager
async def _wires(cluster: LiveCluster, number: int, at_once: bytes = b"") -> AsyncIterator[list[Wire]]:
    """Connections of one attacker, and what each says as soon as it is there; cut off at the end."""
    target, address = urlsplit(cluster.urls[0]), (_next_address(), 0)
    wires: list[Wire] = []
    try:
        for _ in range(number):
            reader, writer = await asyncio.open_connection(target.hostname, target.port, local_addr=address)
            wires.append(Wire(reader, writer))
            wires[-1].write(at_once)
        yield wires
    finally:
        for wire in wires:
            wire.writer.transport.abort()


async def _shaken(wires: Sequence[Wire]) -> list[Wire]:
    """Their handshakes are answered, their connections open."""
    for wire in wires:
        assert (await wire.head()).startswith("HTTP/1.1 101 ")
        assert (await wire.text()).startswith("0{")
    return list(wires)


async def _wait_cut_off(wires: Sequence[Wire], tasks: asyncio.TaskGroup, meanwhile: bytes) -> None:
    """Say a byte now and then, until the server has closed all of them."""

    async def end(wire: Wire) -> None:
        with suppress(ConnectionError):
            await wire.end()

    def are_over() -> bool:
        for wire in wires:
            if not wire.writer.is_closing():
                wire.write(meanwhile)
        return all(task.done() for task in over)

    over = [tasks.create_task(end(wire)) for wire in wires]
    await until(are_over, _SOON_S, "all to be closed")


async def _until_said(wire: Wire, wanted: str) -> None:
    """Read until a frame holds this; pings are answered meanwhile."""
    async with asyncio.timeout(_SOON_S):
        while wanted not in (said := await wire.text()):
            if said == "2":
                wire.write(text("3"))


async def _said(wire: Wire) -> list[str]:
    """All text frames before the close; pings are left out."""
    said = []
    async with asyncio.timeout(_SOON_S):
        while (found := await wire.frame())[0] == TEXT:
            said.append(found[1].decode())
    return [each for each in said if each != "2"]


@asynccontextmanager
async def _http(address: str | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(local_addr=(address or _next_address(), 0), limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def _open(http: aiohttp.ClientSession, cluster: LiveCluster, gateway: int = 0) -> str:
    """The path of a new session that is polled."""
    async with http.get(cluster.urls[gateway] + _POLLING) as response:
        return f"{_POLLING}&sid={json.loads((await response.text())[1:])['sid']}"


async def _refusal(url: str, auth: dict[str, str]) -> str | None:
    async with await RawClient.connect(url, auth) as client:
        said = await client.expect("44", "40")
        return str(json.loads(said[2:])["data"]["code"]) if said.startswith("44") else None


async def _revoke(cluster: LiveCluster, user: str) -> None:
    url = cluster.internal_url("g1", f"/users/{user}/revoke")
    headers = {"Authorization": f"Bearer {Keyring(cluster.home).admin_token()}"}
    async with aiohttp.ClientSession() as http, http.post(url, headers=headers) as response:
        assert response.status == 200
