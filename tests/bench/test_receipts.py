"""What members have: the next message of one, of a whole group, and out of order."""

from typing import Any

import pytest

from services.router.receipts import ReceiptBook
from services.router.store import Receipt
from tests.unit.services.router.fakes import FIELD, RAMA_SITA, message

MEMBERS = tuple(f"member{n}" for n in range(500))


@pytest.mark.benchmark(group="receipts")
def test_one_member_has_the_next_message(benchmark: Any) -> None:
    """As nearly always."""
    book = ReceiptBook()

    def fresh() -> tuple[Any, Any]:
        book.learn(RAMA_SITA, ["sita"], {})
        book.known(RAMA_SITA)["sita"] = Receipt(7)
        return (), {}

    benchmark.pedantic(lambda: book.deliver(RAMA_SITA, ("sita",), 8), setup=fresh, rounds=5000)


@pytest.mark.benchmark(group="receipts")
def test_five_hundred_members_have_the_next_message(benchmark: Any) -> None:
    """One pass."""
    book = ReceiptBook()
    book.remember(message(8, FIELD))

    def fresh() -> tuple[Any, Any]:
        book.known(FIELD).update(dict.fromkeys(MEMBERS, Receipt(7)))
        return (), {}

    benchmark.pedantic(lambda: book.deliver(FIELD, MEMBERS, 8), setup=fresh, rounds=200)


@pytest.mark.benchmark(group="receipts")
def test_one_member_confirms_out_of_order(benchmark: Any) -> None:
    """The general way."""
    book = ReceiptBook()

    def fresh() -> tuple[Any, Any]:
        book.known(RAMA_SITA)["sita"] = Receipt(7, 0, (10, 12))
        return (), {}

    benchmark.pedantic(lambda: book.deliver(RAMA_SITA, ("sita",), 8), setup=fresh, rounds=5000)
