"""The nodes of a Redis Cluster: each command to the one that has its slot, over a pipe to each.

The commands of a batch go to their nodes side by side, to each in their order: a batch is one round trip, and what is
on one key keeps its order. A node that does not have a slot says who does, and is believed: what it refused is sent
there, in order again. A slot that is open on both sides, because it is being moved, is tried until it is not.

redis-py's own client for clusters is not used: its single commands are a round trip each, and its pipelines take a
connection out of a pool for each node and batch.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from redis import exceptions

from libs.lives import Lives
from libs.pipe import Pipe, type_of_command
from libs.servers import Address, ClusterServers
from libs.slots import LOST, Slots

# A slot that is being moved refuses what touches several keys until the last of them has gone.
_PAUSE_S: Final = 0.02
# Asked of every primary; what several give is put together.
_EVERYWHERE: Final = frozenset({"SCRIPT", "FLUSHALL", "KEYS"})


class _Trip:
    """What goes to one node at once: commands by their numbers in the batch, and what will have the replies."""

    __slots__ = ("answer", "node", "numbers", "pipe")

    def __init__(self, node: Address, pipe: Pipe, numbers: list[int]) -> None:
        self.node = node
        self.pipe = pipe
        self.numbers = numbers
        self.answer: asyncio.Future[list[Any]] | None = None


class Nodes:
    """Sends commands where they belong."""

    def __init__(
        self,
        servers: ClusterServers,
        errors: Callable[[str], Exception],
        timeout_s: float,
        lives: Lives,
        *,
        is_blocking: bool,
    ) -> None:
        self._servers = servers
        self._errors = errors
        self._timeout_s = timeout_s
        self._lives = lives
        self._is_blocking = is_blocking
        self._slots = Slots(servers, errors)
        # Where reads block, each that runs has a pipe of its own; these are free.
        self._pipes: dict[Address, list[Pipe]] = {}

    async def call(self, commands: Sequence[type_of_command]) -> list[Any]:
        """The reply to each; errors in their places, also those of a node that is away."""
        if commands[0][0] in _EVERYWHERE:
            return [await self._everywhere(command) for command in commands]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        replies: list[Any] = [None] * len(commands)
        # Those that a node asked us to try at another, this once.
        asked: dict[int, Address] = {}
        left, turns = list(range(len(commands))), 0
        while left:
            await self._learn()
            by_node: dict[Address | None, list[int]] = {}
            for number in left:
                node = asked.get(number) or self._slots.node_of(commands[number])
                by_node.setdefault(node, []).append(number)
            await self._send(by_node, commands, asked, replies)
            left = [number for number in left if self._is_refused(replies[number], number, asked)]
            turns += 1
            if left and turns > 1:
                if loop.time() > deadline:
                    for number in left:  # which were not done
                        replies[number] = exceptions.TryAgainError(str(replies[number]))
                    break
                await asyncio.sleep(_PAUSE_S)
        return replies

    async def close(self) -> None:
        """End all connections."""
        pipes, self._pipes = self._pipes, {}
        for pipe in (pipe for of_node in pipes.values() for pipe in of_node):
            await pipe.close()

    async def each(self, command: type_of_command) -> dict[Address, Any]:
        """The reply of every primary; errors in their places."""
        await self._learn()
        nodes = sorted(self._slots.primaries)
        replies: list[Any] = [None] * len(nodes)
        await self._send({node: [number] for number, node in enumerate(nodes)}, [command] * len(nodes), {}, replies)
        return dict(zip(nodes, replies, strict=True))

    async def _everywhere(self, command: type_of_command) -> Any:
        replies = list((await self.each(command)).values())
        for reply in replies:
            if isinstance(reply, Exception):
                return reply
        return [one for reply in replies for one in reply] if isinstance(replies[0], list) else replies[0]

    async def _send(
        self,
        by_node: Mapping[Address | None, list[int]],
        commands: Sequence[type_of_command],
        asked: Mapping[int, Address],
        replies: list[Any],
    ) -> None:
        """One round trip to each of these nodes, side by side; puts replies and errors in their places."""
        trips: list[_Trip] = []
        try:
            for node, numbers in by_node.items():
                if node is None:
                    _put(replies, numbers, exceptions.ClusterDownError("CLUSTERDOWN nobody has this slot"))
                    continue
                trip = _Trip(node, self._take_pipe(node), numbers)
                trips.append(trip)
                try:
                    trip.answer = await trip.pipe.begin(_words(numbers, commands, asked))
                except LOST as error:
                    _put(replies, numbers, error)
            for trip in trips:
                if trip.answer is not None:
                    try:
                        told = iter(await trip.answer)
                    except LOST as error:
                        _put(replies, trip.numbers, error)
                        continue
                    for number in trip.numbers:
                        if number in asked:
                            next(told)
                        replies[number] = next(told)
        finally:
            for trip in trips:
                await self._end(trip, replies)

    async def _end(self, trip: _Trip, replies: Sequence[Any]) -> None:
        if trip.answer is not None:
            trip.answer.cancel()  # if who waited for it was
        if isinstance(replies[trip.numbers[0]], LOST):
            self._slots.lost(trip.node)
        if self._is_blocking:
            if trip.pipe.is_idle:
                self._pipes.setdefault(trip.node, []).append(trip.pipe)
            else:
                await trip.pipe.close()

    def _is_refused(self, reply: object, number: int, asked: dict[int, Address]) -> bool:
        """Whether a node did not do it, for it belongs elsewhere, or nowhere for a moment."""
        match reply:
            case exceptions.MovedError():
                asked.pop(number, None)
                self._slots.moved(reply)
                return True
            case exceptions.AskError():
                asked[number] = self._slots.address(reply)
                return True
            case exceptions.TryAgainError():
                asked.pop(number, None)
                return True
            case exceptions.ClusterDownError():
                self._slots.is_stale = True
        return False

    async def _learn(self) -> None:
        if self._slots.is_stale and await self._slots.learn():
            for node in self._pipes.keys() - self._slots.primaries:
                for pipe in self._pipes.pop(node):
                    await pipe.close()

    def _take_pipe(self, node: Address) -> Pipe:
        free = self._pipes.setdefault(node, [])
        if not free:
            meet = partial(self._lives.meet, node)
            free.append(Pipe(self._servers.pool(node), self._errors, self._timeout_s, meet))
        return free.pop() if self._is_blocking else free[0]


def _words(
    numbers: Iterable[int], commands: Sequence[type_of_command], asked: Mapping[int, Address]
) -> list[type_of_command]:
    words: list[type_of_command] = []
    for number in numbers:
        if number in asked:
            words.append(("ASKING",))
        words.append(commands[number])
    return words


def _put(replies: list[Any], numbers: Iterable[int], error: Exception) -> None:
    for number in numbers:
        replies[number] = error
