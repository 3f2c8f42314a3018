"""Where works are done: a cluster of its own for each, people, and their phones.

The cluster is the comparison's: what `make up` starts, with limits raised so that one address and few people may
do what thousands do. Clients are a fleet, in processes of their own.
"""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from libs.figures import GatewayFigures
from libs.lifecycle import raise_file_limit
from loadtests.compare import systems
from loadtests.compare.plan import sitters
from loadtests.fleet import Figures, Fleet, open_fleet
from loadtests.letters import Letter
from loadtests.meter import Meter
from loadtests.phone import Person
from loadtests.processes import by_role, rss_kb
from loadtests.scale import plan
from loadtests.scale.figures import Entry, Flow
from loadtests.scale.plan import Size
from loadtests.tallies import Sent
from services.gateway.status import Status
from services.local import operators
from services.local.cluster import Cluster, open_cluster
from services.local.keyring import Keyring
from services.local.plan import socket_url

_READY_S: Final = 60.0
# Receipts are saved a second after they came.
_AFTERMATH_S: Final = 1.2
_LOOK_S: Final = 0.2
# Who is not back by then does not come back.
_BACK_S: Final = 90.0
# Nothing can come to a phone that is still on its way back: it may wait half a minute in vain, and then once more.
PATIENCE_S: Final = 45.0
Say = Callable[[str], None]


class Stage:
    """Where clusters run, one at a time, each in a folder of its own below `home`."""

    def __init__(self, home: Path, size: Size, say: Say) -> None:
        self.size = size
        self.say = say
        raise_file_limit()
        self.files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._home = home
        self._opened = 0
        self._tokens = systems.Tokens(home / "keys")

    def fit(self, sockets: int, gateways: int) -> int:
        """As many of these as this machine holds; says so if that is not all."""
        count = plan.fit(sockets, gateways, self.files)
        if count < sockets:
            self.say(f"{sockets:,} sockets do not fit {gateways} gateways of {self.files:,} files each: {count:,} do")
        return count

    @asynccontextmanager
    async def open(
        self, gateways: int, sockets: int, environment: Mapping[str, str] | None = None
    ) -> AsyncIterator["Site"]:
        """A cluster that is ready, clients that are not signed in."""
        self._opened += 1
        home = self._home / str(self._opened)
        self.say(f"{gateways} gateways, {sockets:,} people …")
        system = await systems.ours(home, gateways, sitters(sockets), self._tokens, environment)
        async with open_cluster(home, system.processes, self.say) as cluster:
            for each in cluster.names:
                await cluster.start(each)
            for each in cluster.names:
                await cluster.wait_ready(each, _READY_S)
            async with open_fleet(plan.client_processes(sockets, self.files)) as fleet:
                yield Site(cluster, fleet, system.people, self.size, self.say, Keyring(home).admin_token())


class Site(Meter):
    """A cluster, its people, and their phones."""

    def __init__(
        self, cluster: Cluster, fleet: Fleet, people: list[Person], size: Size, say: Say, admin_token: str
    ) -> None:
        super().__init__(cluster)
        self._admin_token = admin_token
        self.fleet = fleet
        self.people = people
        self.size = size
        self.say = say

    async def sign_in(self, asked: int) -> Entry:
        """Everyone, as fast as it goes; `asked` were to be here."""
        found, used = await self.during(self.fleet.connect(self.people, at_once=self.size.at_once))
        entry = Entry.of(asked, len(self.people), found, used)
        self.say(
            f"{entry.signed_in:,} of {entry.wanted:,} signed in, {entry.signed_in / found.took_s:.0f} a second, "
            f"{sum(entry.cpu_ms.values()):.2f} ms of CPU each {entry.failed or ''}"
        )
        return entry

    async def write(self, letters: list[Letter], seconds: float) -> Flow:
        """Messages at the set rate, and what follows from them."""
        sent, used = await self.during(self._send(letters, seconds))
        flow = Flow.of(sent, self.size.rate, used)
        self.say(f"{sum(flow.cpu_us.values()):.0f} µs a message; {sent.summary}")
        return flow

    def rss_kb(self) -> dict[str, int]:
        """Memory in RAM, by role."""
        return {role: round(kilobytes) for role, kilobytes in by_role(self.cluster, dict(rss_kb(self.cluster))).items()}

    def kb_a_socket(self, before: dict[str, int], sockets: int) -> dict[str, float]:
        """What each socket has added since, by role."""
        return {role: round((now - before[role]) / max(1, sockets), 2) for role, now in self.rss_kb().items()}

    @property
    def gateways(self) -> dict[str, str]:
        """Where each gateway's sockets are, by its name."""
        return {
            running.name: socket_url(running.host, running.ports["socket"])
            for running in self.cluster.state().processes
            if running.role == "gateway"
        }

    async def ask(self, method: str, path: str, gateway: str | None = None) -> str:
        """An operator's call to this gateway, or to one that runs; its answer."""
        return await operators.call(self.cluster.state(), self._admin_token, method, path, gateway=gateway)

    async def figures(self) -> dict[str, GatewayFigures]:
        """What each gateway says of itself, by its name, as `/status` tells."""
        status = msgspec.json.decode(await self.ask("GET", "/status"), type=Status)
        return {each.id.rpartition("-")[0]: each for each in status.gateways}

    async def sockets(self) -> dict[str, int]:
        """How many each gateway has, by its name."""
        return {name: each.connections for name, each in (await self.figures()).items()}

    async def all_back(self, at_least: int, signed_in: int) -> Figures:
        """How the clients are when everyone is signed in again, or when that takes too long."""
        deadline = time.perf_counter() + _BACK_S
        while True:
            figures = await self.fleet.figures()
            is_done = figures.came_back >= at_least and figures.signed_in == signed_in
            if is_done or time.perf_counter() > deadline:
                return figures
            await asyncio.sleep(_LOOK_S)

    async def _send(self, letters: list[Letter], seconds: float) -> Sent:
        sent = await self.fleet.send(letters, self.size.rate, seconds)
        await asyncio.sleep(_AFTERMATH_S)
        return sent
