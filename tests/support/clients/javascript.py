"""JsClients: unmodified socket.io-client sockets, in one Node process per test.

The process is `tests/cluster/clients/driver.mjs`, whose head documents the lines it reads and writes.
"""

import asyncio
import json
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.clients.client import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, Client, NoAnswer
from tests.support.history import History, Sent

CLIENTS_DIR: Final = Path(__file__).parents[2] / "cluster" / "clients"
_INSTALLED: Final = CLIENTS_DIR / "node_modules" / ".package-lock.json"
_INSTALL_TIMEOUT_S: Final = 120.0
# The driver gives its sockets a second to leave.
_LEAVE_TIMEOUT_S: Final = 5.0
# The driver's own timer ends an emit; this much later it must have said so.
_ANSWER_GRACE_S: Final = 5.0


class DriverDied(Exception):
    """The Node process ended while a test was using it. The text is what it said last."""


class JsClient(Client):
    """One socket.io-client socket in the driver. Made by `JsClients.open`."""

    def __init__(self, driver: "JsClients", name: str, history: History, device: str | None, user: str | None) -> None:
        super().__init__(name, history, device, user)
        self._driver = driver

    async def emit(self, event: str, payload: Any = None, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        sent = self._record_send(event, payload)
        return await self._driver.ask(self, event, payload, timeout_s, sent)

    async def emit_nowait(self, event: str, payload: Any = None) -> None:
        self._record_send(event, payload)
        self._driver.tell("emit", self.name, event=event, args=_args(payload))

    async def acknowledge(self, on: bool) -> None:
        self._driver.tell("autoAck", self.name, on=on)

    async def set_auth(self, auth: dict[str, Any] | None) -> None:
        self._driver.tell("auth", self.name, auth=auth)

    async def connect_again(self) -> None:
        self._driver.tell("connect", self.name)

    async def drop(self) -> None:
        self._driver.tell("drop", self.name)

    async def close(self) -> None:
        self._driver.tell("close", self.name)
        await self.wait_for("closed", timeout_s=_LEAVE_TIMEOUT_S)


class JsClients(asyncio.SubprocessProtocol):
    """The Node process, and the clients in it. `async with JsClients(history) as js: …`

    It reads in callbacks, not in a task of its own, so a fixture may hold it open: setup and teardown
    of a fixture are different tasks.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._clients: dict[str, JsClient] = {}
        self._pending: dict[int, tuple[asyncio.Future[Any], JsClient, Sent | None]] = {}
        self._ids = count()
        self._partial_line = b""
        self._errors = b""
        self._process: asyncio.SubprocessTransport | None = None
        self._exited = asyncio.Event()
        self._leaving = False

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.leave()
        except DriverDied:
            if error is None:
                raise  # otherwise the test has failed of it, or of something that came before

    async def start(self) -> Self:
        """Start the process. Raises AssertionError where Node or the library is missing."""
        node = shutil.which("node")
        assert node is not None, "the cluster tests need Node 20 or newer on the path"
        await install()
        driver = str(CLIENTS_DIR / "driver.mjs")
        self._process, _ = await asyncio.get_running_loop().subprocess_exec(lambda: self, node, driver)
        return self

    async def leave(self) -> None:
        """Close every client and end the process. Raises DriverDied if it had ended or complained before."""
        assert self._process is not None, "it was not started"
        died = self._exited.is_set()
        self._leaving = True
        try:
            if not died:
                self._stdin().close()
                async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                    await self._exited.wait()
        finally:
            self._process.close()
        if died or self._errors:
            raise self._death()

    async def open(
        self,
        name: str,
        urls: str | Sequence[str],
        auth: dict[str, Any] | None = None,
        *,
        transports: Sequence[str] | None = None,
        options: dict[str, Any] | None = None,
        auto_ack: bool = True,
        heeds: bool = False,
        device: str | None = None,
        user: str | None = None,
        wait: bool = True,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> JsClient:
        """A client named `name`, connected (unless `wait` is False: then it is connecting).

        With several `urls` it goes to the next one whenever it is refused or loses its connection.
        `options` are socket.io-client's own; with `heeds` it does as `reconnect` says. Signing in may still be
        under way: wait for `auth_success`.
        """
        assert name not in self._clients, f"{name} is open; a second connection of one device has a name of its own"
        client = JsClient(self, name, self._history, device, user)
        self._clients[name] = client
        self.tell(
            "open",
            name,
            urls=[urls] if isinstance(urls, str) else list(urls),
            auth=auth,
            transports=list(transports) if transports else None,
            options=options or {},
            autoAck=auto_ack,
            heeds=heeds,
        )
        if wait:
            await client.wait_connected(timeout_s)
        return client

    def tell(self, command: str, name: str, **fields: Any) -> None:
        """Send a command to the driver."""
        if self._exited.is_set():
            raise self._death()
        line = json.dumps({"cmd": command, "client": name, **fields}, ensure_ascii=False)
        self._stdin().write(f"{line}\n".encode())

    async def ask(self, client: JsClient, event: str, payload: Any, timeout_s: float, sent: Sent | None) -> Any:
        """Emit with an acknowledgement and return it. Raises `NoAnswer`."""
        number = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[number] = (future, client, sent)
        timeout_ms = int(timeout_s * 1000)
        self.tell("emit", client.name, event=event, args=_args(payload), id=number, timeoutMs=timeout_ms)
        async with asyncio.timeout(timeout_s + _ANSWER_GRACE_S):
            return await future

    # --- what the process says --------------------------------------------------------------------

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd != 1:
            self._errors += data
            return
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def process_exited(self) -> None:
        self._exited.set()
        if not self._leaving:
            for client in self._clients.values():
                client._inbox.fail(self._death())
            for future, _, _ in self._pending.values():
                if not future.done():
                    future.set_exception(self._death())

    def _take(self, report: dict[str, Any]) -> None:
        kind = report["report"]
        if kind in ("answer", "no_answer"):
            self._take_answer(report)
            return
        client = self._clients[report["client"]]
        if kind == "closed":
            del self._clients[client.name]
        if kind == "event":
            client._receive(report["event"], report["args"], report["index"], report["atMs"])
        else:
            client._turn(kind, report.get("data"), report["index"], report["atMs"])

    def _take_answer(self, report: dict[str, Any]) -> None:
        future, client, sent = self._pending.pop(report["id"])
        if report["report"] == "answer":
            answer = report["args"][0] if report["args"] else None
            client._record_answer(sent, answer)
            if not future.done():
                future.set_result(answer)
        elif not future.done():
            future.set_exception(NoAnswer(f"{client.name}: {report['reason']}"))

    def _stdin(self) -> asyncio.WriteTransport:
        assert self._process is not None, "use `async with JsClients(…)`"
        stdin = self._process.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        return stdin

    def _death(self) -> DriverDied:
        return DriverDied(self._errors.decode(errors="replace") or "it said nothing")


def _args(payload: Any) -> list[Any]:
    return [] if payload is None else [payload]


async def install() -> None:
    """`npm ci`, unless what is installed is as new as the lock file."""
    lock = CLIENTS_DIR / "package-lock.json"
    if _INSTALLED.exists() and _INSTALLED.stat().st_mtime >= lock.stat().st_mtime:
        return
    npm = shutil.which("npm")
    assert npm is not None, f"run `npm ci` in {CLIENTS_DIR}: there is no npm on the path to do it"
    npm_ci = await asyncio.create_subprocess_exec(
        npm, "ci", cwd=CLIENTS_DIR, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(_INSTALL_TIMEOUT_S):
        said, _ = await npm_ci.communicate()
    assert npm_ci.returncode == 0, f"npm ci in {CLIENTS_DIR} failed:\n{said.decode(errors='replace')}"
