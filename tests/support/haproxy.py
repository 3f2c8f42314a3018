"""HAProxy before gateways, as plain as an ingress can be: round robin over those that are ready, no affinity."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from services.local import leash, ports
from tests.support.waiting import until

_HOST: Final = "127.0.0.1"
_READY_S: Final = 10.0
_CONFIGURATION: Final = """
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    retries 3
    option redispatch 1
    retry-on conn-failure
listen gateways
    bind {bind}
    balance roundrobin
    option httpchk GET /readyz
    default-server check inter 200ms fall 1 rise 1
{servers}
"""


def find_haproxy() -> str:
    """The binary; skips the test where there is none, and fails it in CI."""
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("haproxy is not installed")
    return found


@asynccontextmanager
async def round_robin(folder: Path, urls: Sequence[str], *, first_port: int) -> AsyncIterator[str]:
    """The address of a proxy that sends each request to the next of `urls`. Dies with the tests."""
    binary = find_haproxy()
    port = ports.free(1, _HOST, start=first_port)[0]
    servers = "\n".join(f"    server g{n} {url.removeprefix('http://')}" for n, url in enumerate(urls, start=1))
    configuration = folder / "haproxy.cfg"
    configuration.write_text(_CONFIGURATION.format(bind=f"{_HOST}:{port}", servers=servers))
    command = (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), binary, "-db", "-f", str(configuration))
    with (folder / "haproxy.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: ASYNC220 - it returns at once
    try:
        await until(lambda: _listens(running, port, folder), _READY_S, "haproxy to listen", despite=(OSError,))
        yield f"http://{_HOST}:{port}"
    finally:
        running.kill()
        running.wait()


async def _listens(running: subprocess.Popen[bytes], port: int, folder: Path) -> bool:
    assert running.poll() is None, (folder / "haproxy.log").read_text()
    _, writer = await asyncio.open_connection(_HOST, port)
    writer.close()
    await writer.wait_closed()
    return True
