"""Google's own Firestore emulator, as Debian and gcloud bring it, and a line to it that can be cut.

It forgets everything when it ends, so a test that takes it away cuts the line instead, or stops it with a signal. One
that kills it cuts the line first, and has it write down what it has: that stands for the disk which Firestore has.
"""

import atexit
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pytest

from libs.lifecycle import Unstartable
from libs.storage.firestore.query import Query
from libs.storage.firestore.settings import Limits, Place
from libs.wire import names
from services.local import firestore, leash, ports

HOST: Final = "127.0.0.1"
RULES: Final = Path(__file__).parents[2] / "firestore.rules"
_READY_S: Final = 60.0
_PAUSE_S: Final = 0.1
_HEADERS: Final = {"Authorization": "Bearer owner", "Content-Type": "application/json"}
_BYTES: Final = 1 << 16


class Emulator:
    """A running emulator. Each test takes a project of its own, and finds it empty."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._folder = folder
        self.address = f"{HOST}:{port}"
        self._running: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Until it answers. It dies with the tests, however they end."""
        leashed = (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *_command(self._port, *options))
        with (self._folder / "firestore.log").open("ab") as log:
            self._running = subprocess.Popen(leashed, stdout=log, stderr=log)
        _wait_ready(self._port, self._running)

    def export(self, project: str) -> str:
        """Have it write down what a project has; the option of `start` that brings it back."""
        name = secrets.token_hex(6)
        asked = {
            "database": f"projects/{project}/databases/(default)",
            "export_directory": str(self._folder),
            "export_name": name,
        }
        _post(f"http://{self.address}/emulator/v1/projects/{project}:export", asked)
        return f"--import-data={self._folder / name / name}.overall_export_metadata"

    def pause(self) -> None:
        """It holds its connections and does not answer."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on where it stopped."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone from one moment to the next, with all that it kept."""
        if self._running is not None:
            self._signal(signal.SIGCONT)
            self._running.kill()
            self._running.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._running is not None, "the emulator does not run"
        self._running.send_signal(number)


@contextmanager
def running_emulator(folder: Path) -> Iterator[Emulator]:
    """An emulator that answers; skips where there is none, and fails in CI."""
    port = ports.free(1, HOST, start=random.randrange(10_000, 30_000))[0]
    emulator = Emulator(port, folder)
    try:
        emulator.start()
        yield emulator
    finally:
        emulator.kill()


class Kept(NamedTuple):
    """Where a cluster keeps its record: a project of its own, and the line that services reach it by."""

    place: Place
    line: "Line"

    @property
    def told(self) -> dict[str, str]:
        """What services are told of it."""
        return told_of(Place(self.place.project_id, emulator=self.line.address))


async def stored_in(place: Place) -> dict[tuple[str, int], str]:
    """Which message is at each place of each conversation."""
    # Here, for Google's libraries take a second, which tests of other stores should not wait for.
    from libs.storage.firestore.client import open_client  # noqa: PLC0415

    query = Query(collection="messages", only=("conversationId", "seq", "isVoid"))
    async with open_client(place, Limits(patience_s=30.0, writes_per_s=0)) as client:
        found = [one for one in await client.query(query) if not one.fields.get("isVoid")]
    return {
        (where := one.fields["conversationId"], one.fields["seq"]): names.message_id_of(one.id, where) for one in found
    }


@contextmanager
def kept_in(environment: Mapping[str, str]) -> Iterator[Kept | None]:
    """A record for a cluster, if STORE asks for Firestore; not for one that is told of a store."""
    if os.environ.get("STORE") != "firestore" or "STORE" in environment:
        yield None
        return
    emulator = _shared()
    with cuttable(emulator.address) as line:
        yield Kept(Place(f"demo-{secrets.token_hex(6)}", emulator=emulator.address), line)


def told_of(place: Place) -> dict[str, str]:
    """What services are told of it. It is one of Java's, beside all that a test starts: it may take its time."""
    return {
        "STORE": "firestore-emulator",
        "FIRESTORE_EMULATOR_HOST": place.emulator or "",
        "FIRESTORE_PROJECT_ID": place.project_id,
        "FIRESTORE_WRITES_PER_S": "0",
        "STORE_PATIENCE_S": "4",
    }


@cache
def _shared() -> Emulator:
    """One for all clusters, until this process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return stack.enter_context(running_emulator(Path(folder)))


def _wait_ready(port: int, running: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _READY_S
    while time.monotonic() < until:
        assert running.poll() is None, "the Firestore emulator ended"
        with suppress(OSError):
            socket.create_connection((HOST, port), timeout=1).close()
            break
        time.sleep(_PAUSE_S)
    _warm_up(port)


def _warm_up(port: int) -> None:
    """Its first commit and query take seconds: no test should wait for that."""
    documents = f"http://{HOST}:{port}/v1/projects/warm/databases/(default)/documents"
    query = {"structuredQuery": {"from": [{"collectionId": "up"}]}}
    for path, body in (("/up", {"fields": {}}), (":runQuery", query)):
        _post(documents + path, body)


def _post(url: str, body: object) -> None:
    request = urllib.request.Request(url, msgspec.json.encode(body), _HEADERS)  # noqa: S310 - http
    with urllib.request.urlopen(request, timeout=_READY_S) as answer:  # noqa: S310 - http
        answer.read()


def _command(port: int, *options: str) -> tuple[str, ...]:
    try:
        return firestore.command(port, f"--rules={RULES}", *options)
    except Unstartable as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
        raise


class Line:
    """A way to a server that can be cut: then what is connected is closed and what comes is refused."""

    def __init__(self, to: str) -> None:
        host, _, port = to.rpartition(":")
        self._to = host, int(port)
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    @property
    def address(self) -> str:
        """Where it begins."""
        return f"{HOST}:{self.port}"

    def cut(self) -> None:
        """Nobody gets through."""
        with self._lock:
            self._listener.shutdown(socket.SHUT_RDWR)  # which wakes who accepts; closing alone does not
            self._listener.close()
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def mend(self) -> None:
        """Whoever comes from now on gets through."""
        self._listen(self.port)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Nobody gets through meanwhile."""
        self.cut()
        try:
            yield
        finally:
            self.mend()

    def _listen(self, port: int) -> None:
        self._listener = socket.create_server((HOST, port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(self._to)
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    if listener.fileno() < 0:  # cut meanwhile
                        near.close()
                        far.close()
                        return
                    self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()


@contextmanager
def cuttable(to: str) -> Iterator[Line]:
    """A line to a server, for one test."""
    line = Line(to)
    yield line
    line.cut()


def _pump(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(_BYTES):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
