"""Steady traffic while a test breaks something: who writes to whom, how fast, and whether all arrived."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

from tests.support.clients import Client
from tests.support.history import History, Report, check
from tests.support.waiting import PAUSE_S, until

# A message that nobody took for this long after the last try is given up: the test has failed.
PATIENCE_S: Final = 60.0
_TRY_S: Final = 2.0
_ARRIVAL_S: Final = 45.0


class Lane(NamedTuple):
    """Who writes, and to whom: `recipientId` or `groupId` of a `send_message`."""

    client: Client
    to: Mapping[str, str]


class Traffic:
    """Messages on every lane, one after another's time, whether or not the one before was answered."""

    def __init__(self, lanes: Sequence[Lane], every_s: float) -> None:
        self._lanes = lanes
        self._every_s = every_s
        self._stopping = asyncio.Event()
        self.sent = 0
        self.answers: list[dict[str, Any]] = []

    @property
    def answered(self) -> int:
        """Messages with a final answer."""
        return len(self.answers)

    async def wait_flows(self, count: int = 20, timeout_s: float = 30.0) -> None:
        """Until `count` more messages than now are answered: traffic goes on. Raises AssertionError."""
        goal = self.answered + count
        await until(lambda: self.answered >= goal, timeout_s, f"{count} more messages to be answered")

    async def run(self) -> None:
        """Send until `stop`; returns when every message has its final answer."""
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping.is_set():
                for number, lane in enumerate(self._lanes):
                    tasks.create_task(self._send(lane, f"t{number}-{self.sent}"))
                    self.sent += 1
                await _pace(self._every_s)

    def stop(self) -> None:
        """Send nothing new."""
        self._stopping.set()

    async def _send(self, lane: Lane, client_id: str) -> None:
        payload = {"clientId": client_id, "content": f"సందేశం {client_id}", **lane.to}
        answer = await lane.client.send_message(payload, PATIENCE_S, _TRY_S)
        assert answer["ok"], f"{lane.client.name}: {client_id} was refused: {answer}"
        self.answers.append(answer)


@asynccontextmanager
async def steady_traffic(lanes: Sequence[Lane], every_s: float = 0.1) -> AsyncIterator[Traffic]:
    """Traffic on `lanes`, a message on each every `every_s`, for as long as the block runs.

    It flows before the block begins; when the block ends, every message has got its final answer.
    """
    traffic = Traffic(lanes, every_s)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic.run())
        try:
            await traffic.wait_flows()
            yield traffic
        finally:
            traffic.stop()


async def arrived(history: History, expected: Mapping[str, Collection[str]], timeout_s: float = _ARRIVAL_S) -> Report:
    """Wait until every device saw everything it should, then judge it all. The report may find fault."""

    def settled() -> bool:
        return not check(history, expected).lost

    with suppress(AssertionError):
        await until(settled, timeout_s, "everything to arrive")
    return check(history, expected)


def tell(measured: str) -> None:
    """What a test measured, for who runs it with `-s`."""
    print(measured)  # noqa: T201 - nobody else reads it


async def _pace(every_s: float) -> None:
    """The one pause that is traffic's own: the time between two messages of a sender."""
    await asyncio.sleep(max(every_s, PAUSE_S))
