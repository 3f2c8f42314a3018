"""Ports of this machine: which are free, and who holds one that is not."""

import errno
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from libs.lifecycle import Unstartable

# Below the range that systems give to outgoing connections (32768 on Linux, 49152 on macOS): one of
# those could sit on a port while a process that owned it is being started again.
_FIRST = 9101
_LAST = 32000
_LISTENING = "0A"


def free(count: int, host: str, *, start: int = _FIRST, taken: Iterable[int] = ()) -> list[int]:
    """The first `count` free ports from `start` on, none of them in `taken`. Raises `Unstartable`."""
    avoid = set(taken)
    found: list[int] = []
    for port in (*range(start, _LAST), *range(_FIRST, start)):
        if len(found) == count:
            break
        if port not in avoid and _trouble(host, port) is None:
            found.append(port)
    if len(found) < count:
        raise Unstartable(f"there are not {count} free ports from {_FIRST} to {_LAST} on {host}. Stop what holds them.")
    return found


def must_be_free(host: str, ports: Iterable[int]) -> None:
    """Raise `Unstartable`, naming the port and who holds it, unless all of `ports` can be listened on."""
    for port in ports:
        trouble = _trouble(host, port)
        if trouble is None:
            continue
        if trouble == errno.EADDRINUSE:
            raise Unstartable(
                f"port {port} is in use{_by(port)}. Stop what holds it, or choose another WEBSOCKET_PORT."
            )
        if trouble == errno.EACCES:
            raise Unstartable(f"port {port} needs more rights. Choose a WEBSOCKET_PORT of 1024 or more.")
        raise Unstartable(
            f"WEBSOCKET_HOST={host}: {os.strerror(trouble)}. Use 127.0.0.1, or 0.0.0.0 for all addresses."
        )


def holder(port: int) -> tuple[int, str] | None:
    """The pid and name of the process that listens on `port`, where /proc tells it; else None."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # A process may end, or be another user's, between one look and the next.
            if any(str(link.readlink()) in sockets for link in (process / "fd").iterdir()):
                return int(process.name), (process / "comm").read_text().strip()
        except OSError:
            continue
    return None


def _trouble(host: str, port: int) -> int | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: a port whose last connections are still fading away counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            return error.errno
    return None


def _by(port: int) -> str:
    found = holder(port)
    return f" by {found[1]} (pid {found[0]})" if found else ""


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            rows = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                inodes.add(columns[9])
    return inodes
