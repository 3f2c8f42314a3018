"""Users and groups: what the router asks of them, and what operators write."""

from collections.abc import Collection, Sequence
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


class UserRow(Struct, frozen=True):
    """What an operator writes of a user. None leaves what is there, or the default where nothing is."""

    id: str
    name: str
    role: str | None = None
    disabled: bool | None = None
    blocked: frozenset[str] | None = None
    valid_after_ms: int | None = None
    state_id: str | None = None
    district_id: str | None = None
    mandal_id: str | None = None
    village_id: str | None = None
    push_tokens: frozenset[str] | None = None


# What an operator writes of a group is all of it.
GroupRow = Group


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


class Registry(People, Protocol):
    """The documents, as operators write them."""

    async def put_users(self, users: Sequence[UserRow]) -> None:
        """Create users, or change what their rows name."""
        ...

    async def put_groups(self, groups: Sequence[GroupRow]) -> None:
        """Create groups, or give them exactly these members. Who joins is owed what is said from then on."""
        ...
