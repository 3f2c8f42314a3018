"""The broker: connections to Redis or Valkey, scripts, and batches of commands.

One connection serves all commands (`libs.pipe`); reads that block have connections of their own (`blocking_s`).
redis-py's own retries are off: a retried XADD can write twice, so whoever writes owns its retries. `AWAY` is what a
command raises when the broker cannot take it now and may later; anything else is a mistake of ours.

`REDIS_URL` may be `redis://`, `rediss://` (alone), `redis+sentinel://host:port,…/name` or
`redis+cluster://host:port`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

import redis.asyncio as aioredis
import structlog
from redis import exceptions
from redis._parsers.base import AsyncBaseParser
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from libs.lifecycle import Stopped, Unstartable
from libs.pipe import Pipe, heeding_cancellation, type_of_command

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

# Commands answer in under a millisecond; five seconds mean that the broker is gone.
_TIMEOUT_S: Final = 5.0
_CONNECT_TIMEOUT_S: Final = 2.0
_WAIT_S: Final = 0.5

log = structlog.get_logger(__name__)


class Script:
    """A Lua script: its text, read from beside its only caller, and its digest."""

    def __init__(self, package: str, name: str) -> None:
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

    def __init__(
        self, client: "aioredis.Redis | RedisCluster", timeout_s: float = _TIMEOUT_S, *, is_blocking: bool = False
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._is_blocking = is_blocking
        self.is_cluster = isinstance(client, RedisCluster)
        # What redis-py makes of a reply, by command; most are taken as they are.
        self._shapes: dict[Any, Any] = {} if isinstance(client, RedisCluster) else dict(client.response_callbacks)
        # Where reads block, each that runs has a pipe of its own; these are free.
        self._pipes = [] if isinstance(client, RedisCluster) else [self._pipe(client)]

    async def command(self, *command: str | bytes | float) -> Any:
        """One command, one round trip. Raises `AWAY`."""
        if isinstance(self._client, RedisCluster):
            try:
                with heeding_cancellation():
                    return await self._client.execute_command(*command)
            except exceptions.ResponseError as error:
                raise _told(error) from None
        (reply,) = await self._call(self._client, [command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def batch(self, commands: Sequence[type_of_command]) -> list[Any]:
        """Commands in order, one round trip. An error of a single command stands in its place.

        A cluster takes no pipeline over several slots that keeps order; there, it is a round trip each.
        """
        if not commands:
            return []
        if isinstance(self._client, RedisCluster):
            return [await self._settled(command) for command in commands]
        return await self._call(self._client, commands)

    async def _call(self, client: aioredis.Redis, commands: Sequence[type_of_command]) -> list[Any]:
        if not self._is_blocking:
            replies = await self._pipes[0].call(commands)
        else:
            pipe = self._pipes.pop() if self._pipes else self._pipe(client)
            try:
                replies = await pipe.call(commands)
            finally:
                # Who was cancelled may have left a read that blocks still.
                if pipe.is_idle:
                    self._pipes.append(pipe)
                else:
                    await pipe.close()
        for number, (command, reply) in enumerate(zip(commands, replies, strict=True)):
            if isinstance(reply, Exception):
                if isinstance(reply, exceptions.ConnectionError):
                    raise reply
                replies[number] = _told(reply) if isinstance(reply, exceptions.ResponseError) else reply
            elif (shape := self._shapes.get(command[0])) is not None:
                replies[number] = shape(reply)
        return replies

    def _pipe(self, client: aioredis.Redis) -> Pipe:
        return Pipe(client.connection_pool, AsyncBaseParser.parse_error, self._timeout_s)

    async def close(self) -> None:
        """End all connections."""
        for pipe in self._pipes:
            await pipe.close()
        await self._client.aclose()

    async def _settled(self, command: type_of_command) -> Any:
        try:
            return await self.command(*command)
        except exceptions.ResponseError as error:
            return error

    async def scripts(self, calls: Sequence[Call], *, behind: Sequence[type_of_command] = ()) -> list[Any]:
        """Scripts in one round trip (two when the broker has not seen one yet). Raises what one raised.

        They may go behind other commands, whose replies come first, errors in their places.
        """
        first = len(behind)
        results = await self.batch([*behind, *(call.command for call in calls)])
        missing = [i for i, result in enumerate(results[first:]) if isinstance(result, exceptions.NoScriptError)]
        if missing:
            for script in {calls[i].script for i in missing}:
                await self._load(script)
            again = await self.batch([calls[i].command for i in missing])
            for i, result in zip(missing, again, strict=True):
                results[first + i] = result
        for result in results[first:]:
            if isinstance(result, Exception):
                raise result
        return results

    async def script(self, call: Call) -> Any:
        """One script."""
        return (await self.scripts([call]))[0]

    async def _load(self, script: Script) -> None:
        if isinstance(self._client, RedisCluster):
            await self._client.execute_command("SCRIPT LOAD", script.text, target_nodes=RedisCluster.PRIMARIES)
        else:
            await self.command("SCRIPT", "LOAD", script.text)


def _told(error: exceptions.ResponseError) -> exceptions.ResponseError:
    """One of `AWAY`, for what the server cannot do now."""
    return exceptions.TryAgainError(str(error)) if str(error).startswith(_NOT_NOW) else error


@asynccontextmanager
async def connect(url: str, *, blocking_s: float = 0.0) -> AsyncIterator[Broker]:
    """A broker client; for a reader that blocks, `blocking_s` says for how long at most."""
    timeout_s = _TIMEOUT_S + blocking_s
    broker = Broker(_client(url, timeout_s), timeout_s, is_blocking=blocking_s > 0)
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
    raw = await broker.command("INFO", "server")
    info = next(iter(raw.values())) if broker.is_cluster and isinstance(raw, dict) else raw
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    if int(version.partition(".")[0]) < 7:
        raise Unstartable(f"REDIS_URL: the server is version {version}; Redis 7.0 or Valkey 8 is the least.")


def _client(url: str, timeout_s: float) -> "aioredis.Redis | RedisCluster":
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        # In the third version a server may say what nobody asked for.
        "protocol": 2,
    }
    parts = urlsplit(url)
    match parts.scheme:
        case "redis" | "rediss" | "unix":
            return aioredis.Redis.from_url(url, **options)
        case "redis+cluster":
            options.pop("retry")
            return RedisCluster.from_url("redis" + url.removeprefix("redis+cluster"), **options)
        case "redis+sentinel":
            hosts = [host.rpartition(":") for host in parts.netloc.rpartition("@")[2].split(",")]
            sentinel = aioredis.Sentinel(  # type: ignore[no-untyped-call]
                [(name or port, int(port) if name else 26379) for name, _, port in hosts],
                sentinel_kwargs={"socket_timeout": _CONNECT_TIMEOUT_S},
                password=parts.password,
                **options,
            )
            master: aioredis.Redis = sentinel.master_for(parts.path.strip("/") or "mymaster")
            return master
        case scheme:
            raise Unstartable(
                f"REDIS_URL: {scheme or 'no'}:// is not known. "
                "Use redis://, rediss://, redis+sentinel:// or redis+cluster://."
            )
