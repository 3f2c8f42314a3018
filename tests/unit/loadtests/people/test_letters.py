"""What stands in a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.wire.events import MAX_CLIENT_ID_CHARS
from loadtests.people.letters import Letter

_targets = st.sampled_from(["d", "g50-3", "g500-12", "v7"])


@given(_targets, st.integers(1, 10**6), st.integers(1, 10**9), st.floats(0, 2**32))
def test_whoever_gets_a_letter_reads_what_was_written(target: str, sender: int, number: int, sent_at: float) -> None:
    """To the microsecond, in a key that is short enough to be a `clientId`."""
    letter = Letter("a1b2c3", target, sender, number, sent_at)
    read = Letter.read(letter.key)
    assert read is not None
    assert read[:4] == letter[:4]
    assert read.sent_at == pytest.approx(sent_at, abs=1e-6)
    assert len(letter.key) <= MAX_CLIENT_ID_CHARS


@pytest.mark.parametrize("key", ["", "hello", "a.b.c", "a.d.x.1.5", "a.d.1.1.x", "a.d.1.1.5.6"])
def test_what_somebody_else_wrote_is_no_letter(key: str) -> None:
    """It is left alone."""
    assert Letter.read(key) is None
