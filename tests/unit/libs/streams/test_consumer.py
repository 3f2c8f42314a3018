"""Where a reader goes on."""

from hypothesis import given
from hypothesis import strategies as st

from libs.streams import consumer


@given(st.integers(min_value=0, max_value=1 << 48), st.integers(min_value=0, max_value=1 << 62))
def test_after_is_the_next_id_there_can_be(ms: int, number: int) -> None:
    """Trimming to it drops the entry itself, and nothing behind it."""
    after_ms, _, after_number = consumer.after(f"{ms}-{number}").partition("-")
    assert (int(after_ms), int(after_number)) == (ms, number + 1)


def test_before_the_first_entry_is_the_beginning() -> None:
    """A reader starts at 0, never at what is newest."""
    assert consumer.BEGINNING == "0-0"
    assert consumer.after(consumer.BEGINNING) == "0-1"
