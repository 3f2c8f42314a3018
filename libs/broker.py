"""The broker: connections to Redis or Valkey, scripts, and batches of commands.

One client serves commands; blocking readers have connections of their own (`reader`). redis-py's own
retries are off: a retried XADD can write twice, so whoever writes owns its retries. `AWAY` is what a
command raises when the broker cannot take it now and may later; anything else is a mistake of ours.

`REDIS_URL` may be `redis://`, `rediss://` (alone), `redis+sentinel://host:port,…/name` or
`redis+cluster://host:port`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

import redis.asyncio as aioredis
import structlog
from redis import exceptions
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from libs.lifecycle import Stopped, Unstartable

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

type_of_command = tuple[str | bytes | int | float, ...]

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

    def __init__(self, client: "aioredis.Redis | RedisCluster") -> None:
        self._client = client
        self.is_cluster = isinstance(client, RedisCluster)

    async def command(self, *command: str | bytes | float) -> Any:
        """One command, one round trip. Raises `AWAY`."""
        try:
            with _heeding_cancellation():
                return await self._client.execute_command(*command)
        except exceptions.ResponseError as error:
            raise _told(error) from None

    async def batch(self, commands: Sequence[type_of_command]) -> list[Any]:
        """Commands in order, one round trip. An error of a single command stands in its place.

        A cluster takes no pipeline over several slots that keeps order; there, it is a round trip each.
        """
        if not commands:
            return []
        if self.is_cluster:
            return [await self._settled(command) for command in commands]
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            with _heeding_cancellation():
                results = await pipe.execute(raise_on_error=False)
            return [_told(result) if isinstance(result, exceptions.ResponseError) else result for result in results]

    async def _settled(self, command: type_of_command) -> Any:
        try:
            return await self.command(*command)
        except exceptions.ResponseError as error:
            return error

    async def scripts(self, calls: Sequence[Call]) -> list[Any]:
        """Scripts in one round trip (two when the broker has not seen one yet). Raises what one raised."""
        results = await self.batch([call.command for call in calls])
        missing = [i for i, result in enumerate(results) if isinstance(result, exceptions.NoScriptError)]
        if missing:
            for script in {calls[i].script for i in missing}:
                await self._load(script)
            again = await self.batch([calls[i].command for i in missing])
            for i, result in zip(missing, again, strict=True):
                results[i] = result
        for result in results:
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


@contextmanager
def _heeding_cancellation() -> Iterator[None]:
    """Not let a cancellation be swallowed, for its task would never end.

    redis-py sends through `asyncio.wait_for`, which on Python 3.11 gives its result when a cancellation comes as it
    completes: of the task groups that one of their tasks ended, a third lived on.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


@asynccontextmanager
async def connect(url: str, *, blocking_s: float = 0.0) -> AsyncIterator[Broker]:
    """A broker client; for a reader that blocks, `blocking_s` says for how long at most."""
    client = _client(url, _TIMEOUT_S + blocking_s)
    try:
        yield Broker(client)
    finally:
        await client.aclose()


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
