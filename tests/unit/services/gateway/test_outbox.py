"""An outbox holds so many bytes, and says when they are reached."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.engine.packets import CLOSE, PING, Packet
from services.gateway.outbox import Outbox, Overflow


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_what_waits_never_exceeds_the_bound_and_comes_out_in_order(texts: list[bytes]) -> None:
    """What overflows is not taken; what was taken is all there."""
    outbox, taken = Outbox(2_000), []
    for text in texts:
        try:
            outbox.put_nowait(Packet(text))
        except Overflow:
            assert outbox.waiting_bytes + len(text) + 64 > 2_000
        else:
            taken.append(text)
        assert outbox.waiting_bytes <= 2_000
    assert [outbox.get_nowait().body for _ in taken] == taken
    assert outbox.waiting_bytes == 0


def test_the_end_always_fits() -> None:
    """A full outbox can still be closed."""
    outbox = Outbox(100)
    outbox.put_nowait(Packet(b"x" * 36))
    with pytest.raises(Overflow):
        outbox.put_nowait(Packet(b""))
    outbox.put_last_nowait(CLOSE)
    assert [outbox.get_nowait().body, outbox.get_nowait().body] == [b"x" * 36, CLOSE.body]
    assert (len(outbox), outbox.waiting_bytes) == (0, 0)


def test_what_has_no_text_costs_its_object() -> None:
    """A ping is not free."""
    outbox = Outbox(1_000)
    outbox.put_nowait(Packet(b""))
    assert outbox.waiting_bytes > 0


def test_what_is_cleared_makes_room() -> None:
    """And nothing of it is left to overtake."""
    outbox = Outbox(200)
    for _ in range(2):
        outbox.put_nowait(PING)
    outbox.set_barrier()
    outbox.clear()
    assert (len(outbox), outbox.waiting_bytes) == (0, 0)
    outbox.put_nowait(PING)
    outbox.put_first_nowait(CLOSE)
    assert outbox.get_nowait() is CLOSE


@given(
    st.lists(st.binary(max_size=5), max_size=5),
    st.lists(st.tuples(st.sampled_from(["put", "first", "get"]), st.binary(max_size=5)), max_size=40),
)
def test_what_is_put_first_overtakes_all_but_its_own_kind_and_how_a_connection_begins(
    greeting: list[bytes], steps: list[tuple[str, bytes]]
) -> None:
    """The model is three queues, emptied one after another."""
    outbox = Outbox(1 << 20)
    beginning, urgent, rest = list(greeting), list[bytes](), list[bytes]()
    for text in greeting:
        outbox.put_nowait(Packet(text))
    outbox.set_barrier()
    for step, text in steps:
        if step == "put":
            outbox.put_nowait(Packet(text))
            rest.append(text)
        elif step == "first":
            outbox.put_first_nowait(Packet(text))
            urgent.append(text)
        elif waiting := beginning or urgent or rest:
            assert outbox.get_nowait().body == waiting.pop(0)
    assert len(outbox) == len(beginning) + len(urgent) + len(rest)


def test_a_full_outbox_takes_nothing_first_either() -> None:
    """The phone does not read: it is closed, and the broadcast stays due."""
    outbox = Outbox(100)
    outbox.put_nowait(Packet(b"x" * 36))
    with pytest.raises(Overflow):
        outbox.put_first_nowait(Packet(b""))
    outbox.put_last_nowait(CLOSE)
    assert len(outbox) == 2
