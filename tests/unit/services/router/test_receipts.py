"""The book of a partition: what members have only grows, and nothing is forgotten on the way to the store."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from libs.wire import names
from services.router import receipts as module
from services.router.receipts import ReceiptBook, journal_field, unpack
from services.router.store import Receipt, ReceiptRow
from tests.unit.services.router.fakes import FIELD, RAMA_SITA, message

SEQS = st.integers(1, 40)
CONFIRMATIONS = st.lists(
    st.fixed_dictionaries(
        {"seqs": st.lists(SEQS, max_size=4), "up_to": st.one_of(st.just(0), SEQS), "read": st.booleans()}
    ),
    max_size=8,
)


def had(receipt: Receipt) -> set[int]:
    """Every seq that a receipt covers."""
    return {seq for seq in range(1, 60) if receipt.has(seq)}


@given(CONFIRMATIONS)
def test_a_confirmation_takes_nothing_back_and_adds_no_more_than_it_says(
    confirmations: list[dict[str, object]],
) -> None:
    """What was confirmed stays so, nobody gets what they did not confirm, and the change tells exactly what is new."""
    book = ReceiptBook()
    confirmed: set[int] = set()
    read = 0
    for confirmation in confirmations:
        before = book.receipt(RAMA_SITA, "sita")
        change = book.confirm(RAMA_SITA, "sita", **confirmation)  # type: ignore[arg-type]
        after = book.receipt(RAMA_SITA, "sita")
        seqs, up_to = confirmation["seqs"], confirmation["up_to"]
        assert isinstance(seqs, list)
        assert isinstance(up_to, int)
        confirmed |= {*seqs, *range(1, up_to + 1)}
        read = max(read, up_to, *seqs, 0) if confirmation["read"] else read
        assert had(after) == confirmed
        assert after.read == read
        if change is None:
            assert after == before
        else:
            assert set(change.delivered) == had(after) - had(before)
            assert change.read == tuple(range(before.read + 1, after.read + 1))


@given(CONFIRMATIONS)
def test_confirming_again_is_no_news(confirmations: list[dict[str, object]]) -> None:
    """A repeated acknowledgement tells nobody anything, and costs no write."""
    book = ReceiptBook()
    for confirmation in confirmations:
        book.confirm(RAMA_SITA, "sita", **confirmation)  # type: ignore[arg-type]
    book.take_unjournaled()
    assert all(
        book.confirm(RAMA_SITA, "sita", **confirmation) is None  # type: ignore[arg-type]
        for confirmation in confirmations
    )
    assert book.take_unjournaled() == []


@given(st.sets(SEQS), st.lists(SEQS, unique=True))
def test_the_watermark_passes_over_ones_own_messages(own: set[int], confirmed: list[int]) -> None:
    """They need no confirmation: what is left ahead begins with a gap that is someone else's message."""
    book = ReceiptBook()
    for seq in own:
        book.remember(message(seq, sender_id="sita"))
    for seq in confirmed:
        book.confirm(RAMA_SITA, "sita", seqs=[seq])
    receipt = book.receipt(RAMA_SITA, "sita")
    assert {*confirmed} <= had(receipt) <= {*confirmed, *own}
    if confirmed:
        assert receipt.delivered + 1 not in {*confirmed, *own}


def test_reading_is_delivery_of_what_was_read_alone() -> None:
    """Someone who read message 5 may still be owed message 4."""
    book = ReceiptBook()
    book.confirm(RAMA_SITA, "sita", seqs=[5], read=True)
    assert book.receipt(RAMA_SITA, "sita") == Receipt(0, 5, (5,))


def test_members_and_conversations_have_receipts_of_their_own() -> None:
    """Who confirms for themselves confirms for nobody else."""
    book = ReceiptBook()
    book.confirm(RAMA_SITA, "sita", up_to=3)
    assert book.receipt(RAMA_SITA, "rama") == Receipt()
    assert book.receipt(FIELD, "sita") == Receipt()


def test_too_many_marks_ahead_are_not_taken() -> None:
    """Beyond the bound a confirmation is not noted, and the messages come again: the receipt stays as it was."""
    book = ReceiptBook()
    most = list(range(2, module._AHEAD_MAX + 2))
    assert book.confirm(RAMA_SITA, "sita", seqs=most) is not None
    assert book.confirm(RAMA_SITA, "sita", seqs=[most[-1] + 1]) is None
    assert book.receipt(RAMA_SITA, "sita") == Receipt(0, 0, tuple(most))
    assert book.confirm(RAMA_SITA, "sita", seqs=[1]) is not None
    assert book.receipt(RAMA_SITA, "sita") == Receipt(most[-1])


def test_a_long_absence_is_told_by_its_newest() -> None:
    """A watermark over thousands of messages tells the senders of the last few."""
    book = ReceiptBook()
    change = book.confirm(RAMA_SITA, "sita", up_to=5000, read=True)
    assert change is not None
    assert change.delivered == change.read == tuple(range(5001 - module._TOLD, 5001))
    assert book.receipt(RAMA_SITA, "sita") == Receipt(5000, 5000)


# The way to the store


def test_a_change_is_journaled_once_and_owed_until_it_is_saved() -> None:
    """It goes to the broker with the next acknowledgement, and is owed to the store from then on."""
    book = ReceiptBook()
    book.confirm(RAMA_SITA, "sita", seqs=[1])
    assert book.owed() == []
    row = ReceiptRow(RAMA_SITA, "sita", Receipt(1))
    assert book.take_unjournaled() == [row]
    assert book.take_unjournaled() == []
    assert book.owed() == [row]
    assert book.unsaved == 1
    assert book.settle([row]) == [row]
    assert book.owed() == []
    assert book.unsaved == 0


def test_a_receipt_that_changed_while_it_was_saved_is_still_owed() -> None:
    """The store has the older one; the newer stays in the journal."""
    book = ReceiptBook()
    book.confirm(RAMA_SITA, "sita", seqs=[1])
    older = book.take_unjournaled()
    book.confirm(RAMA_SITA, "sita", seqs=[2])
    newer = book.take_unjournaled()
    assert book.settle(older) == []
    assert book.owed() == newer
    assert book.settle(newer) == newer


def test_receipts_of_a_conversation_that_goes_on_are_saved_now_and_then() -> None:
    """Others are not held up by it, nor are those of broadcasts, each of which is a write of its own."""
    book = ReceiptBook()
    alarm = names.broadcast("0" * 32)
    book.confirm(RAMA_SITA, "sita", seqs=[1])
    book.confirm_broadcast(alarm, "sita")
    book.settle(book.take_unjournaled(), now=100.0)
    book.confirm(RAMA_SITA, "sita", seqs=[2])
    book.confirm_broadcast(alarm, "rama")
    book.confirm("direct:lava:sita", "sita", seqs=[1])
    book.take_unjournaled()
    assert {row.conversation_id for row in book.owed(saved_before=100.0)} == {alarm, "direct:lava:sita"}
    assert {row.conversation_id for row in book.owed(saved_before=100.1)} == {alarm, "direct:lava:sita", RAMA_SITA}
    assert len(book.owed()) == book.unsaved == 3


def test_what_was_settled_is_still_known() -> None:
    """The journal is on the way to the store; the book's memory stays."""
    book = ReceiptBook()
    book.confirm(RAMA_SITA, "sita", up_to=3)
    book.settle(book.take_unjournaled())
    assert book.receipt(RAMA_SITA, "sita") == Receipt(3)


def test_a_new_owner_takes_the_journal_over() -> None:
    """What the owner before left in the broker counts, and is owed to the store."""
    before = ReceiptBook()
    before.confirm(RAMA_SITA, "sita", seqs=[2, 3], read=True)
    before.confirm(FIELD, "లక్ష్మి", up_to=7)
    journal = {before.field(row).encode(): before.pack(row.receipt) for row in before.take_unjournaled()}
    after = ReceiptBook()
    after.restore(journal)
    assert after.receipt(RAMA_SITA, "sita") == Receipt(0, 3, (2, 3))
    assert after.receipt(FIELD, "లక్ష్మి") == Receipt(7)
    assert sorted(after.owed(), key=repr) == sorted(before.owed(), key=repr)


def test_the_journal_names_whose_a_receipt_is() -> None:
    """The page of what is due reads it there, by the same field."""
    row = ReceiptRow(RAMA_SITA, "sita", Receipt(3, 2, (5, 9)))
    assert ReceiptBook.field(row) == journal_field(RAMA_SITA, "sita")
    assert unpack(ReceiptBook.pack(row.receipt)) == row.receipt


def test_what_the_store_says_joins_what_is_known() -> None:
    """A confirmation noted while the store was away, the journal, and the store's own: all count."""
    book = ReceiptBook()
    book.restore({journal_field(RAMA_SITA, "sita").encode(): ReceiptBook.pack(Receipt(0, 0, (6,)))})
    book.learn(RAMA_SITA, ["sita", "rama"], {"sita": Receipt(4, 2)})
    book.confirm(RAMA_SITA, "sita", seqs=[5])
    assert book.receipt(RAMA_SITA, "sita") == Receipt(6, 2)
    assert book.receipt(RAMA_SITA, "rama") == Receipt()


def test_the_store_is_asked_once_for_each_member() -> None:
    """Who has no receipt there is not asked for again."""
    book = ReceiptBook()
    assert book.missing(RAMA_SITA, ["sita", "rama"]) == {"sita", "rama"}
    book.learn(RAMA_SITA, ["sita", "rama"], {"sita": Receipt(4)})
    assert book.missing(RAMA_SITA, ["sita", "rama", "lata"]) == {"lata"}


def test_a_conversation_that_was_let_go_loses_nothing_unsaved() -> None:
    """The book holds a bounded number of conversations; what is on its way to the store is held besides."""
    book = ReceiptBook()
    book.confirm(RAMA_SITA, "sita", up_to=3)
    for number in range(module._CONVERSATIONS + 1):
        book.missing(f"group:{number}", [])
    assert book.receipt(RAMA_SITA, "sita") == Receipt(3)
    book.take_unjournaled()
    for number in range(module._CONVERSATIONS + 1):
        book.missing(f"group:{number}", [])
    assert book.receipt(RAMA_SITA, "sita") == Receipt(3)
    assert book.missing(RAMA_SITA, ["lata"]) == {"lata"}


class WayToTheStore(RuleBasedStateMachine):
    """Confirmations, acknowledgements, saves and changes of owner in any order."""

    saves = Bundle("saves")

    @initialize()
    def begin(self) -> None:
        self.book = ReceiptBook()
        self.confirmed: set[int] = set()
        self.acknowledged: set[int] = set()
        self.journal: dict[bytes, bytes] = {}
        self.stored = Receipt()

    @rule(seq=SEQS)
    def confirm(self, seq: int) -> None:
        self.book.confirm(RAMA_SITA, "sita", seqs=[seq])
        self.confirmed.add(seq)

    @rule()
    def acknowledge(self) -> None:
        for row in self.book.take_unjournaled():
            self.journal[self.book.field(row).encode()] = self.book.pack(row.receipt)
        self.acknowledged |= self.confirmed

    @rule(target=saves)
    def save(self) -> list[ReceiptRow]:
        rows = self.book.owed()
        for row in rows:
            self.stored = self.stored.merge(row.receipt)
        return rows

    @rule(rows=saves)
    def settle(self, rows: list[ReceiptRow]) -> None:
        for row in self.book.settle(rows):
            del self.journal[self.book.field(row).encode()]

    @rule()
    def die(self) -> None:
        """The successor has the journal and the store; what was not acknowledged is read again from the stream."""
        self.book = ReceiptBook()
        self.book.restore(self.journal)
        self.book.learn(RAMA_SITA, ["sita"], {"sita": self.stored})
        self.confirmed = set(self.acknowledged)

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        journaled = [unpack(packed) for packed in self.journal.values()]
        kept = set().union(had(self.stored), *map(had, journaled))
        assert self.acknowledged <= kept

    @invariant()
    def the_book_has_what_was_confirmed(self) -> None:
        assert had(self.book.receipt(RAMA_SITA, "sita")) == self.confirmed


test_nothing_acknowledged_is_lost_on_the_way_to_the_store = WayToTheStore.TestCase


def test_a_broadcast_with_many_readers_leaves_nothing_behind_in_the_book() -> None:
    """What is journaled and saved is forgotten; confirming again is harmless."""
    book = ReceiptBook()
    name = names.broadcast("0" * 32)
    for number in (*range(1000), 0):
        book.confirm_broadcast(name, f"user{number}")
    rows = book.take_unjournaled()
    assert rows[0] == ReceiptRow(name, "user0", Receipt(delivered=1))
    assert len(rows) == book.unsaved == 1000
    assert len(book.settle(rows)) == 1000
    assert book.unsaved == 0
    assert not book._conversations


def test_what_came_before_a_message_does_not_confirm_it() -> None:
    """It means another, that had its place before a broker was wiped. Of what is not at hand nothing is known."""
    book = ReceiptBook()
    book.remember(message(2), "10-3")
    behind = {entry: book.is_behind(RAMA_SITA, 2, entry) for entry in ("9-5", "10-2", "10-3", "10-4", "11-0")}
    assert behind == {"9-5": True, "10-2": True, "10-3": False, "10-4": False, "11-0": False}
    assert not book.is_behind(RAMA_SITA, 3, "1-0")
