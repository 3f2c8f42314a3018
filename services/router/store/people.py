"""Users and groups."""

from collections.abc import Collection
from typing import Protocol

from msgspec import Struct

from libs.wire.frames import Places


class User(Struct, frozen=True):
    """A user document: what routing and permissions need of it."""

    id: str
    name: str
    role: str = "member"
    disabled: bool = False
    blocked: frozenset[str] = frozenset()
    # Sign-ins from before this moment are void (milliseconds since 1970).
    valid_after_ms: int = 0
    places: Places = Places()
    # Where the user's phones are pushed (`fcmToken`, `fcmTokens`).
    push_tokens: frozenset[str] = frozenset()


class Group(Struct, frozen=True):
    """A group document."""

    id: str
    name: str
    members: frozenset[str]


class People(Protocol):
    """The documents that permissions need."""

    async def users(self, ids: Collection[str]) -> dict[str, User]:
        """The users that exist among `ids`."""
        ...

    async def groups(self, ids: Collection[str]) -> dict[str, Group]:
        """The groups that exist among `ids`."""
        ...

    async def revoke(self, user_id: str, valid_after_ms: int) -> bool:
        """Make every sign-in of a user from before this moment void; False if there is no such user.

        Never taken back: the latest moment stands, whatever the order of calls.
        """
        ...

    async def forget_push_tokens(self, user_id: str, tokens: Collection[str]) -> None:
        """Take out tokens that nobody has any more. Of a user who is not there, nothing."""
        ...
