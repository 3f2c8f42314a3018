"""The broker: connections to Redis or Valkey, scripts, and batches of commands.

One connection to each server serves all commands (`libs.pipe`, `libs.nodes`); reads that block have connections of
their own (`blocking_s`). redis-py's own retries are off: a retried XADD can write twice, so whoever writes owns its
retries. `AWAY` is what a command raises when the broker cannot take it now and may later; anything else is a mistake
of ours.

What `REDIS_URL` may be, `libs.servers` says.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any, Final, cast

import redis.asyncio as aioredis
import structlog
from redis import exceptions
from redis._parsers.base import AsyncBaseParser

from libs.lifecycle import Stopped, Unstartable
from libs.lives import Lives
from libs.nodes import Nodes
from libs.pipe import Pipe, type_of_command
from libs.servers import ClusterServers, Servers, servers
from libs.usage import Usage

__all__ = ["AWAY", "Broker", "Call", "Script", "connect", "type_of_command", "wait_until_usable"]

AWAY: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
    exceptions.ClusterError,
    exceptions.MasterDownError,
    exceptions.TryAgainError,
    OSError,
)

# Refusals of a server that lacks a replica, a disk or its rank as primary: redis-py has no classes for them.
_NOT_NOW: Final = ("NOREPLICAS ", "MISCONF ", "UNBLOCKED ", "BUSY ")

# A server, or a node of a cluster, that cannot be talked to.
_GONE: Final = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)

# Commands answer in under a millisecond; five seconds mean that the broker is gone.
_TIMEOUT_S: Final = 5.0
_WAIT_S: Final = 0.5
# Sentinels are asked so often whether the primary is another.
_FOLLOW_S: Final = 0.5

log = structlog.get_logger(__name__)


class Script:
    """A Lua script: its text, read from beside its only caller, and its digest."""

    def __init__(self, package: str, name: str) -> None:
        self.name = name
        self.text = files(package).joinpath("lua", name).read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], *args: str | bytes | float) -> "Call":
        """This script with its KEYS and ARGV, ready for `Broker.scripts`."""
        return Call(self, ("EVALSHA", self.sha, len(keys), *keys, *args))


class Call:
    """One run of a script."""

    __slots__ = ("command", "script")

    def __init__(self, script: Script, command: type_of_command) -> None:
        self.script = script
        self.command = command


class Broker:
    """Commands to the broker. Made by `connect`."""

    def __init__(self, servers: Servers | ClusterServers, timeout_s: float, *, is_blocking: bool = False) -> None:
        self._servers = servers
        self._timeout_s = timeout_s
        self._is_blocking = is_blocking
        self._lives = Lives()
        self.usage = Usage()
        self.is_cluster = isinstance(servers, ClusterServers)
        # What redis-py makes of a reply, by command; most are taken as they are.
        self._shapes: dict[Any, Any] = dict(aioredis.Redis(protocol=2).response_callbacks)
        errors = AsyncBaseParser.parse_error
        self._nodes = (
            Nodes(servers, errors, timeout_s, self._lives, is_blocking=is_blocking)
            if isinstance(servers, ClusterServers)
            else None
        )
        # Where reads block, each that runs has a pipe of its own; these are free.
        self._pipes: list[Pipe] = []
        self._busy: set[Pipe] = set()

    @property
    def successions(self) -> int:
        """How often another server, or another life of it, stood where one had been.

        What the one before had taken last may be lost, and nothing else may tell.
        """
        return self._lives.changes

    async def command(self, *command: str | bytes | float) -> Any:
        """One command, one round trip. Raises `AWAY`."""
        (reply,) = await self.attempt([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def each(self, *command: str | bytes | float) -> dict[str, Any]:
        """One command to the server, or to each primary of a cluster: the replies, errors among them, by address.

        Alone, or under Sentinel, the address is "". Raises `AWAY`.
        """
        if self._nodes is None:
            return dict(zip([""], await self.batch([command]), strict=True))
        replies = await self._nodes.each(command)
        shape = self._shapes.get(command[0])
        return {
            f"{host}:{port}": shape(reply) if shape is not None and not isinstance(reply, Exception) else reply
            for (host, port), reply in replies.items()
        }

    async def batch(self, commands: Sequence[type_of_command]) -> list[Any]:
        """Commands in order, one round trip. An error of a single command stands in its place. Raises `AWAY`.

        In a cluster, those for one node are in order, and what is on one key so too.
        """
        replies = await self.attempt(commands)
        for reply in replies:
            if isinstance(reply, _GONE):
                raise reply
        return replies

    async def attempt(self, commands: Sequence[type_of_command]) -> list[Any]:
        """As `batch`, but where one node of a cluster is away what it was to do has an error in its place."""
        if not commands:
            return []
        usage, began = self.usage, time.perf_counter()
        try:
            replies = await (self._nodes.call(commands) if self._nodes is not None else self._call(commands))
        except AWAY as error:
            usage.failed(error)
            raise
        if usage.took is not None and not self._is_blocking:
            usage.took(time.perf_counter() - began)
        counts = usage.commands
        for number, (command, reply) in enumerate(zip(commands, replies, strict=True)):
            counts[command[0]] += 1  # type: ignore[index] # the first word is a name
            if isinstance(reply, Exception):
                usage.failed(reply)
                replies[number] = _told(reply) if isinstance(reply, exceptions.ResponseError) else reply
            elif (shape := self._shapes.get(command[0])) is not None:
                replies[number] = shape(reply)
        return replies

    async def _call(self, commands: Sequence[type_of_command]) -> list[Any]:
        pipe = self._pipes.pop() if self._pipes else self._pipe()
        if not self._is_blocking:
            self._pipes.append(pipe)
            return await pipe.call(commands)
        self._busy.add(pipe)
        try:
            return await pipe.call(commands)
        finally:
            self._busy.discard(pipe)
            # Who was cancelled may have left a read that blocks still.
            if pipe.is_idle:
                self._pipes.append(pipe)
            else:
                await pipe.close()

    def _pipe(self) -> Pipe:
        # The primary of the moment has no address of its own.
        pool = cast(Servers, self._servers).pool
        return Pipe(pool, AsyncBaseParser.parse_error, self._timeout_s, partial(self._lives.meet, None))

    async def follow(self) -> None:
        """Leave a server that Sentinels call the primary no more, until cancelled.

        It takes itself for the primary until they make it a replica, ten seconds later: what is said to it is lost, and
        others talk to the new one meanwhile.
        """
        while isinstance(self._servers, Servers) and self._servers.is_watched:
            await asyncio.sleep(_FOLLOW_S)
            primary = await self._servers.primary()
            if primary is not None:
                for pipe in (*self._pipes, *self._busy):
                    pipe.part(primary)

    async def close(self) -> None:
        """End all connections."""
        if self._nodes is not None:
            await self._nodes.close()
        for pipe in self._pipes:
            await pipe.close()
        if isinstance(self._servers, Servers):
            await self._servers.close()

    async def scripts(self, calls: Sequence[Call], *, behind: Sequence[type_of_command] = ()) -> list[Any]:
        """Scripts in one round trip (two when the broker has not seen one yet). Raises what one raised.

        They may go behind other commands, whose replies come first, errors in their places.
        """
        first = len(behind)
        for call in calls:
            self.usage.scripts[call.script.name] += 1
        results = await self.batch([*behind, *(call.command for call in calls)])
        missing = [i for i, result in enumerate(results[first:]) if isinstance(result, exceptions.NoScriptError)]
        if missing:
            for script in {calls[i].script for i in missing}:
                await self._load(script)
            again = await self.batch([calls[i].command for i in missing])
            for i, result in zip(missing, again, strict=True):
                # Missing once more, it is asked of another server than the one that was told: a failover.
                is_missing = isinstance(result, exceptions.NoScriptError)
                results[first + i] = exceptions.TryAgainError(str(result)) if is_missing else result
        for result in results[first:]:
            if isinstance(result, Exception):
                raise result
        return results

    async def script(self, call: Call) -> Any:
        """One script."""
        return (await self.scripts([call]))[0]

    async def _load(self, script: Script) -> None:
        await self.command("SCRIPT", "LOAD", script.text)


def _told(error: exceptions.ResponseError) -> exceptions.ResponseError:
    """One of `AWAY`, for what the server cannot do now."""
    return exceptions.TryAgainError(str(error)) if str(error).startswith(_NOT_NOW) else error


@asynccontextmanager
async def connect(url: str, *, blocking_s: float = 0.0) -> AsyncIterator[Broker]:
    """A broker client; for a reader that blocks, `blocking_s` says for how long at most."""
    timeout_s = _TIMEOUT_S + blocking_s
    broker = Broker(servers(url), timeout_s, is_blocking=blocking_s > 0)
    try:
        yield broker
    finally:
        await broker.close()


async def wait_until_usable(broker: Broker, stop: asyncio.Event) -> None:
    """Wait for a broker that answers. Raises `Unstartable` on one too old, `Stopped` when told to stop."""
    while not stop.is_set():
        try:
            return await _check_version(broker)
        except AWAY as error:
            log.warning("waiting for the broker", error=type(error).__name__)
            await asyncio.sleep(_WAIT_S)
    raise Stopped


async def _check_version(broker: Broker) -> None:
    info = await broker.command("INFO", "server")
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    if int(version.partition(".")[0]) < 7:
        raise Unstartable(f"REDIS_URL: the server is version {version}; Redis 7.0 or Valkey 8 is the least.")
