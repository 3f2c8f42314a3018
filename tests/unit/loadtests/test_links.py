"""Links: how long what takes, that no byte is lost or overtakes another, and that a full one holds its sender up."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from loadtests.links import PROFILES, Lane, Link, Profile, open_lines
from tests.support.waiting import until

_HOST = "127.0.0.1"
_PLAIN = Profile(latency_s=0.1, jitter_s=0.0, down=10_000, up=10_000, loss=0.0)
_AT_ONCE = Profile(latency_s=0.0, jitter_s=0.0, down=1e9, up=1e9, loss=0.0)
_RAGGED = Profile(latency_s=0.001, jitter_s=0.001, down=4e6, up=4e6, loss=0.0)
_profiles = st.sampled_from([*PROFILES.values(), _PLAIN])
_WAIT_S = 10.0


def _link(profile: Profile, luck: random.Random | None = None) -> Link:
    return Link(profile, profile.up, luck or random.Random(1), opened_at=0.0)


# --- the link, which is pure -------------------------------------------------------------------------


def test_the_first_byte_waits_for_tcp_to_shake_hands() -> None:
    """One round trip, then its own time on the link, then the way."""
    assert _link(_PLAIN).out_at(0.0, 1000) == pytest.approx(0.2 + 0.1 + 0.1)


def test_bandwidth_is_shared_by_what_comes_at_once() -> None:
    """100 kB on 10 kB/s are ten seconds under way; what comes later is not slower for it."""
    link = _link(_PLAIN)
    assert [link.out_at(1.0, 1000) for _ in range(100)][-1] == pytest.approx(1.0 + 10.0 + 0.1)
    assert link.out_at(100.0, 1000) == pytest.approx(100.0 + 0.1 + 0.1)


@given(_profiles, st.integers(), st.lists(st.tuples(st.floats(0, 5), st.integers(1, 1400)), min_size=1, max_size=50))
def test_nothing_overtakes_and_nothing_is_faster_than_the_link(
    profile: Profile, seed: int, given_to_it: list[tuple[float, int]]
) -> None:
    """Whatever luck it has."""
    link, now, last = _link(profile, random.Random(seed)), 0.0, 0.0
    for later, size in given_to_it:
        now += later
        out = link.out_at(now, size)
        assert out >= max(last, now + size / profile.up + profile.latency_s - profile.jitter_s - 1e-9)
        last = out


@given(_profiles, st.integers())
def test_a_lost_segment_holds_up_what_is_behind_it_and_nothing_more(profile: Profile, seed: int) -> None:
    """Loss costs the time until it is sent again, once."""
    lossy = Profile(profile.latency_s, 0.0, profile.down, profile.up, loss=1.0)
    first = _link(lossy, random.Random(seed)).out_at(10.0, 100)
    assert first == pytest.approx(10.0 + 100 / profile.up + profile.latency_s + lossy.retransmit_s)


def test_worse_links_are_worse() -> None:
    """In every respect."""
    worst, middle, best = PROFILES["2g"], PROFILES["3g"], PROFILES["4g"]
    for worse, better in ((worst, middle), (middle, best)):
        assert worse.latency_s > better.latency_s
        assert worse.jitter_s > better.jitter_s
        assert worse.loss > better.loss
        assert worse.down < better.down
        assert worse.up < better.up


# --- lanes, which carry ------------------------------------------------------------------------------


class _End:
    """A transport that remembers."""

    def __init__(self) -> None:
        self.written = b""
        self.is_paused = False
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def close(self) -> None:
        self.is_closed = True


def _lanes(profile: Profile) -> tuple[Lane, Any, Lane, Any]:
    ends: list[Any] = [_End(), _End()]
    now = asyncio.get_running_loop().time()
    near, far = (Lane(Link(profile, profile.up, random.Random(1), now)) for _ in ends)
    near.connection_made(ends[0])
    far.connection_made(ends[1])
    near.join(far)
    return near, ends[0], far, ends[1]


async def test_what_one_end_takes_no_more_of_the_other_is_not_read() -> None:
    """A link holds 64 KiB and then stops reading; once it is let go, all comes out and it reads on."""
    near, near_end, far, far_end = _lanes(_AT_ONCE)
    far.pause_writing()
    sent = random.Random(1).randbytes(200_000)
    for start in range(0, len(sent), 50_000):
        if not near_end.is_paused:
            near.data_received(sent[start : start + 50_000])
    assert near_end.is_paused
    assert not far_end.written
    far.resume_writing()
    await until(lambda: far_end.written == sent[:100_000], _WAIT_S, "what was held to come out")
    assert not near_end.is_paused


async def test_who_hangs_up_is_heard_to_the_end() -> None:
    """What was said before comes out, and then the far end closes; what is under way the other way is let go."""
    near, near_end, far, far_end = _lanes(_RAGGED)
    near.data_received(b"goodbye" * 1000)
    far.data_received(b"wait")
    near.connection_lost(None)
    await until(lambda: far_end.is_closed, _WAIT_S, "the far end to close")
    assert far_end.written == b"goodbye" * 1000
    assert not near_end.written


async def test_who_says_something_before_the_server_answers_is_heard() -> None:
    """Also who has hung up by then: the call to the server, which was still under way, ends after it."""
    far_end: Any = _End()
    now = asyncio.get_running_loop().time()
    near, far = (Lane(Link(_AT_ONCE, 1e9, random.Random(1), now)) for _ in range(2))
    near.connection_made(_End())  # type: ignore[arg-type]
    near.data_received(b"hello?")
    near.connection_lost(None)
    far.connection_made(far_end)
    near.join(far)
    await until(lambda: far_end.is_closed, _WAIT_S, "the far end to close")
    assert far_end.written == b"hello?"


# --- lines, on real sockets --------------------------------------------------------------------------


class _Echo(asyncio.Protocol):
    """Says back what it is told, as fast as that is taken."""

    def __init__(self, calls: "set[_Echo]") -> None:
        self._calls = calls
        self._end: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._end = transport
        self._calls.add(self)

    def data_received(self, data: bytes) -> None:
        self._end.write(data)

    def pause_writing(self) -> None:
        self._end.pause_reading()

    def resume_writing(self) -> None:
        self._end.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._calls.discard(self)


@asynccontextmanager
async def _echo() -> AsyncIterator[int]:
    """A server, for as long as there are calls."""
    calls: set[_Echo] = set()
    server = await asyncio.get_running_loop().create_server(lambda: _Echo(calls), _HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await until(lambda: not calls, _WAIT_S, "all calls to end")


@asynccontextmanager
async def _call(address: tuple[str, int]) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.timeout(3 * _WAIT_S):
            yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_every_byte_comes_there_and_back_in_order(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Half a megabyte, in pieces of all sizes, through a ragged link; also on the loop that `make load` has."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_there_and_back(random.Random(7).randbytes(500_000)))


async def _there_and_back(sent: bytes) -> None:
    luck = random.Random(8)
    async with _echo() as port, open_lines(_RAGGED, [(_HOST, port)]) as [line], _call(line) as (reader, writer):

        async def send() -> None:
            start = 0
            while start < len(sent):
                size = luck.choice([1, 100, 1400, 1401, 30_000])
                writer.write(sent[start : start + size])
                await writer.drain()
                start += size

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            assert await reader.readexactly(len(sent)) == sent


async def test_a_call_to_nobody_ends() -> None:
    """As it would without a link."""
    async with _echo() as port:
        pass
    async with open_lines(_AT_ONCE, [(_HOST, port)]) as [line], _call(line) as (reader, _):
        assert await reader.read() == b""


async def test_calls_end_with_their_line() -> None:
    """Nobody is left hanging, at either end."""
    async with _echo() as port, AsyncExitStack() as stack:
        async with open_lines(_AT_ONCE, [(_HOST, port)]) as [line]:
            reader, writer = await stack.enter_async_context(_call(line))
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
        assert await reader.read() == b""
