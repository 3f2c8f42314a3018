"""One fault, from its beginning to its end. Whatever happens meanwhile, what was done is undone."""

import asyncio
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import Final

from redis import exceptions

from tests.chaos.plan import Fault, Kind
from tests.chaos.world import World, faketime

# A lock is held this long, and the store is free for as long in between, at most.
_HELD_S: Final = (0.1, 2.0)
_FREE_S: Final = (0.05, 0.5)
_PAUSE_BEFORE_PROMOTION_S: Final = 0.5


@dataclass
class Happening:
    """A fault that was carried out, by the wall clock."""

    fault: Fault
    began_ms: int
    over_ms: int | None = None


class Faults:
    """Carries faults out, and keeps what happened."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.happened: list[Happening] = []

    async def run(self, plan: list[Fault]) -> None:
        """All of them, each at its time; returns when the last is undone."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for fault in plan:
                await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
                tasks.create_task(self._happen(fault))

    def story(self, began_ms: int) -> list[str]:
        """What was done, by the seconds since the run began."""
        return [
            f"{(one.began_ms - began_ms) / 1000:8.2f} to {((one.over_ms or 0) - began_ms) / 1000:.2f} {one.fault}"
            for one in self.happened
        ]

    async def _happen(self, fault: Fault) -> None:
        happening = Happening(fault, _now_ms())
        self.happened.append(happening)
        over_at = time.monotonic() + fault.lasts_s
        async with self._done(fault):
            if fault.kind != "rolling restart":  # which takes what it takes
                await asyncio.sleep(max(0.0, over_at - time.monotonic()))
        happening.over_ms = _now_ms()

    @asynccontextmanager
    async def _done(self, fault: Fault) -> AsyncIterator[None]:  # noqa: C901, PLR0912 - an arm a kind, each a line or two
        world, brokers = self._world, self._world.brokers
        async with AsyncExitStack() as undone:
            match fault.kind:
                case "kill" | "kill two":
                    for name in fault.targets:
                        world.strike(name, signal.SIGKILL)
                case "drain":
                    world.strike(fault.targets[0], signal.SIGTERM)
                case "pause" | "pause two":
                    await undone.enter_async_context(world.paused(*fault.targets))
                case "rolling restart":
                    with suppress(TimeoutError):
                        async with asyncio.timeout(max(1.0, fault.lasts_s)):
                            for name in fault.targets:
                                await world.restart(name)
                case "broker restarted":
                    world.strike(brokers.primary, signal.SIGTERM)
                case "broker killed":
                    world.strike(brokers.primary, signal.SIGKILL)
                case "broker stopped":
                    await undone.enter_async_context(world.down(brokers.primary, number=signal.SIGTERM))
                case "broker paused":
                    await undone.enter_async_context(world.paused(brokers.primary))
                case "broker wiped":
                    with suppress(exceptions.RedisError, OSError, TimeoutError):
                        await brokers.wipe()
                case "broker lost its disk":
                    await undone.enter_async_context(world.down(*brokers.data))
                    brokers.note_loss()
                    undone.callback(brokers.note_loss)
                    for name in brokers.data:
                        shutil.rmtree(brokers.folder(name) / "appendonlydir", ignore_errors=True)
                case "replica promoted":
                    primary = brokers.primary
                    async with world.paused(brokers.replica):
                        # What is written meanwhile, the replica never gets.
                        await asyncio.sleep(_PAUSE_BEFORE_PROMOTION_S)
                        await undone.enter_async_context(world.down(primary))
                case "cut" | "slow link" | "lossy link":
                    near, far = fault.targets
                    await world.network.harm(near, far, fault.kind)
                    undone.push_async_callback(world.network.mend, near, far, fault.kind)
                case "store full":
                    await undone.enter_async_context(world.store_full())
                case "store slow":
                    await undone.enter_async_context(_slow(str(world.cluster.database)))
                case "clock stepped":
                    (name,) = fault.targets
                    world.step_clock(name, fault.size)
                    undone.callback(world.step_clock, name, 0.0)
            yield


def left_out() -> dict[Kind, str]:
    """Kinds of fault that this machine cannot have, and why."""
    return {} if faketime() else {"clock stepped": "libfaketime is missing (Debian: faketime)"}


@asynccontextmanager
async def _slow(database: str) -> AsyncIterator[None]:
    """Somebody else holds the store's lock in stretches."""
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(_hold(database))
        try:
            yield
        finally:
            holding.cancel()


async def _hold(database: str) -> None:
    luck = random.Random(database)
    while True:
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as db,
        ):
            await asyncio.to_thread(db.execute, "BEGIN EXCLUSIVE")
            await asyncio.sleep(luck.uniform(*_HELD_S))
        await asyncio.sleep(luck.uniform(*_FREE_S))


def _now_ms() -> int:
    return int(time.time() * 1000)
