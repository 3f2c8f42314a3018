"""Users and groups as the router remembers them, for a few seconds.

When the store is away, what is remembered is used however old it is: deciding by an old document
beats refusing a warning. What was never known raises `StoreAway`.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from enum import Enum
from typing import Final, Generic, TypeVar

from services.router.store import Group, Store, StoreAway, User
from services.router.together import Together

T = TypeVar("T")

_SIZE: Final = 100_000
# Someone who was looked for before they were created should not stay unknown for long.
_ABSENT_S: Final = 1.0


class People:
    """The documents that permissions need."""

    def __init__(self, store: Store, trusted_s: float) -> None:
        self._users: _Remembered[User] = _Remembered(store.users, trusted_s)
        self._fresh: Together[None] = Together(self._refresh)
        self._groups: _Remembered[Group] = _Remembered(store.groups, trusted_s)

    async def load(self, users: Collection[str], groups: Collection[str]) -> None:
        """Have these at hand, as far as the store can be reached; look with `user` and `group`."""
        await self._users.load(users)
        await self._groups.load(groups)

    async def fresh_user(self, user_id: str) -> User | None:
        """The user as the store has it now; as remembered when it is away. Raises `StoreAway`."""
        await self._fresh.about(user_id)
        if self._users.is_void(user_id):  # forgotten meanwhile: the store has something newer
            await self._users.load((user_id,))
        return self._users.get(user_id)

    async def _refresh(self, user_ids: Collection[str]) -> None:
        for user_id in user_ids:
            self._users.expire(user_id)
        await self._users.load(user_ids)

    def forget_user(self, user_id: str) -> None:
        """What is remembered of a user is void, also while the store is away."""
        self._users.forget(user_id)

    def user(self, user_id: str) -> User | None:
        """The user, None if there is none. Raises `StoreAway` if it could not be loaded."""
        return self._users.get(user_id)

    def group(self, group_id: str) -> Group | None:
        """The group, None if there is none. Raises `StoreAway` if it could not be loaded."""
        return self._groups.get(group_id)


class _Void(Enum):
    """Stands for what was forgotten, with the moment of it: what was asked for before that is not remembered."""

    VOID = 0


class _Remembered(Generic[T]):
    def __init__(self, fetch: Callable[[Collection[str]], Awaitable[dict[str, T]]], trusted_s: float) -> None:
        self._fetch = fetch
        self._trusted_s = trusted_s
        self._entries: OrderedDict[str, tuple[T | _Void | None, float]] = OrderedDict()

    async def load(self, ids: Collection[str]) -> None:
        now = time.monotonic()
        stale = {i for i in ids if self._entries.get(i, (None, 0.0))[1] <= now}
        if not stale:
            return
        try:
            found = await self._fetch(stale)
        except StoreAway:
            return
        for i in stale:
            old, since = self._entries.get(i, (None, 0.0))
            if old is _Void.VOID and since >= now:
                continue
            value = found.get(i)
            self._entries[i] = (value, now + (self._trusted_s if value is not None else _ABSENT_S))
            self._entries.move_to_end(i)
        while len(self._entries) > _SIZE:
            self._entries.popitem(last=False)

    def expire(self, i: str) -> None:
        if i in self._entries and not self.is_void(i):
            self._entries[i] = (self._entries[i][0], 0.0)

    def is_void(self, i: str) -> bool:
        return i in self._entries and self._entries[i][0] is _Void.VOID

    def forget(self, i: str) -> None:
        self._entries[i] = (_Void.VOID, time.monotonic())

    def get(self, i: str) -> T | None:
        value = self._entries.get(i, (_Void.VOID, 0.0))[0]
        if value is _Void.VOID:
            raise StoreAway(i)
        return value
