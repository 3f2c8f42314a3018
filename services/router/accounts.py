"""Who was disabled, revoked or deleted at Firebase: looked at in the background, many at a time, never for each token.

A token signs in by its signature alone. Within seconds its account is looked at here, and a sign-in that is void is
revoked as an operator would: on every gateway, and its resume tickets with it. Whoever stays signs in anew each hour,
when the token ends, and is looked at again.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol

import structlog
from msgspec import Struct

from libs.broker import AWAY
from libs.clock import now_ms
from services.router.metrics import RouterMetrics

log = structlog.get_logger(__name__)

# What the identity service takes in one call.
_AT_ONCE: Final = 100
_GATHER_S: Final = 2.0
# A phone that comes and goes is not looked at each time.
_TRUSTED_S: Final = 600.0
_RETRY_MAX_S: Final = 60.0
# Beyond it, the oldest are not looked at until they sign in again.
_WAITING_MAX: Final = 100_000
_LOOKED_AT_MAX: Final = 200_000


class Account(Struct, frozen=True):
    """What Firebase says of a user. Sign-ins from before `valid_after_ms` are void."""

    is_disabled: bool = False
    valid_after_ms: int = 0


class Away(Exception):
    """The identity service cannot be asked now. The message says why."""


class Identity(Protocol):
    """The identity service."""

    async def look(self, user_ids: Collection[str]) -> Mapping[str, Account]:
        """The accounts of those who have one. Raises `Away`."""
        ...

    async def revoke(self, user_id: str) -> None:
        """Make the user's refresh tokens void. Raises `Away`."""
        ...


Revoke = Callable[[str, int], Awaitable[None]]
"""Makes a user's sign-ins from before a moment void, everywhere. Raises `libs.broker.AWAY`."""


class Accounts:
    """Looks at the accounts of those who sign in."""

    def __init__(
        self, identity: Identity, revoke: Revoke, metrics: RouterMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._identity = identity
        self._revoke = revoke
        self._looks = {result: metrics.accounts.labels(result) for result in ("good", "void", "away")}
        self._clock = clock
        # The oldest sign-in of each that is to be looked at; who was found good, and when.
        self._waiting: OrderedDict[str, int] = OrderedDict()
        self._good: OrderedDict[str, float] = OrderedDict()
        self._revoked: OrderedDict[str, None] = OrderedDict()
        self._failures = 0

    def note_nowait(self, user_id: str, issued_at_ms: int) -> None:
        """Somebody was let in by a token, or a ticket, of this sign-in."""
        if self._clock() < self._good.get(user_id, float("-inf")) + _TRUSTED_S:
            return
        self._waiting[user_id] = min(issued_at_ms, self._waiting.get(user_id, issued_at_ms))
        if len(self._waiting) > _WAITING_MAX:
            self._waiting.popitem(last=False)

    def note_revoked_nowait(self, user_id: str) -> None:
        """An operator revoked a user: Firebase is to know, so that no phone of theirs gets new tokens."""
        self._good.pop(user_id, None)
        self._revoked[user_id] = None
        if len(self._revoked) > _WAITING_MAX:
            self._revoked.popitem(last=False)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            full = len(self._waiting) >= _AT_ONCE
            await asyncio.sleep(0 if full and not self._failures else min(_GATHER_S * 2**self._failures, _RETRY_MAX_S))
            try:
                await self.turn()
                self._failures = 0
            except (Away, *AWAY) as error:
                # The policy for a service that is away: who is signed in stays, and is looked at later.
                if not self._failures:
                    log.warning("accounts are looked at later", error=str(error) or type(error).__name__)
                self._looks["away"].inc()
                self._failures = min(self._failures + 1, 10)

    async def turn(self) -> None:
        """One call's worth. Raises `Away`, `libs.broker.AWAY`."""
        for user_id in list(self._revoked):
            await self._identity.revoke(user_id)
            self._revoked.pop(user_id, None)
        asked = dict(list(self._waiting.items())[:_AT_ONCE])
        if not asked:
            return
        found = await self._identity.look(asked)
        for user_id, issued_at_ms in asked.items():
            valid_after_ms = _valid_after_ms(found.get(user_id))
            if issued_at_ms < valid_after_ms:
                await self._revoke(user_id, valid_after_ms)
                self._looks["void"].inc()
            else:
                self._remember(user_id)
                self._looks["good"].inc()
            if self._waiting.get(user_id) == issued_at_ms:
                del self._waiting[user_id]

    def _remember(self, user_id: str) -> None:
        self._good[user_id] = self._clock()
        self._good.move_to_end(user_id)
        if len(self._good) > _LOOKED_AT_MAX:
            self._good.popitem(last=False)


def _valid_after_ms(account: Account | None) -> int:
    """From when on sign-ins are good: none is of one who is disabled, or has no account any more.

    A token names the second of its sign-in: one from this very second is void as well.
    """
    return now_ms() + 1000 if account is None or account.is_disabled else account.valid_after_ms
