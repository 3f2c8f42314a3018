"""Messages, and what each member of a conversation has of them."""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from libs.wire.frames import DuePosition


class Message(Struct, frozen=True):
    """A message as it stands in the record. Its place is (conversation_id, seq).

    A void message (`is_void`) only fills a place: a repeat that was given a seq of its own while the
    store was away. It is never shown and never due.
    """

    id: str
    key: str
    conversation_id: str
    seq: int
    sender_id: str
    sender_name: str
    sender_role: str
    type: str
    content: str
    client_id: str
    client_message_id: str
    timestamp_ms: int
    server_time_ms: int
    media_url: str | None = None
    media_metadata: bytes | None = None  # JSON
    encryption_level: str = "standard"
    is_anonymous: bool = False
    # An anonymous message's sender and their own ids of it, sealed; `sender_id` is a pseudonym.
    sealed: str | None = None
    is_void: bool = False


class Receipt(Struct, frozen=True):
    """What one member has of a conversation: all up to `delivered`, and the seqs in `ahead` beyond it.

    `read` is a plain watermark. `ahead` is sorted and holds no seq at or below `delivered`.
    """

    delivered: int = 0
    read: int = 0
    ahead: tuple[int, ...] = ()

    def has(self, seq: int) -> bool:
        """Whether the member confirmed `seq`."""
        return seq <= self.delivered or seq in self.ahead

    def before(self, seq: int) -> "Receipt":
        """What it says of the messages before `seq`."""
        ahead = tuple(one for one in self.ahead if one < seq)
        return Receipt(min(self.delivered, seq - 1), min(self.read, seq - 1), ahead)

    def merge(self, other: "Receipt") -> "Receipt":
        """What both say together; nothing is taken back.

        Reading one message says nothing of those before it, so `read` does not move `delivered`.
        """
        delivered = max(self.delivered, other.delivered)
        ahead: list[int] = []
        for seq in sorted({*self.ahead, *other.ahead}):
            if seq == delivered + 1:
                delivered = seq
            elif seq > delivered:
                ahead.append(seq)
        return Receipt(delivered, max(self.read, other.read), tuple(ahead))


class ReceiptRow(Struct, frozen=True):
    """A receipt and whose it is."""

    conversation_id: str
    user_id: str
    receipt: Receipt


class Owed(Struct, frozen=True):
    """Messages that are owed to somebody, each with their receipt in its conversation; and as of when that is.

    `as_of` is the store's own count of what it has saved: one number means the same to all who ask, and rises.
    """

    rows: list[tuple[Message, Receipt]]
    as_of: int


class End(Struct, frozen=True):
    """Where a conversation ends: its last seq, and the server time of what stands there. Zeros if empty."""

    seq: int = 0
    server_time_ms: int = 0


class Saved(Enum):
    """What became of one message handed to `save`."""

    SAVED = "saved"  # now, or the very same message at the very same place before
    REPEAT = "repeat"  # its key stands at another place: it is an older message sent again
    TAKEN = "taken"  # its place belongs to another message: the caller's order is out of date


class Messages(Protocol):
    """The log of every conversation. All seqs count from 1."""

    async def find(self, keys: Collection[str]) -> dict[str, Message]:
        """The messages that exist among `keys`, by key. Void messages have no key to be found by."""
        ...

    async def ends(self, conversation_ids: Collection[str]) -> dict[str, End]:
        """Where each conversation ends; void messages count."""
        ...

    async def save(self, messages: Sequence[Message]) -> list[Saved]:
        """Write messages, in order; one outcome each. REPEAT and TAKEN wrote nothing for that one.

        A void message is written at its place if the place is free. A direct conversation's first message
        makes its two users members, to whom what the other wrote is due.
        """
        ...

    async def history(
        self,
        conversation_id: str,
        limit: int,
        *,
        before_seq: int | None = None,
        before_ms: int | None = None,
        after_seq: int | None = None,
    ) -> list[Message]:
        """Up to `limit` messages, oldest first: the newest before a point, or the first after a seq."""
        ...

    async def at(self, conversation_id: str, seqs: Collection[int]) -> list[Message]:
        """The messages at these places, in order; void ones are left out."""
        ...

    async def receipts(self, conversation_id: str, user_ids: Collection[str] | None = None) -> dict[str, Receipt]:
        """The receipts of a conversation's members who have any, or of those among `user_ids`."""
        ...

    async def receipts_of(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        """The receipts of these (conversation, user), of those who have any."""
        ...

    async def save_receipts(self, rows: Sequence[ReceiptRow]) -> None:
        """Merge receipts into what is there: a row that holds less changes nothing (never goes back).

        It makes nobody a member: a row of someone who was removed from a group, or of a stranger, is left out.
        The two of a direct conversation may be ahead of its first message. Rows of broadcasts (`names.broadcast`)
        say who has them.
        """
        ...

    async def due(
        self,
        user_id: str,
        limit: int,
        *,
        after: DuePosition | None = None,
        cursors: Mapping[str, int] | None = None,
    ) -> Owed:
        """Up to `limit` messages owed to a user, of those that were saved as of `after` (now, if it does not say).

        Owed is what others wrote, past the `delivered` mark (`ahead` is the caller's to leave out), or,
        in the conversations named in `cursors`, past the cursor instead; what was retired (`Retention`) is owed to
        nobody. Emergencies come first, then by server time: in the order of `position_of`, strictly after `after`.
        """
        ...

    async def due_to(self, user_ids: Collection[str]) -> frozenset[str]:
        """Those of these users to whom anything is due, a message (by the `delivered` mark) or a broadcast.

        Perhaps others as well, for whom `due` and `due_broadcasts` find nothing.
        """
        ...


def position_of(message: Message, as_of: int = 0) -> DuePosition:
    """The sort key of a message among what is due: emergencies before the rest, then oldest first."""
    rank = 0 if message.type == "emergency" else 1
    return DuePosition(rank, message.server_time_ms, message.conversation_id, message.seq, as_of)
