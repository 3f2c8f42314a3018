"""How long an emergency broadcast takes to reach 2,000 sockets on two gateways, first to last.

    python -m loadtests.broadcast --sockets 2000 --broadcasts 5

Starts a cluster of its own on free ports, in a folder that it removes: embedded broker, SQLite store with
fsync, 2 gateways, 2 routers, presence. Half of the sockets sit on each gateway, each with a user of its own
in one village; all acknowledge. Times are taken in this process, from the POST to the arrival on each
socket, so they contain what it takes this one process to read all of them.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp

from loadtests.latency import UNLIMITED
from services.local.cluster import open_cluster
from services.local.issuer import Issuer
from services.local.keyring import Keyring
from services.local.plan import make_plan, socket_url
from services.local.ports import free
from services.local.settings import LocalSettings
from services.router.sqlite import UserRow, open_store

_HOST: Final = "127.0.0.1"
_READY_S: Final = 60.0
_ARRIVAL_S: Final = 20.0
# Sockets that sign in at the same time.
_AT_ONCE: Final = 50


class Village:
    """Everyone's sockets, and when each broadcast arrived on them."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []
        self.arrived: list[float] = []
        self._everywhere = asyncio.Event()

    async def join(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        """One more socket, signed in."""
        socket = await http.ws_connect(f"{url}/socket.io/?EIO=4&transport=websocket", max_msg_size=0)
        await socket.send_str(f'40{{"token":"{token}"}}')
        while '"auth_success"' not in (await socket.receive_str()):
            pass
        self._sockets.append(socket)
        self._tasks.create_task(self._read(socket))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            text = message.data
            if text == "2":
                await socket.send_str("3")
            elif text.startswith("42") and '"emergency_broadcast"' in text[:40]:
                self.arrived.append(time.perf_counter())
                if len(self.arrived) == len(self._sockets):
                    self._everywhere.set()
                await socket.send_str(f"43{text[2 : text.index('[')]}[]")

    def expect(self) -> None:
        """From now on count the next broadcast."""
        self.arrived = []
        self._everywhere.clear()

    async def wait_everywhere(self) -> None:
        """Until it is on every socket, or its time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ARRIVAL_S):
                await self._everywhere.wait()

    async def close(self) -> None:
        """Hang up."""
        await asyncio.gather(*(socket.close() for socket in self._sockets))


async def measure(sockets: int, broadcasts: int, out: Path) -> list[dict[str, Any]]:
    """Run one measurement in the folder `out`: a row for each broadcast."""
    port = free(2, _HOST, start=24_000)[0]
    settings = LocalSettings(data_dir=str(out), websocket_port=port)
    plan = make_plan(settings, UNLIMITED | dict(os.environ), first_port=24_100)
    async with open_cluster(out, plan.processes) as cluster, AsyncExitStack() as stack:
        for name in cluster.names:
            await cluster.start(name)
        for name in cluster.names:
            await cluster.wait_ready(name, _READY_S)
        users = [f"u{number}" for number in range(sockets)]
        async with open_store(settings.database) as store:
            await store.put_users([UserRow(id=user, name=user, village_id="v1") for user in users])
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        issuer, village = Issuer(Keyring(out).signing_key()), Village(tasks)
        urls = [socket_url(_HOST, each) for each in settings.websocket_ports]
        for start in range(0, sockets, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, sockets))
            await asyncio.gather(*(village.join(http, urls[n % 2], issuer.token(users[n])) for n in numbers))
        internal = next(each.ports["internal"] for each in plan.processes if each.role == "gateway")
        headers = {"Authorization": f"Bearer {Keyring(out).admin_token()}"}
        rows = []
        for number in range(broadcasts):
            village.expect()
            said = {
                "title": "వరద హెచ్చరిక",
                "content": f"గోదావరి పొంగింది. ఎత్తైన చోటికి వెళ్ళండి. {number}",
                "locationLevel": "village",
                "locationIds": ["v1"],
                "priority": "critical",
            }
            began = time.perf_counter()
            async with http.post(f"http://{_HOST}:{internal}/emergency-broadcast", json=said, headers=headers) as post:
                answer = await post.json()
            answered = time.perf_counter()
            await village.wait_everywhere()
            rows.append(_row(began, answered, village.arrived, answer["reach"]))
            await asyncio.sleep(1.0)  # acknowledgements and receipts are not what is measured
        await village.close()
    return rows


def _row(began: float, answered: float, arrived: list[float], reach: dict[str, int]) -> dict[str, Any]:
    times = sorted((at - began) * 1000 for at in arrived)
    return {
        "reached": len(times),
        "reach": reach,
        "first ms": round(times[0], 1),
        "median ms": round(statistics.median(times), 1),
        "last ms": round(times[-1], 1),
        "first to last ms": round(times[-1] - times[0], 1),
        "answered ms": round((answered - began) * 1000, 1),
    }


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=2000, help="on both gateways together")
    parser.add_argument("--broadcasts", type=int, default=5, help="one after another")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="talowa-") as out:
        rows = asyncio.run(measure(given.sockets, given.broadcasts, Path(out)))
    for row in rows:
        sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")


if __name__ == "__main__":
    main()
