"""The record of when people were last seen: what outlives the broker."""

from collections.abc import Collection, Mapping
from typing import Protocol


class LastSeen(Protocol):
    """Times are milliseconds since 1970. Every method raises `libs.storage.StoreAway` when the record is away."""

    async def seen(self, users: Collection[str]) -> dict[str, int]:
        """When each was last seen; who never was is not in it."""
        ...

    async def save(self, seen: Mapping[str, int]) -> None:
        """These people were seen then. A time earlier than what is kept changes nothing.

        What raises may have saved some of them, where there are more than the record takes at once.
        """
        ...
