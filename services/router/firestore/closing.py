"""Closes the documents of conversations that have gone quiet (see `marks`), beside whatever else is written."""

from contextlib import suppress
from typing import Final

from libs.storage import StoreAway
from libs.storage.firestore.client import Client
from libs.storage.firestore.values import Stamp
from services.router.firestore.marks import Marks

_AT_ONCE: Final = 200


class Closing:
    """One of a store."""

    def __init__(self, client: Client, marks: Marks) -> None:
        self._client = client
        self._marks = marks

    async def close_idle(self) -> None:
        """Close a few that are quiet. What fails stays open."""
        await self._close(is_end=False)

    async def close_all(self) -> None:
        """Close all that may be closed: this process saves no more."""
        while await self._close(is_end=True):
            pass

    async def _close(self, *, is_end: bool) -> bool:
        writes = self._marks.idle(_AT_ONCE, is_end=is_end)
        if not writes:
            return False
        versions: dict[str, Stamp | None] = {}
        try:
            with suppress(StoreAway):
                versions = dict(zip(writes, await self._client.write_each(list(writes.values())), strict=True))
        finally:
            self._marks.closed(versions, writes)
        return True
