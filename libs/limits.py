"""How much anybody may do in a sliding minute, over all services: a log in the broker, counted in one script.

Time is the broker's. A log is known by a limit's name and a hash of whom it is about, so no key names a person or
an address; it goes by itself a window after the last that was counted. What is over a limit is not counted.

With a secret, what was counted is hashed as well: the log of one person is a list of ids of messages, and an
anonymous one would stand there beside those under its author's name.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from msgspec import Struct

from libs import keys
from libs.broker import Broker, Script, type_of_command

WINDOW_MS: Final = 60_000
# What `Limiter.take` gives for a member that was counted before, in this window.
REPEAT: Final = -1

_DIGEST_BYTES: Final = 12
_KEY_BYTES: Final = 32
_MEMBER_BYTES: Final = 16
# Who did something lately does it again: a hash of whom takes 2 µs.
_AT_HAND: Final = 16_384

_take: Final = Script("libs", "take.lua")


class Take(Struct, frozen=True):
    """Count `member` for `whose` under the limit `limit`, of which a window takes `most` (0: any number)."""

    limit: str
    whose: str
    member: str | bytes
    most: int


class Limiter:
    """Counts against limits. With a `secret` (the same on every service that shares a limit), nobody who reads the
    keys can try out whom they are about. Every method raises `libs.broker.AWAY` when the broker is away.
    """

    def __init__(self, broker: Broker, secret: bytes = b"", *, window_ms: int = WINDOW_MS) -> None:
        self._broker = broker
        self._key = blake2b(secret, digest_size=_KEY_BYTES).digest() if secret else b""
        self._window_ms = window_ms
        self._found = lru_cache(_AT_HAND)(self._find)

    async def take(self, takes: Sequence[Take]) -> list[int]:
        """For each, in one round trip: 0 (counted), `REPEAT`, or the milliseconds until it may be tried again."""
        shards: dict[int, list[int]] = {}
        places = [self._place(take) for take in takes]
        for number, take in enumerate(takes):
            if take.most:
                # Only a cluster asks that the keys of one script are in one place.
                shard = places[number][0] if self._broker.is_cluster else 0
                shards.setdefault(shard, []).append(number)
        replies = await self._broker.scripts(
            [
                _take.call(
                    [places[number][1] for number in numbers],
                    self._window_ms,
                    *(arg for number in numbers for arg in (takes[number].most, self._member(takes[number]))),
                )
                for numbers in shards.values()
            ]
        )
        found = [0] * len(takes)
        for numbers, reply in zip(shards.values(), replies, strict=True):
            for number, wait_ms in zip(numbers, reply, strict=True):
                found[number] = int(wait_ms)
        return found

    async def give_back(self, takes: Sequence[Take]) -> None:
        """What was counted turned out not to count."""
        commands: list[type_of_command] = [("ZREM", self._place(take)[1], self._member(take)) for take in takes]
        for result in await self._broker.batch(commands):
            if isinstance(result, Exception):
                raise result

    def _member(self, take: Take) -> str | bytes:
        if not self._key or isinstance(take.member, bytes):
            return take.member
        said = f"{take.limit}\0{take.whose}\0{take.member}"
        return blake2b(said.encode(), digest_size=_MEMBER_BYTES, key=self._key).digest()

    def _place(self, take: Take) -> tuple[int, str]:
        return self._found(take.limit, take.whose)

    def _find(self, limit: str, whose: str) -> tuple[int, str]:
        digest = blake2b(whose.encode(), digest_size=_DIGEST_BYTES, key=self._key)
        shard = digest.digest()[0] % keys.LIMIT_SHARDS
        return shard, keys.taken(shard, limit, digest.hexdigest())
