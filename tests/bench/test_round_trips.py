"""A round trip to the broker, of one command and of thirty."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from libs.broker import Broker, connect
from tests.support.broker import running_broker


class Connected:
    """A broker's client on a loop of its own, as services run it."""

    def __init__(self, runner: asyncio.Runner, broker: Broker) -> None:
        self._runner = runner
        self._broker = broker

    def trip(self, commands: int) -> list[Any]:
        """One round trip."""
        asked = [("HMGET", "seats", f"user{n}", f"user{n + 1}") for n in range(commands)]
        return self._runner.run(self._broker.batch(asked))


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connected]:
    """The embedded broker."""
    folder: Path = tmp_path_factory.mktemp("broker")
    stack = AsyncExitStack()

    async def open_() -> Broker:
        url = await stack.enter_async_context(running_broker(folder))
        return await stack.enter_async_context(connect(url))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield Connected(runner, runner.run(open_()))
        runner.run(stack.aclose())


@pytest.mark.benchmark(group="round trip")
@pytest.mark.parametrize("commands", [1, 30])
def test_round_trip(connected: Connected, benchmark: Any, commands: int) -> None:
    """With what it takes to run the loop for it, some 50 µs."""
    assert len(benchmark(connected.trip, commands)) == commands
