"""What a packet costs that waits for a slow phone, or for a poll."""

from pytest_benchmark.fixture import BenchmarkFixture

from services.gateway import packets
from services.gateway.outbox import Outbox

_MANY = 100
_PACKET = packets.event("new_message", b'{"id":"m","content":"%b"}' % (b"x" * 300), 7)


def test_packets_in_and_out(benchmark: BenchmarkFixture) -> None:
    """A hundred, in order."""
    outbox = Outbox(1 << 20)

    def pass_through() -> None:
        for _ in range(_MANY):
            outbox.put_nowait(_PACKET)
        for _ in range(_MANY):
            outbox.get_nowait()

    benchmark(pass_through)
    assert (len(outbox), outbox.waiting_bytes) == (0, 0)


def test_urgent_packets_ahead_of_a_hundred(benchmark: BenchmarkFixture) -> None:
    """Ten broadcasts, for a phone that has much to read."""
    outbox = Outbox(1 << 20)
    for _ in range(_MANY):
        outbox.put_nowait(_PACKET)

    def overtake() -> None:
        for _ in range(10):
            outbox.put_first_nowait(_PACKET)
        for _ in range(10):
            outbox.get_nowait()

    benchmark(overtake)
    assert len(outbox) == _MANY
