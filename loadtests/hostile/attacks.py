"""What an attacker does, until he is stopped; he counts what he managed, and what he was refused with.

    python -m loadtests.hostile.attacks NAME URL,URL SECONDS NICE < tokens, a line each

Tokens are those of people who are registered, for attacks from within. He comes from addresses of his own, with a
lower priority than those he attacks: on a machine that he shares with them his own CPU must not be the attack.

Over 400 lines: it is a list of attacks, each a method that needs no other.
"""

import asyncio
import gzip
import json
import os
import signal
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import count
from typing import Any, Final

import uvloop

from libs.lifecycle import raise_file_limit
from loadtests import websocket
from loadtests.hostile.line import Line, Turned
from loadtests.processes import set_nice
from loadtests.websocket import masked

# Who gets no CPU to stop by himself is stopped then.
_OVERTIME_S: Final = 20
# An attack has so many.
_ADDRESSES: Final = 4_000
# Bad sign-ins a second, all sockets together.
_SIGN_INS: Final = 5_000
_HALF_A_HEAD: Final = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nX-Slow: "
_POLLING: Final = "/socket.io/?EIO=4&transport=polling"
_DEFLATE: Final = "sec-websocket-extensions: permessage-deflate"
_FRAGMENT: Final = 0x00
_BEGINNING: Final = 0x01
_COMPRESSED: Final = 0xC1
_BINARY: Final = 0x82
_PAUSE_S: Final = 0.2
# Sockets at the same time, where it matters little how many.
_FEW: Final = 8
_BURST: Final = 100
_BOMB: Final = 16 << 20
_LONG: Final = b'42["%b",{}]' % (b"n" * 60_000)
_EVENT: Final = b'42["heartbeat",{"clientTime":1}]'


def _deflated(body: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    return (deflater.compress(body) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


# Frames that are none, or none that may come: each closes its socket.
_MALFORMED: Final = (
    masked(b"4\xff\xfe"),
    masked(b"4x", 0xA1),
    masked(b"4x", 0xC1),
    masked(b"x", 0x83),
    masked(b"x" * 126, websocket.PING),
    masked(b"\x03", websocket.CLOSE),
    masked(b"x", 0x80),
    b"\x81\xff" + b"\xff" * 8 + b"mask",
    b"\x81\x0240",
    masked(b"4" + b"x" * 70_000),
    masked(b"x"),
    masked(b"47"),
    masked(b'451000000000-["x"]'),
    masked(b"42" + b"[" * 60_000),
)


class Attacker:
    """One attacker. `tokens` are of people who are registered; `did` is what he managed, by what came of it."""

    def __init__(self, name: str, urls: Sequence[str], tokens: Sequence[str]) -> None:
        self.urls = urls
        self.auths = [json.dumps({"token": token}) for token in tokens]
        self.did: Counter[str] = Counter()
        self._numbers = count(list(ATTACKS).index(name) * _ADDRESSES)

    def address(self) -> str:
        """One that neither he nor another attacker has come from: limits are a minute's."""
        number = next(self._numbers)
        return f"127.{66 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"

    async def many(self, number: int, work: Callable[[str], Awaitable[None]]) -> None:
        """So many at the same time, each from an address of its own, each again and again."""

        async def one(address: str) -> None:
            while True:
                try:
                    await work(address)
                except Turned as turned:
                    self.did[str(turned)] += 1
                    if str(turned) in ("HTTP 429", "not connected"):
                        await asyncio.sleep(_PAUSE_S)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(number):
                tasks.create_task(one(self.address()))

    async def post(self, line: Line, path: str, head: str, body: bytes) -> None:
        """A request on a connection; its status counts."""
        self.writer(line, f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body)
        self.did[f"HTTP {await line.status()}"] += 1

    def writer(self, line: Line, data: bytes) -> None:
        """Write, and do not wait until it is taken."""
        line.writer.write(data)

    async def open(self, line: Line) -> str:
        """The path of a new session that is polled. Raises `Turned`."""
        await line.send(f"GET {_POLLING} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        body = await line.body()
        if not body.startswith(b"0{"):
            raise Turned("HTTP 429")
        return f"{_POLLING}&sid={json.loads(body[1:])['sid']}"

    # --- connections ---------------------------------------------------------------------------------

    async def half_open(self) -> None:
        """1,000 connections of two addresses send half a head, and a byte now and then; again when they are closed."""
        shared = (self.address(), self.address())
        numbers = count()

        async def hold(_: str) -> None:
            async with Line.dial(self.urls[0], shared[next(numbers) % 2]) as line:
                self.did["opened"] += 1
                await line.send(_HALF_A_HEAD)
                while not line.reader.at_eof():
                    await line.send(b"x")
                    await asyncio.sleep(1)
                raise Turned("cut off")

        await self.many(1_000, hold)

    async def silent_sockets(self) -> None:
        """WebSockets that never join, as many as 50 addresses may open; a byte of a frame a second."""

        async def hold(address: str) -> None:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(20):
                    tasks.create_task(one(address))

        async def one(address: str) -> None:
            try:
                async with Line.dial(self.urls[0], address) as line:
                    await line.shake()
                    self.did["opened"] += 1
                    for byte in masked(b"4" + b"x" * 60_000):
                        await line.send(bytes([byte]))
                        await asyncio.sleep(1)
            except Turned as turned:
                self.did[str(turned)] += 1

        await self.many(50, hold)

    # --- floods --------------------------------------------------------------------------------------

    async def _flood(self, frames: bytes, number_of: int, first: bytes = b"") -> None:
        users = iter(range(1 << 30))

        async def flood(address: str) -> None:
            async with Line.dial(self.urls[0], address) as line, asyncio.TaskGroup() as tasks:
                await line.sign_in(self.auths[next(users) % len(self.auths)])
                reading = tasks.create_task(_ended(line))
                line.writer.write(first)
                try:
                    while not reading.done():
                        await line.send(frames)
                        self.did["frames written"] += number_of
                except ConnectionError:
                    pass
                raise Turned(await reading)

        await self.many(_FEW, _unwrapped(flood))

    async def events(self) -> None:
        """Eight who are signed in send events as fast as they are taken."""
        await self._flood(masked(_EVENT) * _BURST, _BURST)

    async def large_frames(self) -> None:
        """The same with events of 60 KB, of a name that is none."""
        await self._flood(masked(_LONG), 1)

    async def pings(self) -> None:
        """The same with pings of the WebSocket, each of which would be answered."""
        await self._flood(masked(b"x" * 100, websocket.PING) * _BURST, _BURST)

    async def fragments(self) -> None:
        """The same with a message that never ends, in fragments of no bytes."""
        await self._flood(masked(b"", _FRAGMENT) * 10_000, 10_000, masked(b"4", _BEGINNING))

    async def attachments(self) -> None:
        """The same with events that announce binary attachments, which come or do not."""
        await self._flood((masked(b'459999-["heartbeat",{}]') + masked(b"x", _BINARY)) * _BURST, 2 * _BURST)

    # --- what is malformed, or too large ---------------------------------------------------------------

    async def malformed(self) -> None:
        """Every malformation, each on a socket of its own."""
        numbers = count()

        async def say(address: str) -> None:
            async with Line.dial(self.urls[0], address) as line:
                await line.shake()
                await line.send(_MALFORMED[next(numbers) % len(_MALFORMED)])
                await line.end()

        await self.many(4 * _FEW, say)

    async def bombs(self) -> None:
        """16 MB that are 16 KB on their way: in a frame, and in a post."""
        bomb, zipped = masked(_deflated(b"4" + bytes(_BOMB)), _COMPRESSED), gzip.compress(b"4" + bytes(_BOMB))

        async def drop(address: str) -> None:
            async with Line.dial(self.urls[0], address) as line:
                path = await self.open(line)
                await self.post(line, path, f"Content-Encoding: gzip\r\nContent-Length: {len(zipped)}", zipped)
            async with Line.dial(self.urls[0], address) as line:
                await line.shake(_DEFLATE)
                await line.send(bomb)
                await line.end()

        await self.many(_FEW, drop)

    async def large_posts(self) -> None:
        """10 MB to a session that is polled, in one body or in chunks."""
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        numbers = count()

        async def post(address: str) -> None:
            async with Line.dial(self.urls[0], address) as line:
                path = await self.open(line)
                if next(numbers) % 2:
                    await self.post(line, path, f"Content-Length: {10 << 20}", bytes(10 << 20))
                else:
                    await self.post(line, path, "Transfer-Encoding: chunked", chunk * 160)

        await self.many(_FEW, post)

    async def heads(self) -> None:
        """64 KB of headers, again and again."""
        head = "".join(f"X-{number}: {'x' * 1_000}\r\n" for number in range(65))

        async def ask(address: str) -> None:
            async with Line.dial(self.urls[0], address) as line:
                await line.send(f"GET {_POLLING} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
                self.did[f"HTTP {await line.status()}"] += 1

        await self.many(_FEW, ask)

    # --- who is not who he says ------------------------------------------------------------------------

    async def origins(self) -> None:
        """Handshakes from a page that is not the app's."""

        async def ask(address: str) -> None:
            async with Line.dial(self.urls[0], address) as line:
                await line.shake("origin: https://evil.example")

        await self.many(_FEW, ask)

    async def strange_sessions(self) -> None:
        """Polls of sessions that never were, of the other gateway: each is passed on to it."""
        async with Line.dial(self.urls[1], self.address()) as line:
            other = (await self.open(line)).partition("sid=")[2].partition(".")[0]

        async def ask(address: str) -> None:
            async with Line.dial(self.urls[0], address) as line:
                for number in count():
                    path = f"{_POLLING}&sid={other}.{number:024}"
                    await line.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n".encode())
                    self.did[f"HTTP {await line.status()}"] += 1

        await self.many(_FEW, ask)

    async def bad_sign_ins(self) -> None:
        """5,000 sign-ins a second from 250 addresses, with tokens that are well-formed and signed by nobody."""
        await self._sign_in(250)

    async def bad_sign_ins_of_few(self) -> None:
        """The same from four addresses, which soon have had enough."""
        await self._sign_in(4)

    async def _sign_in(self, addresses: int) -> None:
        shared, sockets = [self.address() for _ in range(addresses)], 250
        numbers, began = count(), time.perf_counter()
        bad = masked(b"40" + (self.auths[0][:-10] + 'AAAAAAAA"}').encode())

        async def try_(_: str) -> None:
            async with Line.dial(self.urls[0], shared[next(numbers) % addresses]) as line:
                await line.shake()
                while True:
                    self.did["tried"] += 1
                    late_s = began + self.did["tried"] / _SIGN_INS - time.perf_counter()
                    await asyncio.sleep(max(0.0, late_s))
                    await line.send(bad)
                    said = await line.next()
                    self.did[json.loads(said[2:])["data"]["code"] if said.startswith(b"44") else "let in"] += 1

        await self.many(sockets, try_)

    # --- who does not read -----------------------------------------------------------------------------

    async def deaf_phones(self) -> None:
        """Three phones read nothing, while accomplices write 16 KB to each as fast as they may; then they read on."""
        names = [f"m{number}" for number in range(3)]
        letter = b'42["send_message",{"clientId":"%d-%d","type":"text","content":"%b","recipientId":"%b"}]'

        async def listen(number: int) -> None:
            async with Line.dial(self.urls[1], self.address(), is_small=True) as line:
                await line.sign_in(self.auths[number])
                line.writer.transport.pause_reading()  # type: ignore[attr-defined] # it has sockets beneath
                await asyncio.sleep(4)
                line.writer.transport.resume_reading()  # type: ignore[attr-defined] # it has sockets beneath
                await line.end()

        async def write(number: int) -> None:
            async with Line.dial(self.urls[0], self.address()) as line, asyncio.TaskGroup() as tasks:
                await line.sign_in(self.auths[3 + number % (len(self.auths) - 3)])
                tasks.create_task(_ended(line))
                for each in count():
                    to = names[each % len(names)].encode()
                    said = letter % (time.perf_counter_ns(), number, b"x" * 15_000, to)
                    await line.send(masked(said))
                    self.did["messages"] += 1
                    await asyncio.sleep(0.05)

        async def again(work: Callable[[int], Coroutine[Any, Any, None]], number: int) -> None:
            while True:
                try:
                    await work(number)
                except* Turned as group:
                    self.did[f"a deaf one {group.exceptions[0]}"] += work is listen

        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(again(listen, number))
            for number in range(7):
                tasks.create_task(again(write, number))


def _unwrapped(work: Callable[[str], Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
    """What a task group wraps around how a line ended is nobody's business."""

    async def done(address: str) -> None:
        how = "cut off"
        try:
            await work(address)
        except* Turned as group:
            how = str(group.exceptions[0])
        raise Turned(how)

    return done


async def _ended(line: Line) -> str:
    try:
        await line.end()
    except Turned as turned:
        return str(turned)
    except OSError:
        pass
    return "cut off"


ATTACKS: Final[dict[str, Callable[[Attacker], Awaitable[None]]]] = {
    "half-open": Attacker.half_open,
    "silent-sockets": Attacker.silent_sockets,
    "deaf-phones": Attacker.deaf_phones,
    "events": Attacker.events,
    "large-frames": Attacker.large_frames,
    "pings": Attacker.pings,
    "fragments": Attacker.fragments,
    "attachments": Attacker.attachments,
    "malformed": Attacker.malformed,
    "bombs": Attacker.bombs,
    "large-posts": Attacker.large_posts,
    "heads": Attacker.heads,
    "origins": Attacker.origins,
    "strange-sessions": Attacker.strange_sessions,
    "bad-sign-ins": Attacker.bad_sign_ins,
    "bad-sign-ins-of-few": Attacker.bad_sign_ins_of_few,
}


async def attack(name: str, urls: Sequence[str], seconds: float, tokens: Sequence[str]) -> None:
    """Attack for so long, tell what came of it, and be gone: what is cancelled in a thousand places may not end."""
    attacker = Attacker(name, urls, tokens)

    def end() -> None:
        json.dump(attacker.did, sys.stdout)
        sys.stdout.flush()
        os._exit(0)

    asyncio.get_running_loop().call_later(seconds, end)
    await ATTACKS[name](attacker)


if __name__ == "__main__":
    os.setsid()
    _, _name, _urls, _seconds, _nice = sys.argv
    set_nice(os.getpid(), int(_nice))
    signal.alarm(int(float(_seconds)) + _OVERTIME_S)
    raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as _runner:
        _runner.run(attack(_name, _urls.split(","), float(_seconds), sys.stdin.read().split()))
