"""The systems that are compared: their processes, where their sockets are, and how one signs in.

All of them run from a folder of their own, and all that need a broker get the same one, with the same
append-only file. Ours is what `make up` starts, with its limits on, but so high that a few sockets may do here
what thousands of phones do.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from libs.lifecycle import Unstartable
from loadtests.phone import Person
from loadtests.swarm import PLAIN, TALOWA
from services.local import ports
from services.local.broker import broker, find_server
from services.local.broker import url as broker_url
from services.local.claim import make_home
from services.local.issuer import Issuer
from services.local.keyring import Keyring
from services.local.plan import make_plan, socket_url
from services.local.process import Process
from services.local.settings import LocalSettings
from services.router.sqlite import GroupRow, UserRow, open_store
from services.router.store import Registry

NODE: Final = Path(__file__).with_name("node")
VILLAGE: Final = "v1"
_HOST: Final = "127.0.0.1"
_FIRST_PORT: Final = 24_000
# The environment may set limits again.
RAISED: Final = {
    "FRAMES_PER_S": "100000",
    "FRAMES_BURST": "100000",
    "CONNECTS_PER_MINUTE": "1000000",
    "SIGN_INS_PER_MINUTE": "1000000",
    **{f"{kind}_PER_MINUTE": "100000" for kind in ("TEXT", "IMAGE", "DOCUMENT", "VOICE", "EMERGENCY")},
}


class Population(Struct, frozen=True):
    """Who there is, and in which groups."""

    users: Sequence[str]
    groups: Mapping[str, frozenset[str]]


class System(Struct, frozen=True):
    """What is compared. `people` are its population, spread over its URLs one after another."""

    name: str
    processes: list[Process]
    people: list[Person]
    greeting: bytes
    broadcast_url: str
    headers: dict[str, str] = {}
    has_tickets: bool = False


class Tokens:
    """Tokens of one key, made once for all runs of our cluster: each takes most of a millisecond."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._issuer = Issuer(Keyring(home).signing_key())
        self._made: dict[str, str] = {}

    def of(self, uid: str) -> str:
        """This user's token."""
        if uid not in self._made:
            self._made[uid] = self._issuer.token(uid)
        return self._made[uid]

    def hand_key(self, home: Path) -> None:
        """Let the cluster in `home` accept these tokens."""
        (home / "issuer").mkdir(mode=0o700)
        shutil.copy(self._home / "issuer" / "private.pem", home / "issuer" / "private.pem")


async def ours(
    home: Path,
    gateways: int,
    population: Population,
    tokens: Tokens,
    environment: Mapping[str, str] | None = None,
    store: Literal["sqlite", "firestore"] = "sqlite",
) -> System:
    """Our cluster: broker, store, routers, presence, and so many gateways. Nobody lives in Firestore yet (`put`)."""
    make_home(home)
    tokens.hand_key(home)
    port = _free(gateways)[0]
    settings = LocalSettings(data_dir=str(home), websocket_port=port, gateways=gateways, store=store)
    inherited = RAISED | dict(environment or {}) | dict(os.environ) | {"STORE": store}
    plan = make_plan(settings, inherited, first_port=_FIRST_PORT + 100)
    if store == "sqlite":
        async with open_store(settings.database) as database:
            await put(database, population)
    urls = [socket_url(_HOST, each) for each in settings.websocket_ports]
    people = _spread(population.users, urls, {user: {"token": tokens.of(user)} for user in population.users})
    internal = next(each.ports["internal"] for each in plan.processes if each.role == "gateway")
    headers = {"Authorization": f"Bearer {Keyring(home).admin_token()}"}
    broadcast_url = f"http://{_HOST}:{internal}/emergency-broadcast"
    return System(f"ours-{gateways}", plan.processes, people, TALOWA, broadcast_url, headers, has_tickets=True)


async def put(registry: Registry, population: Population) -> None:
    """Have a store know who there is."""
    await registry.put_users([UserRow(id=user, name=user, village_id=VILLAGE) for user in population.users])
    groups = population.groups.items()
    await registry.put_groups([GroupRow(id=name, name=name, members=members) for name, members in groups])


def node(home: Path, count: int, population: Population) -> System:
    """Socket.IO on Node: one process, or several that the adapter for Redis Streams joins."""
    make_home(home)
    program = shutil.which("node")
    if program is None or not (NODE / "node_modules").exists():
        raise Unstartable(f"Node, or what its server needs, is not installed: run `npm ci` in {NODE}.")
    environment, processes = dict(os.environ), []
    if count > 1:
        (port,) = ports.free(1, _HOST, start=_FIRST_PORT + 100)
        processes.append(broker(find_server(), home, port, environment))
        environment["REDIS_URL"] = broker_url(port)
    command = (program, str(NODE / "server.mjs"))
    return _plain(f"node-{count}", processes, command, environment, _free(count), population)


def stock(home: Path, population: Population) -> System:
    """python-socketio as it comes: one process."""
    make_home(home)
    command = (sys.executable, "-m", "loadtests.compare.stock")
    return _plain("stock", [], command, dict(os.environ), _free(1), population)


def _plain(
    name: str,
    before: Sequence[Process],
    command: tuple[str, ...],
    environment: Mapping[str, str],
    own_ports: Sequence[int],
    population: Population,
) -> System:
    """Servers that take a user id for a token, and are told of groups by who signs in."""
    processes = [
        Process(
            name=f"{name}-{port}",
            role="gateway",
            command=command,
            environment={**environment, "PORT": str(port)},
            ports={"internal": port},
            restarts=False,
        )
        for port in own_ports
    ]
    auth = {
        user: {"token": user, "groups": [name for name, members in population.groups.items() if user in members]}
        for user in population.users
    }
    urls = [f"http://{_HOST}:{port}" for port in own_ports]
    people = _spread(population.users, urls, auth)
    return System(name, [*before, *processes], people, PLAIN, f"{urls[0]}/broadcast")


def _spread(users: Sequence[str], urls: Sequence[str], auth: Mapping[str, object]) -> list[Person]:
    return [Person(user, urls[number % len(urls)], json.dumps(auth[user])) for number, user in enumerate(users)]


def _free(count: int) -> list[int]:
    """Ports in a row, as many as are asked for."""
    row = ports.free(count, _HOST, start=_FIRST_PORT)
    while row[-1] - row[0] != count - 1:
        row = ports.free(count, _HOST, start=row[0] + 1)
    return row
