"""Receipts merge without losing anything, in whatever order they come."""

from hypothesis import given
from hypothesis import strategies as st

from services.router.store import Receipt

SEQS = st.integers(min_value=0, max_value=12)
# Any receipt a router may hold, which merging with nothing brings into its one proper form.
RECEIPTS = st.builds(Receipt, SEQS, SEQS, st.lists(SEQS.filter(bool), max_size=8).map(tuple)).map(Receipt().merge)


@given(RECEIPTS, RECEIPTS)
def test_the_order_of_two_receipts_does_not_matter(one: Receipt, other: Receipt) -> None:
    """Merging is commutative: receipts may overtake each other."""
    assert one.merge(other) == other.merge(one)


@given(RECEIPTS, RECEIPTS, RECEIPTS)
def test_how_receipts_are_gathered_does_not_matter(one: Receipt, other: Receipt, third: Receipt) -> None:
    """Merging is associative: receipts may be gathered before they are written, or not."""
    assert one.merge(other).merge(third) == one.merge(other.merge(third))


@given(RECEIPTS, RECEIPTS)
def test_a_receipt_merged_again_changes_nothing(one: Receipt, other: Receipt) -> None:
    """Merging is idempotent: a receipt may be written twice."""
    merged = one.merge(other)
    assert merged.merge(other) == merged
    assert one.merge(one) == one


@given(RECEIPTS, RECEIPTS)
def test_a_merged_receipt_has_what_either_had_and_no_more(one: Receipt, other: Receipt) -> None:
    """Nothing confirmed is lost, nothing unconfirmed is gained, and no mark goes back."""
    merged = one.merge(other)
    assert {seq for seq in range(1, 20) if merged.has(seq)} == {
        seq for seq in range(1, 20) if one.has(seq) or other.has(seq)
    }
    assert merged.read == max(one.read, other.read)
    assert merged.delivered >= max(one.delivered, other.delivered)


@given(RECEIPTS, RECEIPTS)
def test_a_merged_receipt_is_in_its_one_proper_form(one: Receipt, other: Receipt) -> None:
    """`ahead` is sorted, without repeats, and leaves a gap to `delivered`."""
    merged = one.merge(other)
    assert list(merged.ahead) == sorted(set(merged.ahead))
    assert all(seq > merged.delivered + 1 for seq in merged.ahead)


def test_a_seq_that_closes_the_gap_is_folded_in() -> None:
    """4 delivered and 5, 7 ahead is 5 delivered and 7 ahead."""
    assert Receipt(4, 0).merge(Receipt(0, 0, (5, 7))) == Receipt(5, 0, (7,))
    assert Receipt(4, 0, (6, 7, 9)).merge(Receipt(0, 0, (5,))) == Receipt(7, 0, (9,))


def test_reading_one_message_delivers_no_other() -> None:
    """A phone that was opened on its newest message is still owed the ones before it."""
    assert Receipt(2, 1, (4,)).merge(Receipt(0, 5, (5,))) == Receipt(2, 5, (4, 5))
