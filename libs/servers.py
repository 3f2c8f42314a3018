"""Where the broker is: from `REDIS_URL` to connections, which redis-py makes (TLS, passwords, Sentinel).

    redis://  rediss://  unix://                         one server
    redis+sentinel://[:password@]host[:port],…/name      the primary that Sentinels name (port 26379)
    redis+cluster://[:password@]host[:port],…            a cluster that some of these are nodes of (port 6379)

With `rediss+` all of it is spoken over TLS. What redis-py takes in the query of an address (`?ssl_ca_certs=…`) it
takes here too; `sentinel_username` and `sentinel_password` are what Sentinels ask for themselves.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import redis.asyncio as aioredis
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from libs.lifecycle import Unstartable

Address = tuple[str, int]

CONNECT_TIMEOUT_S: Final = 2.0
_PORTS: Final = {"sentinel": 26379, "cluster": 6379}
_KINDS: Final = "Use redis://, rediss://, redis+sentinel:// or redis+cluster:// (rediss+…:// for TLS)."


class Servers:
    """One server, or one primary at a time."""

    def __init__(self, pool: ConnectionPool, sentinel: "aioredis.Sentinel | None" = None, name: str = "") -> None:
        self.pool = pool
        self._sentinel = sentinel
        self._name = name

    @property
    def is_watched(self) -> bool:
        """Whether Sentinels say where the primary is."""
        return self._sentinel is not None

    async def primary(self) -> Address | None:
        """Where it is now by most Sentinels; None where fewer than that answer, or they do not agree yet."""
        if self._sentinel is None:
            return None
        sentinels = self._sentinel.sentinels
        asked = (
            one.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)  # type: ignore[no-untyped-call]
            for one in sentinels
        )
        told = await asyncio.gather(*asked, return_exceptions=True)
        named = Counter(_address(one) for one in told if isinstance(one, list | tuple))
        return next((where for where, count in named.items() if 2 * count > len(sentinels)), None)

    async def close(self) -> None:
        """End what redis-py has open."""
        await self.pool.disconnect()
        if self._sentinel is not None:
            await self._sentinel.aclose()


class ClusterServers:
    """The nodes of a cluster: where to begin, and how to come to any of them."""

    def __init__(self, seeds: list[Address], pool: Callable[[Address], ConnectionPool]) -> None:
        self.seeds = seeds
        self.pool = pool


def servers(url: str) -> Servers | ClusterServers:
    """What an address means. Raises `Unstartable` for one that means nothing."""
    options: dict[str, Any] = {
        # For what redis-py says as it connects; from then on `libs.pipe` has the connection, and its own patience.
        "socket_timeout": CONNECT_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        # Whoever writes owns its retries; whoever connects tries again with the next command.
        "retry": Retry(NoBackoff(), 0),
        # In the third version a server may say what nobody asked for.
        "protocol": 2,
    }
    parts = urlsplit(url)
    match parts.scheme:
        case "redis" | "rediss" | "unix":
            return Servers(ConnectionPool.from_url(url, **options))
        case "redis+cluster" | "rediss+cluster":
            seeds, more = _hosts(url, "cluster")
            options |= more
            return ClusterServers(seeds, lambda node: ConnectionPool(host=node[0], port=node[1], **options))
        case "redis+sentinel" | "rediss+sentinel":
            return _watched(url, options)
        case scheme:
            raise Unstartable(f"REDIS_URL: {scheme or 'no'}:// is not known. {_KINDS}")


def _watched(url: str, options: dict[str, Any]) -> Servers:
    hosts, more = _hosts(url, "sentinel")
    name = urlsplit(url).path.strip("/") or "mymaster"
    own = {word: more.pop(f"sentinel_{word}", None) for word in ("username", "password")}
    is_tls = more.pop("connection_class", None) is not None
    tls: dict[str, Any] = {"ssl": True} if is_tls else {}
    tls |= {word: value for word, value in more.items() if word.startswith("ssl_")}
    sentinel = aioredis.Sentinel(  # type: ignore[no-untyped-call]
        hosts,
        # redis-py's own ten retries would have one that is gone hold up the question to the next.
        sentinel_kwargs={**options, **tls, **own},
        **options,
        **more,
        **({"ssl": True} if is_tls else {}),
    )
    return Servers(sentinel.master_for(name).connection_pool, sentinel, name)


def _address(told: Sequence[bytes | str | int]) -> Address:
    host, port = told
    return host.decode() if isinstance(host, bytes) else str(host), int(port)


def _hosts(url: str, kind: str) -> tuple[list[Address], dict[str, Any]]:
    """The hosts of an address, and what else it says, as redis-py reads it."""
    parts = urlsplit(url)
    who, _, where = parts.netloc.rpartition("@")
    scheme = parts.scheme.partition("+")[0]
    found = []
    for host in where.split(","):
        name, colon, port = host.rpartition(":")
        has_port = colon and not port.endswith("]")
        found.append(((name if has_port else host).strip("[]"), int(port) if has_port else _PORTS[kind]))
    more = dict(parse_url(f"{scheme}://{who}{'@' if who else ''}first/{'?' if parts.query else ''}{parts.query}"))
    del more["host"]
    return found, more
