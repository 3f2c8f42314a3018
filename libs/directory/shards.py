"""Which shard of the directory a user is in."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from zlib import crc32

from libs import keys

# Users of the last minutes, whose shards are asked for again and again.
_AT_HAND: Final = 32_768


@lru_cache(_AT_HAND)
def shard_of(user: str) -> int:
    """In `range(keys.DIRECTORY_SHARDS)`."""
    return crc32(user.encode()) % keys.DIRECTORY_SHARDS


def by_shard(users: Iterable[str]) -> dict[int, list[str]]:
    """The users of each shard that has any of them."""
    shards: dict[int, list[str]] = {}
    for user in users:
        shards.setdefault(shard_of(user), []).append(user)
    return shards
