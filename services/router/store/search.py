"""Finding messages by their words."""

from typing import Protocol

from services.router.store.messages import Message


class Search(Protocol):
    """An index of the words of messages."""

    async def search(
        self, user_id: str, query: str, limit: int, *, conversation_id: str | None = None
    ) -> list[Message]:
        """Up to `limit` messages, newest first, in conversations the user is in now (or in this one, if they are).

        Each word of `query` is one of the message's, or its beginning. What is void or `high_security` is never found.
        """
        ...
