"""Several swarms, each in a process of its own: more sockets than one process may open, or one core can serve.

    async with open_fleet(3) as fleet:
        await fleet.connect(people)
        sent = await fleet.send(pairs(people), rate=2500, seconds=60)

It does what a `Swarm` does, in the same words. People are dealt out in blocks, one a process, and arrivals are
counted by who sent: those who write to each other must be in one block (see `blocks`). A request is a line of
JSON on a swarm's standard input, its answer one on its output, under the same number.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final, TypeVar

import msgspec
import uvloop
from msgspec import Struct

from loadtests.letters import Letter
from loadtests.phone import Person
from loadtests.swarm import TALOWA, Swarm, open_swarm
from loadtests.tallies import Sent, SignIns

# A line holds a block of people with their tokens, or the times of all messages.
_LINE_BYTES: Final = 1 << 28
Answer = TypeVar("Answer")


class Connect(Struct, frozen=True, tag=True):
    people: list[Person]
    at_once: int


class Resume(Struct, frozen=True, tag=True):
    at_once: int


class SignOut(Struct, frozen=True, tag=True):
    pass


class ComeBackTo(Struct, frozen=True, tag=True):
    urls: list[str]
    heeds: float


class Send(Struct, frozen=True, tag=True):
    letters: list[Letter]
    rate: float
    seconds: float
    patience_s: float


class Enough(Struct, frozen=True, tag=True):
    pass


class Expect(Struct, frozen=True, tag=True):
    pass


class WaitHeard(Struct, frozen=True, tag=True):
    patience_s: float


class Tell(Struct, frozen=True, tag=True):
    pass


class Returned(Struct, frozen=True, tag=True):
    pass


Request = Connect | Resume | SignOut | ComeBackTo | Send | Enough | Expect | WaitHeard | Tell | Returned


class Figures(Struct, frozen=True):
    """How swarms are now: signed in, closed by servers (by close code), back after that, CPU used.

    `turned_away` are tries to come back that failed, by reason.
    """

    signed_in: int
    closed: dict[int, int]
    came_back: int
    turned_away: dict[str, int]
    own_cpu_s: float


class _Line(Struct, frozen=True):
    number: int
    request: Request


class _Reply(Struct, frozen=True):
    number: int
    answer: msgspec.Raw


_lines: Final = msgspec.json.Decoder(_Line)
_replies: Final = msgspec.json.Decoder(_Reply)


class Fleet:
    """Swarms in processes of their own."""

    def __init__(self, workers: Sequence["_Worker"]) -> None:
        self._workers = workers
        self._starts = [0] * len(workers)

    async def connect(self, people: Sequence[Person], *, at_once: int = 50) -> SignIns:
        """Sign these in, `at_once` at the same time in all. Once only: who is there stays in its block."""
        dealt = blocks(people, len(self._workers))
        self._starts = [sum(map(len, dealt[:number])) for number in range(len(dealt))]
        share = -(-at_once // len(self._workers))
        return SignIns.of(await self._each(SignIns, [Connect(list(block), share) for block in dealt]))

    async def resume(self, *, at_once: int = 50) -> SignIns:
        """Sign in again, all who are out: with a ticket if they had one."""
        return SignIns.of(await self._all(SignIns, Resume(-(-at_once // len(self._workers)))))

    async def sign_out(self) -> None:
        """Close all sockets, and wait until they are."""
        await self._all(type(None), SignOut())

    async def come_back_to(self, urls: Sequence[str], heeds: float = 0.0) -> None:
        """From now on phones whose socket is closed under them come back to one of these.

        `heeds` is the share of them that come back when `reconnect` says so.
        """
        await self._all(type(None), ComeBackTo(list(urls), heeds))

    async def send(self, letters: Sequence[Letter], rate: float, seconds: float, patience_s: float = 5.0) -> Sent:
        """Send `rate` messages a second, each swarm those of its own people; see `Swarm.send`."""
        shares: list[list[Letter]] = [[] for _ in self._workers]
        for letter in letters:
            number = max(index for index, start in enumerate(self._starts) if start <= letter.sender)
            shares[number].append(msgspec.structs.replace(letter, sender=letter.sender - self._starts[number]))
        requests = [Send(share, rate * len(share) / len(letters), seconds, patience_s) for share in shares]
        return Sent.of(await self._each(Sent, requests))

    async def enough(self) -> None:
        """Whoever sends sends nothing more."""
        await self._all(type(None), Enough())

    async def expect(self) -> None:
        """From now on count the next broadcast."""
        await self._all(type(None), Expect())

    async def wait_heard(self, patience_s: float = 5.0) -> list[float]:
        """When each heard it, by `time.perf_counter`, in order; see `Swarm.wait_heard`."""
        heard = await self._all(list[float], WaitHeard(patience_s))
        return sorted(at for each in heard for at in each)

    async def figures(self) -> Figures:
        """How all swarms are now."""
        found = await self._all(Figures, Tell())
        closed: Counter[int] = Counter()
        turned_away: Counter[str] = Counter()
        for each in found:
            closed.update(each.closed)
            turned_away.update(each.turned_away)
        return Figures(
            signed_in=sum(each.signed_in for each in found),
            closed=dict(closed),
            came_back=sum(each.came_back for each in found),
            turned_away=dict(turned_away),
            own_cpu_s=sum(each.own_cpu_s for each in found),
        )

    async def returned(self) -> list[float]:
        """When each came back whose socket was closed under them, by `time.perf_counter`, in order."""
        found = await self._all(list[float], Returned())
        return sorted(at for each in found for at in each)

    async def _all(self, kind: type[Answer], request: Request) -> list[Answer]:
        return await self._each(kind, [request] * len(self._workers))

    async def _each(self, kind: type[Answer], requests: Sequence[Request]) -> list[Answer]:
        asked = zip(self._workers, requests, strict=True)
        return await asyncio.gather(*(worker.ask(kind, request) for worker, request in asked))


class _Worker:
    """One swarm's process, seen from here."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - for the types
        self._stdin, self._stdout = process.stdin, process.stdout
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[msgspec.Raw]] = {}

    async def ask(self, kind: type[Answer], request: Request) -> Answer:
        """What the swarm answers."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._stdin.write(msgspec.json.encode(_Line(number, request)) + b"\n")
        await self._stdin.drain()
        return msgspec.json.decode(await answer, type=kind)

    async def run(self) -> None:
        """Take answers. Raises `ConnectionError` when the process is gone."""
        while line := await self._stdout.readline():
            reply = _replies.decode(line)
            self._waiting.pop(reply.number).set_result(reply.answer)
        raise ConnectionError("a swarm's process died; what it said is above")


@asynccontextmanager
async def open_fleet(processes: int, greeting: bytes = TALOWA) -> AsyncIterator[Fleet]:
    """So many swarms of nobody yet; all hang up when the block ends."""
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtests.fleet", greeting.decode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
        )
        for _ in range(processes)
    ]
    workers = [_Worker(process) for process in started]
    try:
        async with asyncio.TaskGroup() as tasks:
            taking = [tasks.create_task(worker.run()) for worker in workers]
            try:
                yield Fleet(workers)
            finally:
                for task in taking:
                    task.cancel()
    finally:
        for process in started:
            process.kill()
            await process.wait()


def blocks(people: Sequence[Person], processes: int) -> list[Sequence[Person]]:
    """Who is in which process: even blocks, so that pairs of neighbours stay together."""
    size = -(-len(people) // processes)
    size += size % 2
    return [people[number * size : (number + 1) * size] for number in range(processes)]


async def _serve(greeting: bytes) -> None:
    """Be one swarm, until nobody asks any more."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with open_swarm(greeting) as swarm, asyncio.TaskGroup() as tasks:
        while line := await reader.readline():
            tasks.create_task(_reply(swarm, _lines.decode(line)))


async def _reply(swarm: Swarm, line: _Line) -> None:
    answer = msgspec.json.encode(await _answer(swarm, line.request))
    sys.stdout.buffer.write(msgspec.json.encode(_Reply(line.number, msgspec.Raw(answer))) + b"\n")
    sys.stdout.buffer.flush()


async def _answer(swarm: Swarm, request: Request) -> Any:  # noqa: C901 - an arm a request, each a line
    answer: Any = None
    match request:
        case Connect(people, at_once):
            answer = await swarm.connect(people, at_once=at_once)
        case Resume(at_once):
            answer = await swarm.resume(at_once=at_once)
        case SignOut():
            await swarm.sign_out()
        case ComeBackTo(urls, heeds):
            swarm.back_to, swarm.heeds = urls, heeds
        case Enough():
            swarm.enough()
        case Send(letters, rate, seconds, patience_s):
            answer = await swarm.send(letters, rate, seconds, patience_s)
        case Expect():
            swarm.expect()
        case WaitHeard(patience_s):
            answer = await swarm.wait_heard(patience_s)
        case Tell():
            answer = Figures(
                swarm.signed_in, dict(swarm.closed), swarm.came_back, dict(swarm.turned_away), swarm.own_cpu_s
            )
        case Returned():
            answer = list(swarm.returned)
    return answer


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1].encode()))
