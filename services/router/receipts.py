"""Delivered and read, as watermarks: what each member of a conversation has.

The book of a partition keeps the receipts of conversations in use. A change goes to the broker with
the acknowledgement of the batch that brought it, and to the store together with others, a second or
so later. Receipts only ever grow, so writing one twice, or late, is harmless.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from libs.streams import consumer
from libs.wire import names
from services.router.store import Message, Receipt, ReceiptRow

_CONVERSATIONS: Final = 20_000
# Messages that confirmations will follow soon; about 1 KB each.
_MESSAGES: Final = 4096
# A watermark over a long absence concerns many messages; senders hear of the newest of them.
_TOLD: Final = 200
# Places that may hold a watermark up, looked up at once.
_BLANKS: Final = 200
# A device that confirms far out of order keeps this many marks; beyond it, messages stay due.
_AHEAD_MAX: Final = 512

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Receipt)


class Change(Struct, frozen=True):
    """What one confirmation changed: the seqs that a member has, or has read, and had not before."""

    conversation_id: str
    user_id: str
    delivered: tuple[int, ...]
    read: tuple[int, ...]


class ReceiptBook:
    """The receipts of one partition. The owner's memory is the truth; broker and store follow it."""

    def __init__(self) -> None:
        # By conversation, then by user.
        self._conversations: OrderedDict[str, dict[str, Receipt]] = OrderedDict()
        self._messages: OrderedDict[tuple[str, int], Message] = OrderedDict()
        self._entries: dict[tuple[str, int], str] = {}
        self._journal: dict[tuple[str, str], Receipt] = {}
        self._unjournaled: dict[tuple[str, str], Receipt] = {}
        # When the store was last given receipts of a conversation, the latest at the end.
        self._saved_at: OrderedDict[str, float] = OrderedDict()

    @property
    def unsaved(self) -> int:
        """How many receipts the store does not have yet."""
        return len(self._journal)

    def restore(self, journal: Mapping[bytes, bytes]) -> None:
        """Take over what the partition's owner before us left in the broker."""
        for field, packed in journal.items():
            conversation_id, _, user_id = field.decode().partition("\n")
            self._journal[conversation_id, user_id] = _decoder.decode(packed)

    def known(self, conversation_id: str) -> dict[str, Receipt]:
        """The receipts at hand of a conversation, by user."""
        page = self._conversations.get(conversation_id)
        if page is not None:
            self._conversations.move_to_end(conversation_id)
            return page
        page = self._conversations[conversation_id] = {}
        if len(self._conversations) > _CONVERSATIONS:
            self._conversations.popitem(last=False)
        return page

    def message(self, conversation_id: str, seq: int) -> Message | None:
        """A message that was sent lately."""
        return self._messages.get((conversation_id, seq))

    def missing(self, conversation_id: str, users: Iterable[str]) -> set[str]:
        """Those of `users` whose receipts must come from the store first."""
        known = self.known(conversation_id)
        return {user for user in users if user not in known}

    def learn(self, conversation_id: str, users: Collection[str], found: Mapping[str, Receipt]) -> None:
        """The store's receipts of `users`; what the broker's journal has beyond them counts too."""
        page = self.known(conversation_id)
        for user in {*users, *found}:
            page[user] = self.receipt(conversation_id, user).merge(found.get(user, Receipt()))

    def remember(self, message: Message, entry: str = consumer.BEGINNING) -> None:
        """Keep a message at hand, and the entry that brought it: confirmations of it will follow soon."""
        place = message.conversation_id, message.seq
        self._messages[place] = message
        self._entries[place] = entry
        if len(self._messages) > _MESSAGES:
            oldest, _ = self._messages.popitem(last=False)
            self._entries.pop(oldest, None)

    def forget(self, message: Message) -> None:
        """It has another place: what is confirmed of this one is nothing of it."""
        place = message.conversation_id, message.seq
        self._messages.pop(place, None)
        self._entries.pop(place, None)

    def is_behind(self, conversation_id: str, seq: int, entry: str) -> bool:
        """Whether the message at a place came after an entry of the stream, which so cannot know it.

        What confirms such a message means another that had its place, and was lost with a broker that was wiped.
        """
        brought_by = self._entries.get((conversation_id, seq))
        return brought_by is not None and brought_by != entry and not consumer.is_up_to(brought_by, entry)

    def receipt(self, conversation_id: str, user_id: str) -> Receipt:
        """What the member has, as far as known."""
        known = self.known(conversation_id).get(user_id)
        if known is not None:
            return known
        whose = (conversation_id, user_id)
        return self._unjournaled.get(whose) or self._journal.get(whose) or Receipt()

    def confirm(
        self, conversation_id: str, user_id: str, *, seqs: Iterable[int] = (), up_to: int = 0, read: bool = False
    ) -> Change | None:
        """Note that a member has `seqs` and all up to `up_to` (and has read them); None if that was known."""
        before = self.receipt(conversation_id, user_id)
        seqs = tuple(seqs)
        after = before.merge(
            Receipt(
                delivered=up_to,
                read=max(up_to, *seqs, 0) if read else 0,
                ahead=tuple(sorted(seqs)),
            )
        )
        after = self._fold_own(after, conversation_id, user_id)
        if len(after.ahead) > _AHEAD_MAX or after == before:
            return None
        self.known(conversation_id)[user_id] = after
        self._unjournaled[conversation_id, user_id] = after
        touched = {*seqs, *range(max(before.delivered, after.delivered - _TOLD) + 1, after.delivered + 1)}
        return Change(
            conversation_id,
            user_id,
            delivered=tuple(sorted(seq for seq in touched if not before.has(seq)))[-_TOLD:],
            read=tuple(range(max(before.read, after.read - _TOLD) + 1, after.read + 1)),
        )

    def is_next(self, conversation_id: str, user_ids: Iterable[str], seq: int) -> bool:
        """Whether `seq` is the next message for each of these members, who miss none before it."""
        page = self.known(conversation_id)
        return all(
            (receipt := page.get(user_id)) is not None and self._is_next(receipt, conversation_id, user_id, seq)
            for user_id in user_ids
        )

    def deliver(self, conversation_id: str, user_ids: Iterable[str], seq: int) -> dict[int, list[str]]:
        """Note that these members have one message. By seq, who has it now and had it not before.

        Nearly always it is the next one after the member's watermark: then that is all there is to find out.
        """
        page = self.known(conversation_id)
        news: dict[int, list[str]] = {}
        for user_id in user_ids:
            before = page.get(user_id) or self.receipt(conversation_id, user_id)
            if self._is_next(before, conversation_id, user_id, seq):
                after = self._fold_own(Receipt(seq, before.read), conversation_id, user_id)
                page[user_id] = self._unjournaled[conversation_id, user_id] = after
                news.setdefault(seq, []).append(user_id)
            elif (change := self.confirm(conversation_id, user_id, seqs=(seq,))) is not None:
                for new in change.delivered:
                    news.setdefault(new, []).append(user_id)
        return news

    def confirm_broadcast(self, broadcast: str, user_id: str) -> None:
        """Note that a user has a broadcast (`names.broadcast`). No page is kept of it: it may have 100,000 readers."""
        self._unjournaled[broadcast, user_id] = Receipt(delivered=1)

    def blanks(self, conversation_id: str, user_id: str, seqs: Collection[int], last_saved: int) -> list[int]:
        """Places before `seqs` that hold the watermark up and are not at hand: perhaps own, or void, messages."""
        receipt = self.receipt(conversation_id, user_id)
        end = min(max(seqs, default=0), last_saved + 1, receipt.delivered + _BLANKS)
        return [
            seq
            for seq in range(receipt.delivered + 1, end)
            if seq not in seqs and not receipt.has(seq) and self.message(conversation_id, seq) is None
        ]

    def take_unjournaled(self) -> list[ReceiptRow]:
        """What the next acknowledgement writes to the broker; from then on the store is owed it."""
        rows = [ReceiptRow(c, u, receipt) for (c, u), receipt in self._unjournaled.items()]
        self._journal.update(self._unjournaled)
        self._unjournaled.clear()
        return rows

    def owed(self, saved_before: float = math.inf) -> list[ReceiptRow]:
        """What the store has not got yet, of conversations of which it was given nothing since then.

        Each write of a conversation's receipts costs the same, however many it holds; of a broadcast each has its own.
        """
        return [
            ReceiptRow(c, u, receipt)
            for (c, u), receipt in self._journal.items()
            if self._saved_at.get(c, -math.inf) < saved_before
        ]

    def unsaved_rows(self) -> list[ReceiptRow]:
        """All that the store has not got yet, journaled or not."""
        unsaved = {**self._journal, **self._unjournaled}
        return [ReceiptRow(c, u, receipt) for (c, u), receipt in unsaved.items()]

    def settle(self, rows: Collection[ReceiptRow], now: float = -math.inf) -> list[ReceiptRow]:
        """The store has `rows`; those that did not change meanwhile leave the journal and are given back."""
        for conversation_id in {row.conversation_id for row in rows if names.broadcast_of(row.conversation_id) is None}:
            self._saved_at[conversation_id] = now
            self._saved_at.move_to_end(conversation_id)
        while len(self._saved_at) > _CONVERSATIONS:
            self._saved_at.popitem(last=False)
        settled = [row for row in rows if self._journal.get((row.conversation_id, row.user_id)) == row.receipt]
        for row in settled:
            del self._journal[row.conversation_id, row.user_id]
        return settled

    def _is_next(self, receipt: Receipt, conversation_id: str, user_id: str, seq: int) -> bool:
        """Whether nothing is between the watermark and `seq` but own messages."""
        if receipt.ahead:
            return False
        following = receipt.delivered + 1
        while following < seq:
            message = self.message(conversation_id, following)
            if message is None or message.sender_id != user_id:
                return False
            following += 1
        return following == seq

    def _fold_own(self, receipt: Receipt, conversation_id: str, user_id: str) -> Receipt:
        """One's own messages need no confirmation: the watermark passes over them."""
        delivered = receipt.delivered
        if not receipt.ahead and (
            (following := self.message(conversation_id, delivered + 1)) is None or following.sender_id != user_id
        ):
            return receipt
        ahead = set(receipt.ahead)
        while (seq := delivered + 1) in ahead or (
            (message := self.message(conversation_id, seq)) is not None and message.sender_id == user_id
        ):
            ahead.discard(seq)
            delivered = seq
        if delivered == receipt.delivered:
            return receipt
        return Receipt(delivered, receipt.read, tuple(sorted(ahead)))

    @staticmethod
    def field(row: ReceiptRow) -> str:
        """The field of a receipt in the broker's journal."""
        return journal_field(row.conversation_id, row.user_id)

    @staticmethod
    def pack(receipt: Receipt) -> bytes:
        """The value of a receipt in the broker's journal."""
        return _encoder.encode(receipt)


def journal_field(conversation_id: str, user_id: str) -> str:
    """The field under which the journal has a member's receipt; ids hold no line break."""
    return f"{conversation_id}\n{user_id}"


def unpack(packed: bytes) -> Receipt:
    """A receipt as the journal holds it."""
    return _decoder.decode(packed)
