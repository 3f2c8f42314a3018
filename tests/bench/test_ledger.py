"""What a router writes into the ledger, and what its auditor reads of it: by message, in batches of forty."""

from typing import Any

import pytest

from services.router import ledger
from services.router.ledger import Notes
from tests.unit.services.router.fakes import RAMA_SITA, message

MESSAGES = [message(seq) for seq in range(1, 41)]


def written(notes: Notes) -> list[bytes]:
    """The lines of a batch that is given its places."""
    return [notes.placed(one.key, RAMA_SITA, None, is_anonymous=False) for one in MESSAGES]


def settled(notes: Notes) -> bytes:
    """The line of a batch that went through, and was confirmed."""
    for one in MESSAGES:
        notes.done(one, "g1", took_ms=1000, read_ms=1003, saved_ms=1010, published_ms=1012, told=1)
        notes.confirmed(one, ("sita",), "g2", 1100)
    return notes.take_settled()


@pytest.mark.benchmark(group="the ledger, forty messages")
def test_forty_messages_are_written_down(benchmark: Any) -> None:
    """Both lines, packed."""
    notes = Notes(200)
    benchmark(lambda: (written(notes), settled(notes)))


@pytest.mark.benchmark(group="the ledger, forty messages")
def test_forty_messages_are_read(benchmark: Any) -> None:
    """By the auditor, and by whoever is asked for one of them."""
    notes = Notes(200)
    reply = [
        (b"1-0", dict.fromkeys(written(notes), b"7")),
        (b"2-0", {ledger.SETTLED: settled(notes)}),
    ]
    assert len(benchmark(lambda: ledger.read(reply)).entered) == len(MESSAGES)
