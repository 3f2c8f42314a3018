"""How long from `send_message` to `new_message` across two gateways, and what it costs in CPU.

    python -m loadtests.latency --rate 200 --seconds 20 --pairs 20

Starts a cluster of its own on free ports, in a folder that it removes: embedded broker, SQLite store with
fsync, 2 gateways, 2 routers, presence. Half of the people sit on the first gateway and write to the other
half on the second, who acknowledge each message. Times are taken in this process, from the write of the
frame to its arrival on the other socket; CPU is what all server processes and the broker used, from
/proc, with what the idle cluster uses in the same time taken off.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from services.local.cluster import Cluster, open_cluster
from services.local.issuer import Issuer
from services.local.keyring import Keyring
from services.local.plan import make_plan, socket_url
from services.local.ports import free
from services.local.settings import LocalSettings
from services.router.sqlite import UserRow, open_store

_HOST: Final = "127.0.0.1"
_READY_S: Final = 60.0
_IDLE_S: Final = 3.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
# A few sockets send here what thousands of people would, all from one address. Messages are counted all the same, as
# they are in production. The environment may set limits again.
UNLIMITED: Final = {
    "FRAMES_PER_S": "0",
    "CONNECTS_PER_MINUTE": "0",
    "SIGN_INS_PER_MINUTE": "0",
    **{f"{kind}_PER_MINUTE": "100000" for kind in ("TEXT", "IMAGE", "DOCUMENT", "VOICE", "EMERGENCY")},
}
_packet: Final = msgspec.json.Decoder(list[Any])


class Phone:
    """One socket, on raw frames: cheap enough not to be what is measured."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse, user_id: str) -> None:
        self.user_id = user_id
        self.arrived: dict[str, float] = {}
        self.sent: dict[str, float] = {}
        self.answered = 0
        self.is_in = asyncio.Event()
        self._websocket = websocket

    async def send(self, to: str, number: int) -> None:
        """Send one message and note when."""
        client_id = f"{self.user_id}-{number}"
        body = {"clientId": client_id, "type": "text", "content": "గ్రామ సభ రేపు ఉదయం పదకొండు గంటలకు", "recipientId": to}
        frame = f'42{number}["send_message",{msgspec.json.encode(body).decode()}]'
        self.sent[client_id] = time.perf_counter()
        await self._websocket.send_str(frame)

    async def read(self) -> None:
        """Read, acknowledge and note until the socket is closed."""
        async for message in self._websocket:
            now, text = time.perf_counter(), message.data
            if text == "2":
                await self._websocket.send_str("3")
            elif text.startswith("42"):
                start = text.index("[")
                name, body = _packet.decode(text[start:])
                if start > 2:
                    await self._websocket.send_str(f"43{text[2:start]}[]")
                if name == "new_message":
                    self.arrived[body["clientId"]] = now
                elif name == "auth_success":
                    self.is_in.set()
            elif text.startswith("43"):
                self.answered += 1

    async def close(self) -> None:
        """Hang up."""
        await self._websocket.close()


async def measure(rate: float, seconds: float, pairs: int, out: Path) -> dict[str, float]:
    """Run one measurement in the folder `out`."""
    port = free(2, _HOST, start=24_000)[0]
    settings = LocalSettings(data_dir=str(out), websocket_port=port)
    plan = make_plan(settings, UNLIMITED | dict(os.environ), first_port=24_100)
    async with open_cluster(out, plan.processes) as cluster, AsyncExitStack() as stack:
        for name in cluster.names:
            await cluster.start(name)
        for name in cluster.names:
            await cluster.wait_ready(name, _READY_S)
        users = [f"{side}{number}" for side in "ab" for number in range(pairs)]
        async with open_store(settings.database) as store:
            await store.put_users([UserRow(id=user, name=user) for user in users])
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        issuer = Issuer(Keyring(out).signing_key())
        phones = {}
        for user in users:
            url = socket_url(_HOST, settings.websocket_ports[user.startswith("b")])
            phones[user] = await _open(http, tasks, url, user, issuer.token(user))
        idle_from = _cpu_s(cluster)
        await asyncio.sleep(_IDLE_S)
        idle = _cpu_s(cluster)
        idle.subtract(idle_from)
        began, cpu_from, own_from = time.perf_counter(), _cpu_s(cluster), time.process_time()
        total = round(rate * seconds)
        for number in range(total):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            pair = number % pairs
            await phones[f"a{pair}"].send(f"b{pair}", number)
        await _all_arrived(phones.values(), total)
        took = time.perf_counter() - began
        cpu = _cpu_s(cluster)
        cpu.subtract(cpu_from)
        cpu.subtract({role: seconds / _IDLE_S * took for role, seconds in idle.items()})
        own_s = time.process_time() - own_from
        for phone in phones.values():
            await phone.close()
    sent = {client_id: at for phone in phones.values() for client_id, at in phone.sent.items()}
    arrived = {client_id: at for phone in phones.values() for client_id, at in phone.arrived.items()}
    times = sorted((arrived[client_id] - at) * 1000 for client_id, at in sent.items() if client_id in arrived)
    return {
        "sent": total,
        "arrived": len(times),
        "answered": sum(phone.answered for phone in phones.values()),
        "p50 ms": round(statistics.median(times), 1),
        "p99 ms": round(times[int(len(times) * 0.99)], 1),
        "max ms": round(times[-1], 1),
        "server CPU µs a message": round(sum(cpu.values()) / total * 1e6),
        **{f"of it {role}": round(seconds / total * 1e6) for role, seconds in sorted(cpu.items())},
        "client CPU µs a message": round(own_s / total * 1e6),
    }


async def _open(http: aiohttp.ClientSession, tasks: asyncio.TaskGroup, url: str, user: str, token: str) -> Phone:
    websocket = await http.ws_connect(f"{url}/socket.io/?EIO=4&transport=websocket", max_msg_size=0)
    await websocket.send_str(f'40{{"token":"{token}"}}')
    phone = Phone(websocket, user)
    tasks.create_task(phone.read())
    await asyncio.wait_for(phone.is_in.wait(), _READY_S)
    return phone


async def _all_arrived(phones: Iterable[Phone], total: int) -> None:
    """Wait for the last message, or until nothing has come for five seconds."""
    phones = list(phones)
    seen, seen_at = -1, time.perf_counter()
    while (arrived := sum(len(phone.arrived) for phone in phones)) < total and time.perf_counter() < seen_at + 5:
        if arrived != seen:
            seen, seen_at = arrived, time.perf_counter()
        await asyncio.sleep(0.01)


def _cpu_s(cluster: Cluster) -> Counter[str]:
    """CPU seconds, user and system, of the processes of the cluster so far, by role."""
    seconds: Counter[str] = Counter()
    for running in cluster.state().processes:
        stat = Path(f"/proc/{running.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        seconds[running.role] += (int(fields[11]) + int(fields[12])) / _TICKS  # type: ignore[assignment]
    return seconds


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200, help="messages a second (default 200)")
    parser.add_argument("--seconds", type=float, default=20, help="for how long (default 20)")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of people (default 20)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="talowa-") as folder:
        result = asyncio.run(measure(given.rate, given.seconds, given.pairs, Path(folder)))
    sys.stdout.write("".join(f"{name:>26}  {value:g}\n" for name, value in result.items()))


if __name__ == "__main__":
    main()
