"""Which node of a Redis Cluster has which slot: asked when it may have changed, and told by nodes that know better."""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from redis import exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from libs.pipe import Pipe, type_of_command
from libs.servers import CONNECT_TIMEOUT_S, Address, ClusterServers

LOST: Final = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)

# The keys of streams, leases, shards and gateways, which are asked for again and again.
_AT_HAND: Final = 32_768
# Where the first key of a command is, unless it is its first word.
_KEY_AT: Final = {"EVALSHA": 3, "XINFO": 2, "OBJECT": 2, "MEMORY": 2}
_ANYWHERE: Final = frozenset({"INFO", "TIME", "PING", "ECHO"})


class Slots:
    """The map, as far as it is known."""

    def __init__(self, servers: ClusterServers, errors: Callable[[str], Exception]) -> None:
        self._servers = servers
        self._errors = errors
        self._nodes: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        # Whom to ask, the likeliest to answer first.
        self._known = list(servers.seeds)
        self._learning = asyncio.Lock()
        self.is_stale = True

    @property
    def primaries(self) -> set[Address]:
        """The nodes that have slots."""
        return {node for node in self._nodes if node is not None}

    def node_of(self, command: type_of_command) -> Address | None:
        """Where a command belongs, by its first key; None if nobody is known to have the slot."""
        name = str(command[0])
        if name in _ANYWHERE:
            return next((node for node in self._nodes if node is not None), None)
        at = command.index("STREAMS") + 1 if name == "XREAD" else _KEY_AT.get(name, 1)
        return self._nodes[_slot_of(command[at])]

    def moved(self, told: exceptions.MovedError) -> None:
        """A node says that another has this slot."""
        node = self.address(told)
        # One that is new, or was promoted, is not the only thing that changed.
        self.is_stale = self.is_stale or node not in self.primaries
        self._nodes[told.slot_id] = node

    def address(self, told: exceptions.AskError) -> Address:
        """Where a node sends us; one that names no host means the one it was reached at."""
        asked = self._nodes[told.slot_id] or self._known[0]
        return told.host or asked[0], told.port

    def lost(self, node: Address) -> None:
        """It did not answer: ask others what became of its slots, and it last."""
        self.is_stale = True
        if node in self._known:
            self._known.remove(node)
            self._known.append(node)

    async def learn(self) -> bool:
        """Ask, if the map is stale; whether it was. Raises `ConnectionError` when nobody can tell."""
        async with self._learning:
            if not self.is_stale:
                return False
            error: Exception | None = None
            for node in list(self._known):
                try:
                    self._take(node, await self._ask(node))
                except LOST as lost:
                    error = lost
                    self.lost(node)
                else:
                    self.is_stale = False
                    return True
            raise exceptions.ConnectionError(f"no node of the cluster answers: {error}") from error

    async def _ask(self, node: Address) -> Any:
        # It may be a replica: its pipe is not one of those that commands go through.
        pipe = Pipe(self._servers.pool(node), self._errors, CONNECT_TIMEOUT_S)
        try:
            (ranges,) = await pipe.call([("CLUSTER", "SLOTS")])
        finally:
            await pipe.close()
        if isinstance(ranges, Exception):
            raise ranges
        return ranges

    def _take(self, asked: Address, ranges: Any) -> None:
        nodes: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        known = [asked]
        for first, last, *of_range in ranges:
            found = [((host or asked[0].encode()).decode(), int(port)) for host, port, *_ in of_range]
            nodes[first : last + 1] = [found[0]] * (last - first + 1)
            known += (node for node in found if node not in known)
        self._nodes = nodes
        self._known = known + [seed for seed in self._servers.seeds if seed not in known]


def _slot_of(key: str | bytes | float) -> int:
    return _slot(key) if isinstance(key, str) else key_slot(key if isinstance(key, bytes) else str(key).encode())


@lru_cache(_AT_HAND)
def _slot(key: str) -> int:
    return key_slot(key.encode())
