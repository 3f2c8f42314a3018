"""A real broker for tests: it can be paused, killed and started again.

One server serves many tests, each on an empty one (`emptied`): starting takes longer than most tests do.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import redis

from services.local import broker, leash, ports
from services.local.process import missing
from tests.support.waiting import until

HOST: Final = "127.0.0.1"
_READY_S: Final = 10.0


class RunningBroker:
    """A server on a port of its own, and what a test may do to it."""

    def __init__(self, server: Path, folder: Path) -> None:
        port = ports.free(1, HOST, start=random.randrange(10_000, 30_000))[0]
        self.url = broker.url(port)
        self._folder = folder
        self._process = broker.broker(server, folder, port, dict(os.environ))
        self._running: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Have it running (again); what it had written is there."""
        if self._running is not None:
            self.resume()
            return
        self._running = self._launch()
        await until(self._is_ready, _READY_S, f"an answer of {self._process.command[0]}")

    def kill(self) -> None:
        """It is gone at once, with -9."""
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None

    def pause(self) -> None:
        """It holds its connections and does not answer."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where it stopped."""
        self._signal(signal.SIGCONT)

    def empty(self) -> None:
        """Forget everything, as one whose disk was lost; scripts too."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
            client.script_flush()

    def _launch(self) -> subprocess.Popen[bytes]:
        # It dies with the tests, however they end.
        command = (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *self._process.command)
        with (self._folder / "broker.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def _signal(self, number: signal.Signals) -> None:
        assert self._running is not None, "the broker was killed"
        self._running.send_signal(number)

    async def _is_ready(self) -> bool:
        assert self._running is not None
        assert self._running.poll() is None, f"the broker ended: {(self._folder / 'broker.log').read_text()}"
        return await missing(self._process) is None


def servers() -> dict[str, Path]:
    """The servers tests run on: the embedded one, and Redis where it is installed."""
    found = {"embedded": broker.find_server()}
    if on_path := shutil.which("redis-server"):
        found["redis"] = Path(on_path)
    return found


@asynccontextmanager
async def live_broker(folder: Path, server: Path | None = None) -> AsyncIterator[RunningBroker]:
    """A server that answers, its files in `folder`; the embedded one unless told otherwise."""
    running = RunningBroker(server or broker.find_server(), folder)
    try:
        await running.start()
        yield running
    finally:
        running.kill()


@asynccontextmanager
async def running_broker(folder: Path, server: Path | None = None) -> AsyncIterator[str]:
    """The address (`REDIS_URL`) of a server that runs as long as the block does."""
    async with live_broker(folder, server) as running:
        yield running.url
