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

import msgspec
import redis

from services.local import broker, leash, ports
from services.local.process import missing
from tests.support.waiting import until

HOST: Final = "127.0.0.1"
SLOTS: Final = 16_384
_READY_S: Final = 10.0


class RunningBroker:
    """A server on a port of its own, and what a test may do to it."""

    def __init__(self, server: Path, folder: Path, *, is_node: bool = False) -> None:
        self.port, self.bus = ports.free(2, HOST, start=random.randrange(10_000, 30_000))
        self.url = broker.url(self.port)
        self._folder = folder
        self._process = broker.broker(server, folder, self.port, dict(os.environ))
        if is_node:
            more = ("--cluster-enabled", "yes", "--cluster-port", str(self.bus))
            self._process = msgspec.structs.replace(self._process, command=(*self._process.command, *more))
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

    def keep_at_once(self) -> None:
        """Answer a write once the disk has it, until it is started again.

        As it is run, a write waits in memory while the disk is busy, up to two seconds: who is killed then loses it.
        """
        with redis.Redis.from_url(self.url) as client:
            client.config_set("appendfsync", "always")

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


class RunningNodes(RunningBroker):
    """A cluster of three, which stands and falls together."""

    def __init__(self, server: Path, folder: Path) -> None:
        self._nodes = [RunningBroker(server, folder / f"node{number}", is_node=True) for number in range(3)]
        self.url = "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self._nodes)
        self._is_formed = False

    async def start(self) -> None:
        for node in self._nodes:
            await node.start()
        if not self._is_formed:
            self._form()
            self._is_formed = True
        await until(self._is_whole, _READY_S, "a cluster that is whole")

    def kill(self) -> None:
        for node in self._nodes:
            node.kill()

    def pause(self) -> None:
        for node in self._nodes:
            node.pause()

    def resume(self) -> None:
        for node in self._nodes:
            node.resume()

    def empty(self) -> None:
        for node in self._nodes:
            node.empty()

    def keep_at_once(self) -> None:
        for node in self._nodes:
            node.keep_at_once()

    def _form(self) -> None:
        share = -(-SLOTS // len(self._nodes))
        for number, node in enumerate(self._nodes):
            with redis.Redis.from_url(node.url) as client:
                last = min(SLOTS, share * (number + 1)) - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", share * number, last)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number:
                    first = self._nodes[0]
                    client.execute_command("CLUSTER", "MEET", HOST, first.port, first.bus)

    async def _is_whole(self) -> bool:
        for node in self._nodes:
            with redis.Redis.from_url(node.url) as client:
                said = client.execute_command("CLUSTER", "INFO")
            if b"cluster_state:ok" not in said or f"cluster_known_nodes:{len(self._nodes)}".encode() not in said:
                return False
        return True


def servers() -> dict[str, Path]:
    """The servers tests run on: the embedded one, and Redis where it is installed."""
    found = {"embedded": broker.find_server()}
    if on_path := shutil.which("redis-server"):
        found["redis"] = Path(on_path)
    return found


@asynccontextmanager
async def live_broker(
    folder: Path, server: Path | None = None, make: type[RunningBroker] = RunningBroker
) -> AsyncIterator[RunningBroker]:
    """A server that answers, its files in `folder`; the embedded one unless told otherwise."""
    running = make(server or broker.find_server(), folder)
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
