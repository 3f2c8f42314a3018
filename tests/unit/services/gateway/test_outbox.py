"""An outbox holds so many bytes, and says when they are reached."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.outbox import Outbox, Overflow


class Text:
    """A packet."""

    def __init__(self, data: object) -> None:
        self.data = data

    def encode(self) -> str:
        """As it goes on the socket."""
        return str(self.data)


@given(st.lists(st.text(max_size=300), max_size=30))
def test_what_waits_never_exceeds_the_bound_and_comes_out_in_order(texts: list[str]) -> None:
    """What overflows is not taken; what was taken is all there."""
    outbox, taken = Outbox(2_000), []
    for text in texts:
        try:
            outbox.put_nowait(Text(text))
        except Overflow:
            assert outbox.waiting_bytes + len(text) + 64 > 2_000
        else:
            taken.append(text)
        assert outbox.waiting_bytes <= 2_000
    out = [packet.data for _ in taken if (packet := outbox.get_nowait()) is not None]
    assert out == taken
    assert outbox.waiting_bytes == 0


def test_the_end_always_fits() -> None:
    """A full outbox can still be closed."""
    outbox = Outbox(100)
    outbox.put_nowait(Text("x" * 36))
    with pytest.raises(Overflow):
        outbox.put_nowait(Text(""))
    outbox.put_nowait(None)
    assert outbox.get_nowait() is not None
    assert outbox.get_nowait() is None


def test_what_has_no_text_costs_its_object() -> None:
    """A ping is not free."""
    outbox = Outbox(1_000)
    outbox.put_nowait(Text(None))
    assert outbox.waiting_bytes > 0


async def test_who_waits_is_woken() -> None:
    """It is a queue like any other."""
    outbox = Outbox(1_000)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(outbox.get())
        await asyncio.sleep(0)
        outbox.put_nowait(Text("x"))
    packet = waiting.result()
    assert packet is not None
    assert packet.encode() == "x"


@given(
    st.lists(st.text(max_size=5), max_size=5),
    st.lists(st.tuples(st.sampled_from(["put", "first", "get"]), st.integers()), max_size=40),
)
def test_what_is_put_first_overtakes_all_but_its_own_kind_and_how_a_connection_begins(
    greeting: list[str], steps: list[tuple[str, int]]
) -> None:
    """The model is three queues, emptied one after another."""
    outbox = Outbox(1 << 20)
    beginning: list[object] = list(greeting)
    urgent: list[object] = []
    rest: list[object] = []
    for text in greeting:
        outbox.put_nowait(Text(text))
    outbox.set_barrier()
    for step, number in steps:
        if step == "put":
            outbox.put_nowait(Text(number))
            rest.append(number)
        elif step == "first":
            outbox.put_first_nowait(Text(number))
            urgent.append(number)
        elif waiting := beginning or urgent or rest:
            packet = outbox.get_nowait()
            assert packet is not None
            assert packet.data == waiting.pop(0)
    assert outbox.qsize() == len(beginning) + len(urgent) + len(rest)


def test_a_full_outbox_takes_nothing_first_either() -> None:
    """The phone does not read: it is closed, and the broadcast stays due."""
    outbox = Outbox(100)
    outbox.put_nowait(Text("x" * 36))
    with pytest.raises(Overflow):
        outbox.put_first_nowait(Text(""))
    outbox.put_nowait(None)
    assert outbox.qsize() == 2
