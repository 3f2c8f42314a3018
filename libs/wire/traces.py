"""What operators are told of messages: where one is and how it got there, and sums over all. No content, no author.

Times are milliseconds since 1970: `take` by a gateway's clock, `decide` by the broker's, the others by a router's.
"""

from typing import Literal

from msgspec import Struct

MessageState = Literal["saved", "in_flight", "abandoned", "unaccounted"]
RecipientState = Literal["delivered", "due", "expired", "refused", "unaccounted"]


class Station(Struct, rename="camel", frozen=True):
    """A message was here: taken by its gateway, read by a router, given its place, saved, published."""

    station: Literal["take", "read", "decide", "save", "publish"]
    at: int
    # Since the station before it.
    after_ms: int


class RecipientCounts(Struct, rename="camel", frozen=True):
    """For how many users a message is, by state: each is in one."""

    total: int = 0
    delivered: int = 0
    due: int = 0
    expired: int = 0
    refused: int = 0
    unaccounted: int = 0


class Recipient(Struct, rename="camel", frozen=True, omit_defaults=True):
    """How it stands with one of them. When and through which gateway they confirmed is known for as long as the ledger
    goes back."""

    user_id: str
    state: RecipientState
    reason: str | None = None
    confirmed_at: int | None = None
    gateway: str | None = None


class MessageTrace(Struct, rename="camel", frozen=True):
    """`GET /ledger/{messageId}`. `stations` is empty where the ledger does not go back so far."""

    message_id: str
    conversation_id: str
    seq: int
    state: MessageState
    type: str | None
    is_anonymous: bool | None
    # The gateway that took it; of an anonymous message nobody is told, nor when that was.
    gateway: str | None
    stations: list[Station]
    recipients: RecipientCounts
    people: list[Recipient]
    # There are more people than are shown.
    has_more: bool = False


class LedgerSums(Struct, rename="camel", frozen=True):
    """`GET /ledger`: the messages in the ledger. Recipients are those of saved messages; each is in one state."""

    # Saved, in flight and unaccounted for.
    accepted: int = 0
    saved: int = 0
    in_flight: int = 0
    unaccounted: int = 0
    # Not accepted: given a place, and never answered.
    abandoned: int = 0
    recipients: int = 0
    delivered: int = 0
    due: int = 0
    expired: int = 0
    refused: int = 0
    # The oldest line, 0 if there is none.
    since: int = 0
    partitions: int = 0

    def plus(self, other: "LedgerSums") -> "LedgerSums":
        """Both together."""
        since = min(filter(None, (self.since, other.since)), default=0)
        fields = {name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__}
        return LedgerSums(**{**fields, "since": since})
