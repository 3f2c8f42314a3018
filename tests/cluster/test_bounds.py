"""What is full says so: a broker that does not answer, routers that are behind, a phone that does not read."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.clients import Client, JsClients, RawClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.load import arrived, tell
from tests.support.waiting import until

_SOON_S: Final = 30.0
# A held frame is answered once the broker is back; until then nobody hears of it.
_HELD_S: Final = 60.0
_CONTENT: Final = "భూమి" * 1300  # 15,600 bytes


async def test_a_gateway_holds_a_bounded_number_of_frames_for_a_broker_that_is_away(tmp_path: Path) -> None:
    """The rest is refused with a retryable `unavailable`; what was held is answered when the broker is back."""
    limit, count = 50, 80
    history = History()
    environment = {"UPLINK_MAX_FRAMES": str(limit)}
    async with live_cluster(tmp_path, environment=environment) as cluster, JsClients(history) as js:
        await cluster.people(["asha", "bala"])
        asha = await _open(js, cluster, "asha", 0)
        bala = await _open(js, cluster, "bala", 1)
        assert (await asha.send_message(_message(0)))["seq"] == 1
        await bala.wait_for_messages(1)
        cluster.servers.pause()
        async with asyncio.TaskGroup() as tasks:
            # One write is in the air until it times out; then the gateway knows.
            first = tasks.create_task(asha.emit("send_message", _message(1), _HELD_S))
            await until(lambda: _lacks_broker(cluster, "g1"), _SOON_S, "the gateway to miss its broker")
            asked = [
                tasks.create_task(asha.emit("send_message", _message(number), _HELD_S)) for number in range(2, count)
            ]
            refused = await until(lambda: [task.result() for task in asked if task.done()], _SOON_S, "refusals")
            assert await cluster.metric("g1", "talowa_gateway_uplink_frames") == limit
            cluster.servers.resume()
        answers = [task.result() for task in (first, *asked)]
        refused = [answer["error"] for answer in answers if not answer["ok"]]
        assert len(refused) == count - 1 - limit
        assert {(error["code"], error["retryable"]) for error in refused} == {("unavailable", True)}
        assert all(error["retryAfterMs"] > 0 for error in refused)
        for number in range(1, count):
            assert (await asha.send_message(_message(number)))["ok"]
        report = await arrived(history, {"direct:asha:bala": ("asha", "bala")})
        assert report.ok, report
        assert report.messages == count


async def test_routers_that_are_behind_have_gateways_say_overloaded(tmp_path: Path) -> None:
    """Past the bound on lag a message is refused, with a time to wait; what was taken before is answered later."""
    history = History()
    async with live_cluster(tmp_path, environment={"OVERLOAD_LAG_S": "1"}) as cluster, JsClients(history) as js:
        await cluster.people(["asha", "bala"])
        asha = await _open(js, cluster, "asha", 0)
        await _open(js, cluster, "bala", 1)
        for router in ("r1", "r2"):
            cluster.processes.kill(router, signal.SIGSTOP)
        async with asyncio.TaskGroup() as tasks:
            held = tasks.create_task(asha.emit("send_message", _message(0), _HELD_S))

            async def is_overloaded() -> dict[str, Any] | None:
                number = len(history.sent)
                sending = tasks.create_task(asha.emit("send_message", _message(number), _HELD_S))
                done, _ = await asyncio.wait([sending], timeout=0.5)
                return sending.result()["error"] if done else None

            error = await until(is_overloaded, _SOON_S, "a refusal")
            assert (error["code"], error["retryable"]) == ("overloaded", True)
            assert error["retryAfterMs"] > 0
            for router in ("r1", "r2"):
                cluster.processes.kill(router, signal.SIGCONT)
        assert held.result()["ok"]
        assert (await asha.send_message(_message(1000)))["ok"]
        report = await arrived(history, {"direct:asha:bala": ("asha", "bala")})
        assert report.ok, report


async def test_a_phone_that_does_not_read_is_closed_and_disturbs_nobody(tmp_path: Path) -> None:
    """Its outbox overflows; the gateway stays small, others have everything at once, and so has the phone later."""
    history = History()
    environment = {"OUTBOX_MAX_BYTES": str(1 << 17)}
    async with live_cluster(tmp_path, environment=environment) as cluster, JsClients(history) as js:
        people = ["asha", "bala", "chitra"]
        await cluster.people(people, {"sangham": people})
        asha = await _open(js, cluster, "asha", 0)
        chitra = await _open(js, cluster, "chitra", 1)
        before = _memory(cluster, "g2")
        async with await _connect_deaf(cluster.urls[1], cluster.token("bala")) as deaf:
            await deaf.expect_event("auth_success")
            sent = 0

            async def overflows() -> bool:
                nonlocal sent
                async with asyncio.TaskGroup() as tasks:
                    for number in range(sent, sent + 20):
                        message = {"clientId": f"c{number}", "groupId": "sangham", "content": _CONTENT}
                        tasks.create_task(asha.send_message(message))
                sent += 20
                await chitra.wait_for_messages(sent)
                return await cluster.metric("g2", "talowa_gateway_outbox_overflows_total") > 0

            await until(overflows, 60.0, "the outbox of who does not read to overflow")
            await until(lambda: _has_sessions(cluster, "g2", 1), _SOON_S, "the socket to be closed")
        grown = _memory(cluster, "g2") - before
        tell(f"closed after {sent} messages of {len(_CONTENT.encode())} bytes; the gateway grew by {grown >> 10} KiB")
        assert grown < 32 << 20
        bala = await _open(js, cluster, "bala", 0)
        await bala.wait_for_messages(sent, _SOON_S)
        report = await arrived(history, {"group:sangham": people})
        assert report.ok, report


async def _open(js: JsClients, cluster: LiveCluster, user: str, gateway: int) -> Client:
    client = await js.open(user, cluster.urls[gateway], {"token": cluster.token(user)}, user=user)
    await client.wait_for("auth_success")
    return client


async def _connect_deaf(url: str, token: str) -> RawClient:
    """A signed-in socket with next to no room for what it does not read."""

    def small(address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return made

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=small))
    websocket = await session.ws_connect(f"{url}/socket.io/?EIO=4&transport=websocket")
    client = RawClient(session, websocket, "deaf", History())
    await client.expect("0{")
    await client.send_text(f'40{{"token":"{token}"}}')
    return client


def _message(number: int) -> dict[str, Any]:
    return {"clientId": f"c{number}", "recipientId": "bala", "content": "x"}


async def _lacks_broker(cluster: LiveCluster, gateway: str) -> bool:
    return await cluster.processes.lacks(gateway) is not None


def _memory(cluster: LiveCluster, gateway: str) -> int:
    """The most memory that a gateway has had so far, in bytes."""
    status = Path(f"/proc/{cluster.processes.pid(gateway)}/status").read_text()
    (peak_kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak_kib) << 10


async def _has_sessions(cluster: LiveCluster, gateway: str, count: int) -> bool:
    return await cluster.metric(gateway, "talowa_gateway_sessions") == count
