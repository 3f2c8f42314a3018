"""Proxies before gateways, as docs/ingress.md has operators set them: HAProxy and nginx, with the documents' own files.

A test changes in them what is of a place: addresses, certificates, paths. What else it changes it says.
"""

import asyncio
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, Literal

import psutil
import pytest

from services.local import leash, ports
from tests.support.certificates import Authority
from tests.support.waiting import until

DOCUMENTS: Final = Path(__file__).parents[2] / "docs" / "ingress"
_HOST: Final = "127.0.0.1"
_READY_S: Final = 10.0
_STOP_S: Final = 5.0
_SERVER: Final = re.compile(r"(?m)^( +server )(g1 )?gateway-1:3001(.*)\n(?: +server .*\n)*")
# Of a place, and how much of it: a test has not the files that a server has.
_OF_A_PLACE: Final = {
    "haproxy": {"maxconn 100000": "maxconn 4000", "cachesize 100000": "cachesize 2000"},
    "nginx": {
        "worker_processes auto": "worker_processes 2",
        "worker_rlimit_nofile 200000": "worker_rlimit_nofile 8192",
        "worker_connections 50000": "worker_connections 4000",
        "shared:TLS:50m": "shared:TLS:1m",
        "/var/log/nginx/error.log crit": "stderr crit",
        "/run/nginx.pid": "{folder}/nginx.pid",
        "    access_log off;\n": "".join(
            f"    {whose}_temp_path {{folder}}/{whose};\n"
            for whose in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
    },
}

Kind = Literal["haproxy", "haproxy-tcp", "nginx"]


class Proxy:
    """One that runs. `authority` is whose certificate it has, if clients reach it by TLS."""

    def __init__(self, name: str, url: str, authority: Authority | None, running: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.url = url
        self.authority = authority
        self._running = running

    @property
    def workers(self) -> set[int]:
        """The processes that hold its connections, those that only finish among them."""
        return {worker.pid for worker in psutil.Process(self._running.pid).children()}

    @property
    def tls(self) -> ssl.SSLContext | None:
        """For clients in Python."""
        return None if self.authority is None else ssl.create_default_context(cadata=self.authority.certificate)

    @property
    def options(self) -> dict[str, str]:
        """For clients in JavaScript."""
        return {} if self.authority is None else {"ca": self.authority.certificate}

    async def reload(self) -> set[int]:
        """Read the configuration anew, as its service does; gives the workers from before, once they listen no more.

        Who connects from then on is with a new one.
        """
        before = self.workers
        self._running.send_signal(signal.SIGHUP if self.name == "nginx" else signal.SIGUSR2)
        await until(lambda: self.workers - before, _READY_S, f"{self.name} to have new workers")
        await until(
            lambda: not any(map(_is_listening, before)), _READY_S, f"{self.name}'s old workers to listen no more"
        )
        return before


def find(name: str) -> str:
    """The binary; skips the test where there is none, and fails it in CI."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not installed")
    return found


@asynccontextmanager
async def proxy_of(
    kind: Kind,
    folder: Path,
    urls: Sequence[str],
    *,
    first_port: int,
    authority: Authority | None = None,
    changes: Mapping[str, str] | None = None,
) -> AsyncIterator[Proxy]:
    """A proxy that sends each request, or connection, to the next of `urls`. `changes` are made in its file."""
    name = "nginx" if kind == "nginx" else "haproxy"
    binary = find(name)
    port = ports.free(1, _HOST, start=first_port)[0]
    configuration = _configured(kind, folder, urls, port, authority, changes or {})
    arguments = ("-g", "daemon off;", "-p", str(folder), "-c") if name == "nginx" else ("-W", "-db", "-f")
    command = (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), binary, *arguments, str(configuration))
    with (folder / "proxy.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220 - it returns at once
    try:
        await until(lambda: _listens(running, port, folder), _READY_S, f"{name} to listen", despite=(OSError,))
        yield Proxy(name, f"{'https' if authority else 'http'}://{_HOST}:{port}", authority, running)
    finally:
        # Asked, for killed it would leave workers behind.
        running.terminate()
        try:
            running.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def binary_preface(client: IPv4Address | IPv6Address | None, port: int, further: bytes = b"") -> bytes:
    """A header of the PROXY protocol's version 2, as HAProxy writes it; of nobody, it is the proxy's own."""
    if client is None:
        return b"\r\n\r\n\x00\r\nQUIT\n\x20\x00" + len(further).to_bytes(2) + further
    rest = client.packed * 2 + port.to_bytes(2) + (443).to_bytes(2) + further
    family = b"\x11" if client.version == 4 else b"\x21"
    return b"\r\n\r\n\x00\r\nQUIT\n\x21" + family + len(rest).to_bytes(2) + rest


def _configured(
    kind: Kind, folder: Path, urls: Sequence[str], port: int, authority: Authority | None, changes: Mapping[str, str]
) -> Path:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # nginx's workers are nobody's, if tests are root's
    place = dict(_OF_A_PLACE["nginx" if kind == "nginx" else "haproxy"])
    if kind == "nginx":
        place["listen 443 ssl;"] = f"listen {_HOST}:{port} ssl;" if authority else f"listen {_HOST}:{port};"
        certificate = "    ssl_certificate /etc/nginx/talowa.pem;\n        ssl_certificate_key /etc/nginx/talowa.key;\n"
        ours = (
            "" if authority is None else f"ssl_certificate {authority.chain}; ssl_certificate_key {authority.chain};\n"
        )
        place[certificate] = ours
    else:
        whole = ":443 ssl crt /etc/haproxy/talowa.pem alpn http/1.1"
        ours = "" if authority is None else f" ssl crt {authority.chain} alpn http/1.1"
        place[whole] = f"{_HOST}:{port}{ours}"
    file = DOCUMENTS / ("nginx.conf" if kind == "nginx" else f"{kind}.cfg")
    text = file.read_text(encoding="utf-8")
    for old, new in [*place.items(), *changes.items()]:
        assert text.count(old) == 1, f"{file.name} has no {old!r}, or several"
        text = text.replace(old, new.replace("{folder}", str(folder)))

    def servers(found: re.Match[str]) -> str:
        head, named, tail = found.groups()
        names = (f"g{number} " if named else "" for number in range(1, len(urls) + 1))
        return "".join(
            f"{head}{name}{url.removeprefix('http://')}{tail}\n" for name, url in zip(names, urls, strict=True)
        )

    text, count = _SERVER.subn(servers, text)
    assert count == 1, f"{file.name} has no gateways"
    configuration = folder / file.name
    configuration.write_text(text, encoding="utf-8")
    return configuration


def _is_listening(worker: int) -> bool:
    try:
        connections = psutil.Process(worker).net_connections("tcp")
    except psutil.NoSuchProcess:
        return False
    return any(connection.status == psutil.CONN_LISTEN for connection in connections)


async def _listens(running: subprocess.Popen[bytes], port: int, folder: Path) -> bool:
    assert running.poll() is None, (folder / "proxy.log").read_text()
    _, writer = await asyncio.open_connection(_HOST, port)
    writer.close()
    await writer.wait_closed()
    return True
