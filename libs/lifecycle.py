"""Signals in, one cancelled task group out.

`run` starts a service's `main` under uvloop and tells it through an `asyncio.Event` that SIGTERM or
SIGINT came; `main` drains and returns. Whatever `main` starts lives in its task group, so a task that
dies unexpectedly takes the process with it, and the process says why.
"""

import asyncio
import faulthandler
import gc
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable

import structlog
import uvloop

from libs.settings import SettingsError

log = structlog.get_logger(__name__)

# sysexits.h: EX_CONFIG. A supervisor can tell a wrong setting from a crash: restarting will not help.
EXIT_CONFIG = 78
_CANCEL_AGAIN_S = 0.5
# Objects more than went, then collections of the younger that lead to one of the older.
_GC_THRESHOLDS = (20_000, 20, 50)


class Unstartable(Exception):
    """The service cannot start as it is set up. The message says what is in the way and the remedy."""


class Stopped(Exception):
    """Told to stop while still waiting for what it needs to start. No error."""


class GaveUp(Exception):
    """The process found that it hangs, and ended so that its supervisor starts it again."""


class Surrender:
    """Leave as if told to by a signal, but as one that failed, and within a time."""

    def __init__(self, stop: asyncio.Event, within_s: float) -> None:
        self._stop = stop
        self._within_s = within_s
        self.reason: str | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether the process leaves already, for this reason or another."""
        return self._stop.is_set()

    def begin(self, reason: str) -> None:
        """Leave. Whatever hangs then too, the process is gone within the time, and says where each thread was."""
        self.reason = reason
        faulthandler.dump_traceback_later(self._within_s, exit=True)
        self._stop.set()

    def complete(self) -> None:
        """It has left. Raises `GaveUp`, if that is why."""
        if self.reason is not None:
            raise GaveUp(self.reason)


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `main(stop)` until it returns; exits the process with 0, 78 (settings) or 1 (a crash)."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(main))
    except* Stopped:
        pass
    except* (SettingsError, Unstartable) as group:
        for error in _leaves(group):
            print(f"cannot start: {error}", file=sys.stderr)  # noqa: T201 - before logging is set up
        sys.exit(EXIT_CONFIG)
    except* Exception as group:
        for error in _leaves(group):
            log.critical("died", error=type(error).__name__, exc_info=error)
        sys.exit(1)


def raise_file_limit() -> int:
    """Lift the soft limit of open files to the hard one (containerd gives 1,024); the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def settle_memory() -> None:
    """What a started process has stays: the collector need not look through it, nor so often.

    The default looks after every 700 new objects, a handful of frames, and now and then at everything there is: of the
    time in which a gateway signed ten thousand people in, 5 % went there.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


async def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are done: a library in the middle of a reconnect may swallow it once."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_CANCEL_AGAIN_S)


async def _run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
