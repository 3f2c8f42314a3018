"""Which partitions this router owns. Rendezvous hashing says who should; a lease says who does.

A lease comes with a fencing token, higher than any before it, that every write of its owner carries
or is checked against. A router that lost its lease without noticing can read, and nothing else.
"""

import asyncio
import random
import time
from collections.abc import Collection
from hashlib import blake2b
from typing import Final, Protocol

import structlog

from libs import keys, membership
from libs.broker import AWAY, Broker, Call, Script

log = structlog.get_logger(__name__)

# A router killed with -9 is replaced within 5 s: its lease lapses after 3, and whoever should have the
# partition looks twice a second.
LEASE_TTL_MS: Final = 3000
_TURN_S: Final = 0.5
_LEAVING_S: Final = 0.05

_lease: Final = Script("libs.streams", "lease.lua")
_release: Final = Script("libs.streams", "release.lua")
_surpass: Final = Script("libs.streams", "surpass.lua")
# By chance two routers are given the same token twice only if the broker has forgotten one, its clock is behind, and
# they draw the same step.
_STEPS: Final = 1000


class Owner(Protocol):
    """Whoever does the work of a partition."""

    def gain(self, partition: int, token: int) -> None:
        """The partition is ours, under this token."""
        ...

    def lose(self, partition: int) -> None:
        """The partition is no longer ours; stop at once."""
        ...

    def hand_over(self, partition: int) -> bool:
        """Read no more of the partition, for it is to be given back; True once what was read has left."""
        ...


class Leases:
    """The leases of one router: taken, renewed, handed over."""

    def __init__(self, broker: Broker, router: str, partitions: int, owner: Owner) -> None:
        self._broker = broker
        self._router = router
        self._partitions = partitions
        self._owner = owner
        self._tokens: dict[int, int] = {}
        self._renewed_at = time.monotonic()
        # How often it looked, and the broker answered or did not.
        self.turns = 0
        self._is_leaving = False
        self._turning = asyncio.Lock()

    @property
    def owned(self) -> Collection[int]:
        """The partitions owned now."""
        return self._tokens.keys()

    @property
    def is_current(self) -> bool:
        """Whether the broker answered lately, so that what we think we own, we own."""
        return time.monotonic() - self._renewed_at < LEASE_TTL_MS / 1000

    async def run(self) -> None:
        """Take, renew and hand over until cancelled."""
        while True:
            try:
                async with self._turning:
                    await self._turn()
            except AWAY as error:
                log.warning("leases not renewed: the broker is away", error=type(error).__name__)
                if not self.is_current:
                    self._lose(list(self._tokens))
            self.turns += 1
            await asyncio.sleep(_TURN_S)

    async def release_all(self) -> None:
        """Give everything back, so that others need not wait for the leases to lapse. Raises `AWAY`."""
        async with self._turning:
            self._is_leaving = True
            await membership.remove(self._broker, keys.routers(), self._router)
            while self._tokens:
                await self._release_ready(set(self._tokens))
                await asyncio.sleep(_LEAVING_S)

    async def _turn(self) -> None:
        if self._is_leaving:
            return
        asked_at = time.monotonic()
        held = sorted(self._tokens)
        # What is held is renewed in the first round trip: where a turn of the loop takes long, each one more would.
        _, look, *kept = await self._broker.scripts(
            [
                membership.beat(keys.routers(), self._router, LEASE_TTL_MS),
                membership.looking(keys.routers(), LEASE_TTL_MS),
                *(self._ask(partition, self._tokens[partition]) for partition in held),
            ]
        )
        self._renewed_at = asked_at
        self._lose([p for p, token in zip(held, kept, strict=True) if not int(token) and p in self._tokens])
        live, lapsed = membership.seen(look)
        for router in lapsed:
            await membership.remove(self._broker, keys.routers(), router)
        wanted = {p for p in range(self._partitions) if rightful_owner(p, live) == self._router}
        await self._take(sorted(wanted.difference(held)))  # what was lost just now, with the next turn
        await self._release_ready(self._tokens.keys() - wanted)

    async def _take(self, partitions: list[int]) -> None:
        if not partitions:
            return
        tokens = await self._broker.scripts([self._ask(partition, 0) for partition in partitions])
        for partition, token in zip(partitions, map(int, tokens), strict=True):
            if token:
                self._tokens[partition] = token
                log.info("partition gained", partition=partition, token=token)
                self._owner.gain(partition, token)

    def _ask(self, partition: int, token: int) -> Call:
        return _lease.call(
            [keys.lease(partition), keys.lease_token(partition)],
            self._router,
            LEASE_TTL_MS,
            str(token),
            random.randint(1, _STEPS),  # noqa: S311 - told apart, not kept secret
        )

    def _lose(self, partitions: list[int]) -> None:
        for partition in partitions:
            del self._tokens[partition]
            log.warning("partition lost", partition=partition)
            self._owner.lose(partition)

    def forget(self, partition: int) -> None:
        """A fenced step found the lease gone: do as if it had lapsed."""
        if partition in self._tokens:
            self._lose([partition])

    async def _release_ready(self, partitions: Collection[int]) -> None:
        """Give back those that are empty; the others are asked again at the next turn, their leases renewed."""
        for partition in sorted(partitions):
            # One that was lost while another was given back has no token any more.
            if partition in self._tokens and self._owner.hand_over(partition):
                token = self._tokens.pop(partition)
                await self._broker.script(_release.call([keys.lease(partition)], self._router, str(token)))
                log.info("partition handed over", partition=partition)


def surpass(partition: int, token: int) -> Call:
    """The script that has all tokens of a partition from now on be above one that was seen.

    Gives 1 if its owner had a lower one: it has to take the lease anew.
    """
    return _surpass.call([keys.lease(partition), keys.lease_token(partition)], str(token))


def rightful_owner(partition: int, routers: Collection[str]) -> str | None:
    """Who should own a partition: the router with the highest hash. Moves few when routers come and go."""
    return max(routers, key=lambda router: (_weight(partition, router), router), default=None)


def _weight(partition: int, router: str) -> bytes:
    return blake2b(f"{partition}\0{router}".encode(), digest_size=8).digest()
