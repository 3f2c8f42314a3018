"""Emergency broadcasts, and who lives where, when."""

from collections.abc import Collection, Sequence
from typing import Protocol

from msgspec import Struct

from libs.wire.frames import DuePosition


class Broadcast(Struct, frozen=True):
    """A broadcast as it stands in the record. `body` is what devices are sent, encoded once."""

    id: str
    sender_id: str
    level: str
    place_ids: tuple[str, ...]
    priority: str
    at_ms: int
    body: bytes  # JSON


class DueBroadcast(Struct, frozen=True):
    """What a walk through what is due needs of one."""

    id: str
    at_ms: int
    body: bytes

    @property
    def position(self) -> DuePosition:
        """Its sort key among what is due: broadcasts come before all messages."""
        return DuePosition(-1, self.at_ms, self.id, 1)


class Reached(Struct, frozen=True):
    """For how many people in one place a broadcast is, and how many of them it has reached."""

    place_id: str
    recipients: int
    delivered: int


class Tally(Struct, frozen=True):
    """How far a broadcast has come, place by place in the order they were named."""

    level: str
    priority: str
    at_ms: int
    reached: tuple[Reached, ...]


class Moves(Struct, frozen=True):
    """Who lives elsewhere now; `cursor` is where the next look begins."""

    cursor: int
    user_ids: tuple[str, ...]


class Broadcasts(Protocol):
    """The log of broadcasts.

    A broadcast is for everyone who lives in one of its places at its time (`at_ms`), and due to them until
    `save_receipts` has a row of theirs for `names.broadcast(id)`. The writing of a user document notes since when they
    live where: for one that is new, or was changed, since then.
    """

    async def save_broadcasts(self, broadcasts: Sequence[Broadcast]) -> frozenset[str]:
        """Write broadcasts; the ids of those that stand as given: written now, or the very same (id and time) before.

        One whose id stands with another time was sent again, and changes nothing.
        """
        ...

    async def due_broadcasts(self, user_id: str, limit: int, *, after: DuePosition | None = None) -> list[DueBroadcast]:
        """Up to `limit` broadcasts due to a user, oldest first, strictly after `after`."""
        ...

    async def audience(self, level: str, place_ids: Collection[str]) -> int:
        """How many people live in these places now."""
        ...

    async def tally(self, broadcast_id: str) -> Tally | None:
        """How far a broadcast has come; None if there is none of this id. Takes its time where millions live."""
        ...

    async def moves(self, after: int | None, limit: int) -> Moves:
        """Who moved (or came) since the cursor `after`, from up to `limit` changes; fewer people mean no less to come.

        Without a cursor: the newest changes, so that who takes over misses none of the last minutes. The cursor
        stays where it was when there is nothing more.
        """
        ...
