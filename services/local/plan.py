"""From settings to processes: which run, on which ports, with which environment."""

import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

from services.local import auth, firestore, ports
from services.local.broker import broker, find_server
from services.local.broker import url as broker_url
from services.local.issuer import AUDIENCE, ISSUER
from services.local.keyring import Keyring
from services.local.process import Process
from services.local.settings import LocalSettings

_INTERNAL_HOST: Final = "127.0.0.1"
# `talowa up` kills a gateway that has not stopped after 8.5 s (`cluster.py`); a farewell takes up to three.
_DRAIN_DEADLINE_S: Final = "5"
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared with, not bound to


class Plan(Struct, frozen=True):
    """The processes of a cluster, in the order they start."""

    processes: list[Process]
    redis_url: str


def make_plan(settings: LocalSettings, environment: dict[str, str], *, first_port: int | None = None) -> Plan:
    """What runs under these settings. Picks free internal ports, and makes what is secret, on the way.

    `environment` is what all processes inherit. `first_port` is where the search for free ports
    begins; clusters that start at the same moment on one machine begin apart. Raises `Unstartable`.
    """
    home = settings.home
    is_on_firestore = settings.store == "firestore"
    has_auth = auth.is_wanted(environment)
    wanted = settings.gateways + settings.routers + settings.presences
    wanted += (settings.redis_url is None) + is_on_firestore + has_auth
    start = {} if first_port is None else {"start": first_port}
    free = iter(ports.free(wanted, _INTERNAL_HOST, taken=settings.websocket_ports, **start))
    processes = []
    redis_url = settings.redis_url
    if redis_url is None:
        port = next(free)
        redis_url = broker_url(port)
        processes.append(broker(find_server(), home, port, environment))
    emulated: dict[str, str] = {}
    if is_on_firestore:
        port = next(free)
        processes.append(firestore.firestore(port, environment))
        emulated |= firestore.told(port, environment)
    if has_auth:
        port = next(free)
        processes.append(auth.auth(home, port, environment))
        emulated |= auth.told(port, environment)
    shared = environment | {
        "REDIS_URL": redis_url,
        "PARTITIONS": str(settings.partitions),
        "LOG_LEVEL": settings.log_level,
        **emulated,
    }
    keyring = Keyring(home)
    hiding = {
        "CLUSTER_SECRET": keyring.cluster_secret(),
        "ANONYMITY_KEYS": keyring.anonymity_key(),
        "PSEUDONYM_SECRET": keyring.pseudonym_secret(),
    }
    processes += [
        _router(f"r{number}", next(free), settings.database, hiding | shared)
        for number in range(1, settings.routers + 1)
    ]
    operators = {
        "AUTH": environment.get("AUTH", "local"),
        "TOKEN_KEY_FILE": str(keyring.public_key_file()),
        "TOKEN_ISSUER": ISSUER,
        "TOKEN_AUDIENCE": AUDIENCE,
        "ADMIN_TOKEN": keyring.admin_token(),
    }
    secrets = operators | {
        "TICKET_SECRET": keyring.ticket_secret(),
        "CLUSTER_SECRET": shared.get("CLUSTER_SECRET", hiding["CLUSTER_SECRET"]),
    }
    processes += [
        _presence(f"presence{number if number > 1 else ''}", next(free), settings.last_seen, shared | operators)
        for number in range(1, settings.presences + 1)
    ]
    processes += [
        _gateway(f"g{number}", port, next(free), settings, shared | secrets)
        for number, port in enumerate(settings.websocket_ports, start=1)
    ]
    return Plan(processes, redis_url)


def socket_url(host: str, port: int) -> str:
    """Where a client on this machine finds a gateway."""
    return f"http://{_ANY_ADDRESS.get(host, host)}:{port}"


def _gateway(name: str, socket: int, internal: int, settings: LocalSettings, shared: dict[str, str]) -> Process:
    return Process(
        name=name,
        role="gateway",
        command=_python("services.gateway"),
        environment={"DRAIN_DEADLINE_S": _DRAIN_DEADLINE_S}
        | shared
        | _internal(internal)
        | {
            "GATEWAY_ID": name,
            "WEBSOCKET_HOST": settings.websocket_host,
            "WEBSOCKET_PORT": str(socket),
            "WEBSOCKET_URL": settings.websocket_url or socket_url(settings.websocket_host, socket),
        },
        ports={"socket": socket, "internal": internal},
    )


def _router(name: str, internal: int, database: Path, shared: dict[str, str]) -> Process:
    return Process(
        name=name,
        role="router",
        command=_python("services.router"),
        environment=shared | _internal(internal) | {"ROUTER_ID": name, "SQLITE_PATH": str(database)},
        ports={"internal": internal},
    )


def _presence(name: str, internal: int, database: Path, shared: dict[str, str]) -> Process:
    return Process(
        name=name,
        role="presence",
        command=_python("services.presence"),
        environment=shared | _internal(internal) | {"PRESENCE_ID": name, "PRESENCE_SQLITE_PATH": str(database)},
        ports={"internal": internal},
    )


def _internal(port: int) -> dict[str, str]:
    return {"INTERNAL_HOST": _INTERNAL_HOST, "INTERNAL_PORT": str(port)}


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module)
