"""`talowa up`: the composition root of the local cluster."""

import asyncio
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from libs.lifecycle import Unstartable
from services.local import ports
from services.local.claim import claimed
from services.local.cluster import Cluster, NotReady, open_cluster
from services.local.plan import Plan, make_plan, socket_url
from services.local.settings import LocalSettings, inherited
from services.local.state import State

_BROKER_DEADLINE_S = 60.0  # a large append-only file takes a while to read
_ASK_EVERY_S = 0.1
# Starting takes a few seconds; then say what is lacking, and again when that has changed.
_EXPLAIN_AFTER_S = 5.0


async def up(settings: LocalSettings, stop: asyncio.Event) -> None:
    """Run the cluster until `stop`; then drain and stop it. Raises `Unstartable` for what is in the way."""
    # A terminal that is closed asks to stop as well.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stop.set)
    with claimed(settings.home):
        ports.must_be_free(settings.websocket_host, settings.websocket_ports)
        plan = make_plan(settings, inherited())
        async with open_cluster(settings.home, plan.processes, say) as cluster:
            async with asyncio.TaskGroup() as tasks:
                starting = tasks.create_task(_start(cluster, plan, settings), name="start")
                await stop.wait()
                starting.cancel()
            say("stopping …")
        say("stopped")


async def _start(cluster: Cluster, plan: Plan, settings: LocalSettings) -> None:
    for process in plan.processes:
        await cluster.start(process.name)
        if process.role in ("broker", "store", "auth"):
            try:
                await cluster.wait_ready(process.name, _BROKER_DEADLINE_S)
            except NotReady as error:
                broken = f" If its file is damaged, move {settings.home / 'broker'} away."
                raise Unstartable(f"{error}{broken if process.role == 'broker' else ''}") from error
    _show(cluster.state(), settings, plan)
    await _all_ready(cluster)
    say("ready")


async def _all_ready(cluster: Cluster) -> None:
    loop = asyncio.get_running_loop()
    explained = ""
    explain_at = loop.time() + _EXPLAIN_AFTER_S
    while True:
        lacks = await asyncio.gather(*(cluster.lacks(name) for name in cluster.names))
        waiting = {name: lack for name, lack in zip(cluster.names, lacks, strict=True) if lack is not None}
        if not waiting:
            return
        explanation = ", ".join(f"{name} ({lack})" for name, lack in waiting.items())
        if loop.time() >= explain_at and explanation != explained:
            say(f"waiting for {explanation}")
            explained, explain_at = explanation, loop.time() + _EXPLAIN_AFTER_S
        await asyncio.sleep(_ASK_EVERY_S)


def _show(state: State, settings: LocalSettings, plan: Plan) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("name", "pid", "listens on", "health, metrics", "log"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "pid" else "left")
    for running in state.processes:
        socket, internal = running.ports.get("socket"), running.ports.get("internal")
        kept = next((running.ports[what] for what in ("redis", "store", "auth") if what in running.ports), None)
        outside = f"{settings.websocket_host}:{socket}" if socket else f"{running.host}:{kept}" if kept else ""
        inside = f"{running.host}:{internal}" if internal else ""
        table.add_row(running.name, str(running.pid), outside, inside, _short(Path(running.log)))
    console().print(table)
    say(f"clients  {socket_url(settings.websocket_host, settings.websocket_port)}")
    say(f"broker   {_without_password(plan.redis_url)}")
    is_file = settings.store == "sqlite"
    say(f"store    {_short(settings.database) if is_file else 'the Firestore emulator, which forgets everything'}")


def _short(path: Path) -> str:
    """As one would type it here, if it is below the current folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def console() -> Console:
    """Standard output; where it is no terminal, wide enough that no path is cut."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=160)


def say(line: str) -> None:
    """A line for whoever watches, at once."""
    print(line, flush=True)
