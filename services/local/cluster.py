"""Run processes: start, watch, start again, stop in order. A library: `talowa up` and tests use it alike.

    async with open_cluster(home, processes, environment) as cluster:
        await cluster.start("broker")
        await cluster.wait_ready("broker", 10)
        cluster.kill("broker", signal.SIGKILL)     # it comes back, unless it was told not to

Each process has a session of its own, so that Ctrl-C in a terminal reaches only who watches them, and
dies with who watches them. What it says on standard error and output is in `home/logs/<name>.log`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from libs.lifecycle import EXIT_CONFIG, Unstartable
from services.local import leash, state
from services.local.backoff import Backoff
from services.local.claim import make_home
from services.local.process import Process, Role, how_it_ended, missing

# Who stops when, and the second (since stopping began) at which what is left of a stage is killed:
# gateways first, so that routers can still answer what they took. All in all under 15 s.
_STOP_BY: Final[tuple[tuple[Role, float], ...]] = (
    ("gateway", 8.5),
    ("router", 12.0),
    ("presence", 13.0),
    ("broker", 14.5),
    ("store", 14.5),
    ("auth", 14.5),
)
_STOP_ONE_S: Final = 10.0
_ASK_EVERY_S: Final = 0.1
# A log that has grown past this when its process starts is moved aside; one older one is kept.
_LOG_BYTES: Final = 8 * 1024 * 1024
_TAIL_BYTES: Final = 4096
_REFUSED: Final = "cannot start:"  # how `libs.lifecycle` begins, on standard error

Say = Callable[[str], None]


class NotReady(Exception):
    """A process was not ready in time, or died before it was. The message says what it lacked."""


class Cluster:
    """Named processes. `start` and `stop` are for whoever directs; `kill` is for whoever tests."""

    def __init__(self, tasks: asyncio.TaskGroup, home: Path, processes: Iterable[Process], say: Say) -> None:
        self._tasks = tasks
        self._home = home
        self._say = say
        self._children = {process.name: _Child(process, home) for process in processes}

    @property
    def names(self) -> list[str]:
        """All processes, running or not, in the order they were given."""
        return list(self._children)

    def state(self) -> state.State:
        """What runs where, now."""
        return state.State(os.getpid(), [child.running() for child in self._children.values()])

    def pid(self, name: str) -> int | None:
        """The process id, or None while it is down."""
        return self._children[name].pid

    def log(self, name: str) -> Path:
        """The file with what the process said."""
        return self._children[name].log

    def set_restarts(self, name: str, restarts: bool) -> None:
        """Whether the process is started again when it dies."""
        self._children[name].restarts = restarts

    async def start(self, name: str) -> int:
        """Start a process that is down; its pid. One that waits to be started again does so at once."""
        child = self._children[name]
        await child.unwatch()
        if child.pid is not None:
            child.watcher = self._tasks.create_task(self._watch(child), name=f"watch {name}")
            raise ValueError(f"{name} runs already (pid {child.pid}).")
        pid = await self._spawn(child)
        child.watcher = self._tasks.create_task(self._watch(child), name=f"watch {name}")
        return pid

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal. What follows from it follows: a process that dies may be started again."""
        child = self._children[name]
        if child.pid is None:
            raise ValueError(f"{name} is down.")
        os.kill(child.pid, number)

    async def stop(self, name: str, within_s: float = _STOP_ONE_S) -> None:
        """Stop one process for good: SIGTERM, and SIGKILL after `within_s`. Nothing if it is down."""
        child = self._children[name]
        await child.unwatch()
        await self._end(child, asyncio.get_running_loop().time() + within_s)
        self._changed()

    async def stop_all(self) -> None:
        """Stop everything in order, within 15 s; the state file goes."""
        began = asyncio.get_running_loop().time()
        for child in self._children.values():
            await child.unwatch()
        for role, by_s in _STOP_BY:
            async with asyncio.TaskGroup() as ending:
                for child in self._children.values():
                    if child.process.role == role:
                        ending.create_task(self._end(child, began + by_s))
        state.remove(self._home)

    async def wait_ready(self, name: str, deadline_s: float) -> None:
        """Wait until a process is ready. Raises `NotReady` after `deadline_s`, or if it died for good."""
        child = self._children[name]
        lacks: str | None = "it is down"
        try:
            async with asyncio.timeout(deadline_s):
                while (lacks := await self.lacks(name)) is not None:
                    if child.is_over:
                        raise NotReady(f"{name} died ({child.ended}) before it was ready: {child.last_words()}")
                    await asyncio.sleep(_ASK_EVERY_S)
        except TimeoutError as error:
            raise NotReady(f"{name} was not ready after {deadline_s:g} s: {lacks}. Its log: {child.log}") from error

    async def wait_exit(self, name: str, deadline_s: float) -> int | None:
        """Wait until the process as it runs now is gone; its code (minus the signal). `TimeoutError` if not."""
        child = self._children[name]
        async with asyncio.timeout(deadline_s):
            return None if child.handle is None else await child.handle.wait()

    async def lacks(self, name: str) -> str | None:
        """None if the process is ready, or what it lacks."""
        child = self._children[name]
        return "it is down" if child.pid is None else await missing(child.process)

    async def _watch(self, child: "_Child") -> None:
        """See one process die and come back, until it does not. A wrong setting ends the whole cluster."""
        while True:
            code = await child.wait()
            self._changed()
            ended, name = how_it_ended(code), child.process.name
            if code == EXIT_CONFIG:
                raise Unstartable(f"{name} refused, and trying again would not help: {child.last_words()}")
            if not child.restarts:
                self._say(f"{name} died ({ended}) and stays down. Its log: {child.log}")
                return
            delay_s = child.backoff.delay_s(child.lived_s)
            self._say(f"{name} died ({ended}); it is started again in {delay_s:g} s. Its log: {child.log}")
            await asyncio.sleep(delay_s)
            await self._spawn(child)

    async def _spawn(self, child: "_Child") -> int:
        pid = await child.spawn()
        self._changed()
        return pid

    async def _end(self, child: "_Child", deadline: float) -> None:
        if child.pid is None or child.handle is None:
            return
        child.signal(signal.SIGTERM)
        child.signal(signal.SIGCONT)  # one that was paused could not hear it
        try:
            async with asyncio.timeout_at(deadline):
                await child.handle.wait()
        except TimeoutError:
            self._say(f"{child.process.name} did not stop in time and was killed. Its log: {child.log}")
            child.signal(signal.SIGKILL)
            await child.handle.wait()

    def _changed(self) -> None:
        state.write(self._home, self.state())


@asynccontextmanager
async def open_cluster(home: Path, processes: Iterable[Process], say: Say = print) -> AsyncIterator[Cluster]:
    """A cluster that runs nothing yet; everything is stopped when the block ends, however it ends."""
    make_home(home)
    async with asyncio.TaskGroup() as tasks:
        cluster = Cluster(tasks, home, processes, say)
        try:
            yield cluster
        finally:
            await cluster.stop_all()


class _Child:
    """A process and its current life."""

    def __init__(self, process: Process, home: Path) -> None:
        self.process = process
        self.restarts = process.restarts
        self.backoff = Backoff()
        self.log = home / "logs" / f"{process.name}.log"
        self.handle: asyncio.subprocess.Process | None = None
        self.watcher: asyncio.Task[None] | None = None
        self._born = 0.0
        self.lived_s = 0.0

    @property
    def pid(self) -> int | None:
        if self.handle is None or self.handle.returncode is not None:
            return None
        return self.handle.pid

    @property
    def ended(self) -> str:
        code = None if self.handle is None else self.handle.returncode
        return "it runs" if code is None else how_it_ended(code)

    @property
    def is_over(self) -> bool:
        """It died, and nobody is going to start it again."""
        return self.pid is None and (self.watcher is None or self.watcher.done())

    def running(self) -> state.Running:
        return state.Running(
            self.process.name, self.process.role, self.process.host, self.pid, self.process.ports, str(self.log)
        )

    async def spawn(self) -> int:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        leashed = (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *self.process.command)
        with self.log.open("ab") as log:
            self.handle = await asyncio.create_subprocess_exec(
                *leashed,
                env=self.process.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._born = asyncio.get_running_loop().time()
        return self.handle.pid

    async def wait(self) -> int:
        if self.handle is None:
            raise ValueError(f"{self.process.name} was never started.")
        code = await self.handle.wait()
        self.lived_s = asyncio.get_running_loop().time() - self._born
        return code

    async def unwatch(self) -> None:
        watcher, self.watcher = self.watcher, None
        if watcher is not None and not watcher.done():
            watcher.cancel()
            await asyncio.wait([watcher])

    def signal(self, number: int) -> None:
        if self.handle is not None and self.handle.returncode is None:
            self.handle.send_signal(number)

    def last_words(self) -> str:
        """The end of the log: what it said on refusing to start, or else its last line."""
        if not self.log.exists():
            return "it said nothing."
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace").strip()
        _, refused, why = text.rpartition(_REFUSED)
        return why.strip() if refused else (text.splitlines() or ["it said nothing."])[-1]
