"""A primary, its replica, and three who watch over them (Sentinel): what production runs, each process ours to harm."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from redis import asyncio as aioredis
from redis import exceptions

from services.local import broker
from services.local.process import Process

_SET: Final = "talowa"
DATA: Final = ("broker", "broker2")
_SENTINELS: Final = ("sentinel1", "sentinel2", "sentinel3")
_DOWN_AFTER_MS: Final = 2000
_FAILOVER_MS: Final = 6000
_LOOK_S: Final = 0.25
_PATIENCE_S: Final = 1.0


class Brokers:
    """The broker's processes, and who of them is the primary."""

    def __init__(self, home: Path, host: str, ports: list[int], environment: Mapping[str, Mapping[str, str]]) -> None:
        self._home = home
        self._host = host
        self.ports = ports[: len(DATA) + len(_SENTINELS)]
        self._environment = environment
        self._primary = self.ports[0]
        self.losses_ms: list[int] = []
        """When a server that may hold less was in charge, or there was nothing any more."""
        self._sentinels = self.ports[len(DATA) :]

    @property
    def url(self) -> str:
        """REDIS_URL for who can ask Sentinel."""
        return f"redis+sentinel://{','.join(f'{self._host}:{port}' for port in self._sentinels)}/{_SET}"

    @property
    def data(self) -> tuple[str, ...]:
        """The servers that hold data."""
        return DATA

    @property
    def primary(self) -> str:
        """The name of the server that is the primary, as far as was seen."""
        return DATA[self.ports.index(self._primary)]

    @property
    def replica(self) -> str:
        """The other one."""
        return DATA[1 - self.ports.index(self._primary)]

    def address(self) -> tuple[str, int]:
        """Where the primary is."""
        return self._host, self._primary

    def processes(self) -> list[Process]:
        """All of them, with configurations of their own, which Sentinel rewrites."""
        server = broker.find_server()
        made = []
        for name, port in zip(DATA, self.ports, strict=False):
            process = broker.broker(server, self.folder(name).parent, port, dict(self._environment[name]))
            words = process.command[1:]
            lines = [f"{key[2:]} {value or chr(34) * 2}" for key, value in zip(words[::2], words[1::2], strict=True)]
            lines = [line for line in lines if not line.startswith("bind ")]
            lines += [f"bind {self._host}", "protected-mode no", "repl-diskless-sync-delay 0", "repl-timeout 5"]
            if port != self._primary:
                lines.append(f"replicaof {self._host} {self._primary}")
            made.append(self._process(process, name, lines, ()))
        for name, port in zip(_SENTINELS, self._sentinels, strict=True):
            process = broker.broker(server, self.folder(name).parent, port, dict(self._environment[name]))
            lines = [
                f"port {port}",
                f"bind {self._host}",
                "protected-mode no",
                f"dir {self.folder(name)}",
                f"sentinel monitor {_SET} {self._host} {self._primary} 2",
                f"sentinel down-after-milliseconds {_SET} {_DOWN_AFTER_MS}",
                f"sentinel failover-timeout {_SET} {_FAILOVER_MS}",
            ]
            made.append(self._process(process, name, lines, ("--sentinel",)))
        return made

    def folder(self, name: str) -> Path:
        """Where a server keeps its files."""
        return self._home / name / broker.NAME

    async def watch(self) -> None:
        """Know who is the primary, until cancelled."""
        while True:
            for port in self._sentinels:
                try:
                    told = await self.ask(port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", _SET)
                except (exceptions.RedisError, OSError, TimeoutError):
                    continue
                if told:
                    if int(told[1]) != self._primary:
                        self.note_loss()
                    self._primary = int(told[1])
                    break
            await asyncio.sleep(_LOOK_S)

    def note_loss(self) -> None:
        """What was queued before now may be gone."""
        self.losses_ms.append(int(time.time() * 1000))

    async def wipe(self) -> None:
        """Forget everything, scripts too. Raises redis-py's errors, `OSError`, `TimeoutError`."""
        self.note_loss()
        await self.ask(self._primary, "FLUSHALL")
        self.note_loss()
        await self.ask(self._primary, "SCRIPT", "FLUSH")

    async def ask(self, port: int, *command: str) -> Any:
        """One command to one of them."""
        async with asyncio.timeout(_PATIENCE_S), aioredis.Redis(host=self._host, port=port, protocol=2) as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    def _process(self, process: Process, name: str, lines: list[str], more: tuple[str, ...]) -> Process:
        configuration = self._home / name / "server.conf"
        configuration.write_text("\n".join(lines) + "\n")
        command = (process.command[0], str(configuration), *more)
        return msgspec.structs.replace(process, name=name, command=command, host=self._host)
