"""What leaves the hot log: messages that all members confirmed long ago. The record keeps them."""

from typing import Protocol


class Retention(Protocol):
    """In small steps, so that nobody waits long for one. Every step may be repeated, and by several at once.

    How far a conversation is confirmed is noticed at one time and acted upon at a later one, so that no time has to
    be kept for each receipt. What anybody has not confirmed is never retired.
    """

    async def notice(self, now_ms: int, limit: int, *, after: str = "") -> str | None:
        """Note, for up to `limit` conversations in the order of their ids from beyond `after`, how far all of their
        members have confirmed them; a note that waits to be acted upon is kept.

        Gives the last conversation that was looked at, None when there are no more.
        """
        ...

    async def retire(self, noticed_before_ms: int, limit: int) -> int | None:
        """Act upon up to `limit` notes from this moment or before: what they cover is not due any more, to nobody.

        Nothing else changes: `history`, `at` and `find` know it as before. Gives how many messages that were, None
        when no such note is left.
        """
        ...
