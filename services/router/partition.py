"""A partition while this router owns it: its token, what only its owner may know, its fenced steps.

Everything here is forgotten when the lease goes. `order` and `acknowledge` build the two scripts that
check the token in the same step as they write.
"""

import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from libs import keys
from libs.broker import Call, Script
from libs.streams import consumer
from services.router.hearers import Hearers
from services.router.ledger import Notes
from services.router.receipts import ReceiptBook
from services.router.store import Message, Receipt, ReceiptRow

# Repeats are known for one to two windows while the store is away; a phone tries again far sooner.
_RECENT_WINDOW_S: Final = 600
_ENDS: Final = 50_000

_order: Final = Script("services.router", "order.lua")
_acknowledge: Final = Script("services.router", "acknowledge.lua")


class Candidate:
    """A message that asks for its place. `may` is False for one that was refused, unless it has a place.

    `entry` of the inbound stream brought it. `line` goes into the ledger if it is given one.
    """

    __slots__ = ("conversation_id", "entry", "key", "line", "may")

    def __init__(
        self, key: str, conversation_id: str, entry: str = consumer.BEGINNING, *, may: bool, line: bytes = b""
    ) -> None:
        self.key = key
        self.conversation_id = conversation_id
        self.entry = entry
        self.may = may
        self.line = line


class Partition:
    """One owned partition. Without `notes` nothing is written into the ledger."""

    def __init__(self, number: int, token: int, router: str, notes: Notes | None = None) -> None:
        self.number = number
        self.token = token
        self.position = consumer.BEGINNING
        # Up to here the stream was written before this owner came: an earlier one may have answered.
        self.answered_up_to = consumer.BEGINNING
        # Messages of that part, found in the store, whose senders may have heard `queued` and no more.
        self.untold: list[Message] = []
        self.is_lost = False
        # Batches read and not yet acknowledged; a partition is handed over when there are none.
        self.under_way = 0
        self.leaving_since: float | None = None
        # When a canary was answered last.
        self.heard_at: float | None = None
        # Messages that have a place and are not in the store yet, by key.
        self.unsaved: dict[str, Message] = {}
        # Messages that are in the store, until the broker knows it too: sent again meanwhile, they need no question.
        self.saved: dict[str, Message] = {}
        self.receipts = ReceiptBook()
        # Who has heard of what waits for the store.
        self.hearers = Hearers()
        self.notes = notes
        # What the lease holds while it is ours.
        self.lease = f"{token} {router}"
        self._order_keys = (keys.lease(number), keys.seqs(number), keys.assigned(number))
        self._acknowledge_keys = (keys.lease(number), keys.inbound(number), keys.seqs(number), keys.assigned(number))
        # By conversation: the last seq in the store, and its server time in ms.
        self._ends: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def is_held(self, lease: bytes | None) -> bool:
        """Whether a lease, as the broker has it, is ours."""
        return lease is not None and lease.decode() == self.lease

    def last_seq(self, conversation_id: str) -> int | None:
        """The last seq of a conversation in the store, if this owner knows it."""
        end = self._ends.get(conversation_id)
        return None if end is None else end[0]

    def note_end(self, conversation_id: str, seq: int, at_ms: int = 0) -> None:
        """The store holds this conversation up to `seq`, whose server time is `at_ms`."""
        if (end := (seq, at_ms)) >= self._ends.get(conversation_id, (0, 0)):
            self._ends[conversation_id] = end
            self._ends.move_to_end(conversation_id)
            if len(self._ends) > _ENDS:
                self._ends.popitem(last=False)

    def storable(self, rows: Iterable[ReceiptRow]) -> list[ReceiptRow]:
        """These receipts, but for what they say of messages that are not in the store yet.

        A broker that is wiped takes those messages with it, and their seqs go to others, whom nobody has.
        """
        unsaved: dict[str, int] = {}
        for message in self.unsaved.values():
            unsaved[message.conversation_id] = min(message.seq, unsaved.get(message.conversation_id, message.seq))
        found: list[ReceiptRow] = []
        for row in rows:
            first = unsaved.get(row.conversation_id)
            receipt = row.receipt if first is None else row.receipt.before(first)
            if receipt != Receipt():
                found.append(ReceiptRow(row.conversation_id, row.user_id, receipt))
        return found

    def order(self, candidates: Sequence[Candidate], *, is_store_away: bool, is_replay: bool = False) -> Call:
        """The script that gives places; see `order.lua` for its reply."""
        window = _window()
        rolls = self.notes.take_rolls() if self.notes is not None else ()
        args: list[str | bytes | int] = [
            self.lease,
            "1" if is_store_away else "0",
            "1" if is_replay else "0",
            len(rolls),
            *rolls,
        ]
        for candidate in candidates:
            last, at_ms = self._ends.get(candidate.conversation_id, (-1, 0))
            args += [
                candidate.key,
                candidate.conversation_id,
                last,
                at_ms,
                candidate.entry,
                "1" if candidate.may else "0",
                candidate.line,
            ]
        number = self.number
        return _order.call(
            # The window after this one as well: another router's clock may be ahead, or have been.
            [
                *self._order_keys,
                *(keys.recent(number, window + n) for n in (0, -1, 1)),
                keys.clock(number),
                keys.ledger(number),
            ],
            *args,
        )

    def acknowledge(
        self,
        up_to: str | None,
        saved: Sequence[Message] = (),
        receipts: Sequence[ReceiptRow] = (),
        cleared: Collection[ReceiptRow] = (),
        line: bytes = b"",
    ) -> Call:
        """The script that takes entries up to `up_to` off the stream, and keeps what they brought and what is said of
        it in the ledger (`line`)."""
        number = self.number
        args: list[Any] = [self.lease, consumer.after(up_to) if up_to else "", 2 * _RECENT_WINDOW_S, len(saved)]
        for message in saved:
            args += [message.key, message.conversation_id, message.seq]
        args.append(len(receipts))
        for row in receipts:
            args += [self.receipts.field(row), self.receipts.pack(row.receipt)]
        args.append(len(cleared))
        for row in cleared:
            args += [self.receipts.field(row), self.receipts.pack(row.receipt)]
        args.append(line)
        return _acknowledge.call(
            [*self._acknowledge_keys, keys.recent(number, _window()), keys.receipts(number), keys.ledger(number)],
            *args,
        )


def _window() -> int:
    return int(time.time() // _RECENT_WINDOW_S)
