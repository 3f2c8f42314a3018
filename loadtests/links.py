"""Phone lines for servers that know only loopback: a TCP proxy with the latency, bandwidth and loss of 2G, 3G or 4G.

    python -m loadtests.links 3g 127.0.0.1:3001 127.0.0.1:3002 --port 4001      3001 by way of 4001, 3002 by 4002

Each connection is a phone of its own with a link of its own. TCP loses no bytes, so neither does this: where the radio
loses a segment, the connection stands still until it is sent again. A link holds about `_HELD_BYTES` each way; then it
reads no further, and who sends feels it, as with a full radio queue.

No task and no timer a chunk: what is under way waits in a queue with one timer for its head.
"""

import argparse
import asyncio
import random
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, cast
from weakref import WeakSet

from msgspec import Struct

from libs import lifecycle

_HOST: Final = "127.0.0.1"
# What a radio queue holds: seconds of 2G, a blink of 4G.
_HELD_BYTES: Final = 65_536
_RESUME_BYTES: Final = _HELD_BYTES // 4
# The payload of a TCP segment on mobile networks, about.
_SEGMENT_BYTES: Final = 1_400
# Linux sends again after round trip and variance, and never sooner than this.
_SOONEST_RETRANSMIT_S: Final = 0.2
_BACKLOG: Final = 4096

Address = tuple[str, int]


class Profile(Struct, frozen=True):
    """A kind of link, seen from the phone: one way takes `latency_s`, give or take `jitter_s`; bandwidth in bytes/s."""

    latency_s: float
    jitter_s: float
    down: float
    up: float
    loss: float
    """The part of all segments that the radio loses, each way."""

    @property
    def round_trip_s(self) -> float:
        """There and back, without jitter."""
        return 2 * self.latency_s

    @property
    def retransmit_s(self) -> float:
        """How long a lost segment holds the connection up: chat is short, nothing follows that would tell sooner."""
        return max(_SOONEST_RETRANSMIT_S, self.round_trip_s + 4 * self.jitter_s)


# Bandwidth and round trip are those of WebPageTest: `Edge` (240/200 kbit/s, 840 ms) and `3G` (1.6 Mbit/s and 768
# kbit/s, 300 ms) of its connectivity.ini.sample, and 4G (9 Mbit/s, 170 ms) of its public instance. It has no loss and
# no jitter; these are ours, to be on the bad side: a village at the edge of a cell.
PROFILES: Final = {
    "2g": Profile(latency_s=0.420, jitter_s=0.100, down=30_000, up=25_000, loss=0.02),
    "3g": Profile(latency_s=0.150, jitter_s=0.040, down=200_000, up=96_000, loss=0.01),
    "4g": Profile(latency_s=0.085, jitter_s=0.015, down=1_125_000, up=1_125_000, loss=0.001),
}


class Link:
    """One way of one connection: when what is given to it at a time comes out at the other end. Pure."""

    def __init__(self, profile: Profile, bytes_per_s: float, luck: random.Random, opened_at: float) -> None:
        self._profile = profile
        self._bytes_per_s = bytes_per_s
        self._luck = luck
        # TCP's own handshake is a round trip before the first byte.
        self._free_at = opened_at + profile.round_trip_s
        self._last_out = 0.0

    def out_at(self, now: float, size: int) -> float:
        """When `size` bytes, at most a segment, that are given now are out. Never before what was given before."""
        self._free_at = max(self._free_at, now) + size / self._bytes_per_s
        profile = self._profile
        out = self._free_at + profile.latency_s + self._luck.uniform(-profile.jitter_s, profile.jitter_s)
        if self._luck.random() < profile.loss:
            out += profile.retransmit_s
        self._last_out = max(self._last_out, out)
        return self._last_out


class Lane(asyncio.Protocol):
    """Reads one end of a connection and writes to the other, its `Link` in between."""

    def __init__(self, link: Link, connected: Callable[["Lane"], None] | None = None) -> None:
        self._link = link
        self._connected = connected
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_reading = True
        self.is_blocked = False
        self.is_over = False
        self.end: asyncio.Transport | None = None
        self.far: Lane | None = None

    def join(self, other: "Lane") -> None:
        """The two lanes of a connection, both of whose ends are there: what came meanwhile may come out."""
        self.far, other.far = other, self
        self.wait()
        other.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """This end is there."""
        self.end = cast(asyncio.Transport, transport)  # a stream's; uvloop's does not derive from it
        if self._connected is not None:
            self._connected(self)

    def data_received(self, data: bytes) -> None:
        """Put it under way, or away if nobody is there to take it."""
        if self.far is not None and self.far.is_over:
            return
        now = self._loop.time()
        for start in range(0, len(data), _SEGMENT_BYTES):
            segment = data[start : start + _SEGMENT_BYTES]
            self._under_way.append((self._link.out_at(now, len(segment)), segment))
        self._held += len(data)
        self._read_or_pause()
        self.wait()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """This end has gone. What came from it still comes out at the other, which then goes too."""
        self.is_over = True
        if self.far is not None:
            self.far.forget()
        self.wait()

    def pause_writing(self) -> None:
        """This end takes no more for now."""
        if self.far is not None:
            self.far.is_blocked = True

    def resume_writing(self) -> None:
        """It does again."""
        if self.far is not None:
            self.far.is_blocked = False
            self.far.wait()

    def close(self) -> None:
        """Let this end go."""
        if self.end is not None:
            self.end.close()

    def forget(self) -> None:
        """What is under way: nobody is there to take it."""
        self._under_way.clear()
        self._held = 0

    def wait(self) -> None:
        """For the head of the queue to be due; once all is out and nothing more can come, close the far end."""
        if self._timer is not None or self.is_blocked or self.far is None:
            return
        if self._under_way:
            self._timer = self._loop.call_at(self._under_way[0][0], self._come_out)
        elif self.is_over:
            self.far.close()

    def _read_or_pause(self) -> None:
        if self.end is None or self.is_over:
            return
        if self._is_reading and self._held > _HELD_BYTES:
            self._is_reading = False
            self.end.pause_reading()
        elif not self._is_reading and self._held <= _RESUME_BYTES:
            self._is_reading = True
            self.end.resume_reading()

    def _come_out(self) -> None:
        self._timer = None
        if self.is_blocked:
            return
        # A loop's clock counts in milliseconds: what is due within this one comes out with the rest.
        now, out = self._loop.time() + 0.001, []
        while self._under_way and self._under_way[0][0] <= now:
            out.append(self._under_way.popleft()[1])
        if out and self.far is not None and self.far.end is not None:
            chunk = b"".join(out)
            self._held -= len(chunk)
            self.far.end.write(chunk)
        self._read_or_pause()
        self.wait()


class Lines:
    """Calls that come in at a port go by a link to a server."""

    def __init__(self, profile: Profile, tasks: asyncio.TaskGroup) -> None:
        self._profile = profile
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._luck = random.Random()
        # Those that are open: their transports hold them.
        self._lanes: WeakSet[Lane] = WeakSet()

    async def listen(self, server: Address, port: int) -> asyncio.Server:
        """Take calls for `server` at `port`, or at any that is free if it is 0."""

        def answer() -> Lane:
            return Lane(self._link(self._profile.up), lambda lane: self._connect_later(lane, server))

        return await self._loop.create_server(answer, _HOST, port, backlog=_BACKLOG)

    def close(self) -> None:
        """End all calls."""
        for lane in list(self._lanes):
            lane.close()

    def _connect_later(self, near: Lane, server: Address) -> None:
        self._lanes.add(near)
        self._tasks.create_task(self._connect(near, server))

    async def _connect(self, near: Lane, server: Address) -> None:
        try:
            _, far = await self._loop.create_connection(lambda: Lane(self._link(self._profile.down)), *server)
        except OSError:  # a phone that calls a server that is not there hears as much
            near.close()
            return
        self._lanes.add(far)
        near.join(far)

    def _link(self, bytes_per_s: float) -> Link:
        return Link(self._profile, bytes_per_s, self._luck, self._loop.time())


@asynccontextmanager
async def open_lines(profile: Profile, servers: Sequence[Address], first_port: int = 0) -> AsyncIterator[list[Address]]:
    """Where to reach each of `servers` by links of this kind: at ports from `first_port` on, or at any if it is 0."""
    async with asyncio.TaskGroup() as tasks:
        lines = Lines(profile, tasks)
        listening = [
            await lines.listen(server, first_port + index if first_port else 0) for index, server in enumerate(servers)
        ]
        try:
            yield [each.sockets[0].getsockname() for each in listening]
        finally:
            for each in listening:
                each.close()
            lines.close()


async def _serve(profile: Profile, servers: Sequence[Address], first_port: int, stop: asyncio.Event) -> None:
    lifecycle.raise_file_limit()
    async with open_lines(profile, servers, first_port) as addresses:
        for (host, port), (to_host, to_port) in zip(addresses, servers, strict=True):
            sys.stdout.write(f"{host}:{port} → {to_host}:{to_port}\n")
        sys.stdout.flush()
        await stop.wait()


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no address, such as 127.0.0.1:3001.")
    return host, int(port)


def main() -> None:
    """Read the arguments, serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", choices=sorted(PROFILES), help="the kind of link")
    parser.add_argument("servers", metavar="HOST:PORT", nargs="+", type=_address, help="who is at the far end")
    parser.add_argument("--port", type=int, default=4001, help="the first port to take calls at (default 4001)")
    given = parser.parse_args()
    lifecycle.run(partial(_serve, PROFILES[given.profile], given.servers, given.port))


if __name__ == "__main__":
    main()
