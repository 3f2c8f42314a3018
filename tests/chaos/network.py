"""Every service behind a link of its own, which can be cut, slowed or made to lose packets.

As root on Linux each service lives in a network namespace, and iptables drops what is to be lost: TCP feels it as on
a real wire, without a word. Elsewhere a proxy stands in each service's way to the broker, and in phones' way to it.
Everything of the namespaces is gone with the process that entered them, however it ends (`enter`).
"""

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, Literal

import msgspec

from services.local.process import Process
from tests.chaos.plan import BROKER, GATEWAYS, PHONES, SERVICES

Harm = Literal["cut", "slow link", "lossy link"]
Address = tuple[str, int]

_LOSS: Final = 0.2
_SLOW_PACKETS_PER_S: Final = 30
_SLOW_BYTES_PER_S: Final = 8_000
_RETRANSMIT_S: Final = (0.2, 1.0)
_CHUNK_BYTES: Final = 4_096
_LOOK_S: Final = 0.05
_SUBNET: Final = "10.77.0"
_HERE: Final = f"{_SUBNET}.1"
_TOOLS: Final = ("unshare", "mount", "ip", "iptables")
_TRY: Final = ("/usr/bin/env", "unshare", "--net", "--mount", "iptables", "-L", "-n")


class Network:
    """Who is where, and what becomes of the links. This one leaves them alone: everybody is on loopback."""

    here = "127.0.0.1"
    """The address of brokers."""
    is_private = False
    """Whether what is mounted and routed here is gone with this process."""

    def host(self, service: str) -> str:  # noqa: ARG002
        """Where a service is reached by the operator."""
        return "127.0.0.1"

    def door(self, gateway: str) -> str:
        """Where phones reach a gateway."""
        return self.host(gateway)

    def broker(self, service: str, url: str, port: int) -> str:  # noqa: ARG002
        """The REDIS_URL of a service, if the broker's is `url`, and `port` one that is free everywhere."""
        return url

    def place(self, process: Process) -> Process:
        """The process, behind its link."""
        return process

    @asynccontextmanager
    async def open(
        self,
        processes: Sequence[Process],  # noqa: ARG002
        broker_ports: Sequence[int],  # noqa: ARG002
        primary: Callable[[], Address],  # noqa: ARG002
        port: int,  # noqa: ARG002
    ) -> AsyncIterator[None]:
        """Links that work. `primary` tells where the broker is now."""
        yield

    async def harm(self, near: str, far: str, how: Harm) -> None:
        """Do this to the link between a service and the broker, or a gateway and phones."""
        raise NotImplementedError(f"{how}: the links of {near} and {far} are nobody's")

    async def mend(self, near: str, far: str, how: Harm) -> None:
        """Undo it."""


def can_have_namespaces() -> bool:
    """Whether this machine lets us: root, on Linux, with the tools."""
    if sys.platform != "linux" or os.geteuid() != 0 or any(shutil.which(tool) is None for tool in _TOOLS):
        return False
    tried = subprocess.run(_TRY, capture_output=True, check=False)
    return tried.returncode == 0


def enter(arguments: Sequence[str]) -> None:
    """Become this program in namespaces of its own. Does not return."""
    command = ("unshare", "--net", "--mount", "--propagation", "private", sys.executable, "-m", *arguments)
    os.execvp(command[0], command)  # noqa: S606 - this program itself


class Namespaces(Network):
    """A network namespace a service, all on one bridge."""

    here = _HERE
    is_private = True

    def __init__(self) -> None:
        self._rules: dict[tuple[str, str, Harm], list[tuple[str, ...]]] = {}
        self._ports: dict[str, int] = {}
        self._broker_ports = ""

    def host(self, service: str) -> str:
        return f"{_SUBNET}.{SERVICES.index(service) + 2}"

    def place(self, process: Process) -> Process:
        ip = shutil.which("ip") or "ip"
        return msgspec.structs.replace(
            process,
            host=self.host(process.name),
            command=(ip, "netns", "exec", process.name, *process.command),
        )

    @asynccontextmanager
    async def open(
        self,
        processes: Sequence[Process],
        broker_ports: Sequence[int],
        primary: Callable[[], Address],  # noqa: ARG002 - Sentinel tells
        port: int,  # noqa: ARG002
    ) -> AsyncIterator[None]:
        self._ports = {process.name: process.ports["socket"] for process in processes if "socket" in process.ports}
        self._broker_ports = ",".join(map(str, broker_ports))
        names = "/run/netns"
        run("mkdir", "-p", names)
        run("mount", "-t", "tmpfs", "none", names)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "chaos", "type", "bridge")
        run("ip", "addr", "add", f"{_HERE}/24", "dev", "chaos")
        run("ip", "link", "set", "chaos", "up")
        for number, service in enumerate(SERVICES):
            run("ip", "netns", "add", service)
            run("ip", "link", "add", f"c{number}", "type", "veth", "peer", "name", "eth0", "netns", service)
            run("ip", "link", "set", f"c{number}", "master", "chaos", "up")
            run("ip", "-n", service, "addr", "add", f"{self.host(service)}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                run("ip", "-n", service, "link", "set", device, "up")
            run("ip", "-n", service, "route", "add", "default", "via", _HERE)
        yield

    async def harm(self, near: str, far: str, how: Harm) -> None:
        rules = self._rules_of(near, far, how)
        self._rules[near, far, how] = rules
        for rule in rules:
            await asyncio.to_thread(run, "ip", "netns", "exec", near, "iptables", "-A", *rule)

    async def mend(self, near: str, far: str, how: Harm) -> None:
        for rule in self._rules.pop((near, far, how), ()):
            await asyncio.to_thread(run, "ip", "netns", "exec", near, "iptables", "-D", *rule)

    def _rules_of(self, near: str, far: str, how: Harm) -> list[tuple[str, ...]]:
        if far == BROKER:
            lanes: list[tuple[str, ...]] = [
                ("INPUT", "-s", _HERE, "-p", "tcp", "-m", "multiport", "--sports", self._broker_ports),
                ("OUTPUT", "-d", _HERE, "-p", "tcp", "-m", "multiport", "--dports", self._broker_ports),
            ]
        else:
            port = str(self._ports[near])
            lanes = [("INPUT", "-p", "tcp", "--dport", port), ("OUTPUT", "-p", "tcp", "--sport", port)]
        match how:
            case "cut":
                return [(*lane, "-j", "DROP") for lane in lanes]
            case "lossy link":
                luck = ("-m", "statistic", "--mode", "random", "--probability", str(_LOSS))
                return [(*lane, *luck, "-j", "DROP") for lane in lanes]
            case "slow link":
                pace = ("-m", "limit", "--limit", f"{_SLOW_PACKETS_PER_S}/s", "--limit-burst", "5")
                return [rule for lane in lanes for rule in ((*lane, *pace, "-j", "ACCEPT"), (*lane, "-j", "DROP"))]


class Proxies(Network):
    """A proxy on an address of its own before every service's broker, and before every gateway.

    Its harm is gentler than a wire's: TCP loses no bytes, so what is lost or cut only comes late.
    """

    def __init__(self) -> None:
        self._links: dict[tuple[str, str], _Link] = {}

    def door(self, gateway: str) -> str:
        return f"127.2.0.{SERVICES.index(gateway) + 2}"

    def broker(self, service: str, url: str, port: int) -> str:  # noqa: ARG002 - by way of the proxy
        return f"redis://{self._way(service)}:{port}"

    @asynccontextmanager
    async def open(
        self,
        processes: Sequence[Process],
        broker_ports: Sequence[int],  # noqa: ARG002 - the primary's is enough
        primary: Callable[[], Address],
        port: int,
    ) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            servers = []
            for process in processes:
                link = self._links[process.name, BROKER] = _Link(tasks, primary)
                servers.append(await asyncio.start_server(link.answer, self._way(process.name), port))
                if process.name in GATEWAYS:
                    socket = process.ports["socket"]
                    link = self._links[process.name, PHONES] = _Link(tasks, partial(_address, process.host, socket))
                    servers.append(await asyncio.start_server(link.answer, self.door(process.name), socket))
            yield
            for server in servers:
                server.close()
            for link in self._links.values():
                link.hang_up()

    async def harm(self, near: str, far: str, how: Harm) -> None:
        self._links[near, far].harms.append(how)

    async def mend(self, near: str, far: str, how: Harm) -> None:
        self._links[near, far].harms.remove(how)

    def _way(self, service: str) -> str:
        return f"127.1.0.{SERVICES.index(service) + 2}"


class _Link:
    """Connections through one proxy."""

    def __init__(self, tasks: asyncio.TaskGroup, target: Callable[[], Address]) -> None:
        self.harms: list[Harm] = []
        self._tasks = tasks
        self._target = target
        self._open: dict[asyncio.StreamWriter, Address] = {}
        self._luck = random.Random()

    def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.create_task(self._connect(reader, writer))

    def hang_up(self, unless: Address | None = None) -> None:
        for writer, target in list(self._open.items()):
            if target != unless:
                writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = self._target()
        self.hang_up(unless=target)  # it has moved
        try:
            far_reader, far_writer = await asyncio.open_connection(*target)
        except OSError:
            writer.close()
            return
        self._open[writer] = self._open[far_writer] = target
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pump(reader, far_writer))
            both.create_task(self._pump(far_reader, writer))
        for end in (writer, far_writer):
            self._open.pop(end, None)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                while "cut" in self.harms and not writer.is_closing():  # noqa: ASYNC110 - several harms, one list
                    await asyncio.sleep(_LOOK_S)
                if "slow link" in self.harms:
                    await asyncio.sleep(len(chunk) / _SLOW_BYTES_PER_S)
                if "lossy link" in self.harms and self._luck.random() < _LOSS:
                    await asyncio.sleep(self._luck.uniform(*_RETRANSMIT_S))
                writer.write(chunk)
                await writer.drain()
        writer.close()


def _address(host: str, port: int) -> Address:
    return host, port


def run(*command: str) -> None:
    """A command that must succeed."""
    subprocess.run(command, check=True, capture_output=True)
