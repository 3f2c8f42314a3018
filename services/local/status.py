"""`talowa status`: what runs, whether it is ready, who is online, and how far behind it is."""

import asyncio
import os
from collections.abc import Callable
from typing import Never

import aiohttp
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.gateway.status import Status
from services.local.process import Process, missing
from services.local.state import Running, State

_TIMEOUT = aiohttp.ClientTimeout(total=3)
_REFRESH_S = 1.0


async def show_status(state: State, admin_token: str, console: Console) -> bool:
    """Print the tables; whether everything runs and is ready."""
    shown, is_ready = await _look(state, admin_token)
    console.print(shown)
    return is_ready


async def watch_status(state: Callable[[], State], admin_token: str, console: Console) -> Never:
    """Show the tables live, anew every second, until Ctrl-C (the task is cancelled)."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update((await _look(state(), admin_token))[0], refresh=True)
            await asyncio.sleep(_REFRESH_S)


async def _look(state: State, admin_token: str) -> tuple[Group, bool]:
    lacks = await asyncio.gather(*(_lacks(running) for running in state.processes))
    figures = await _figures(state, admin_token)
    if isinstance(figures, str):
        rest: list[RenderableType] = [Text(f"no figures: {figures}")]
    else:
        rest = [Text(_sums(figures)), _gateways(figures), _routers(figures), _partitions(figures)]
    return Group(_processes(state, lacks), *rest), all(lack is None for lack in lacks)


def _sums(figures: Status) -> str:
    waiting, lag_ms = (
        sum(p.entries for p in figures.partitions),
        max((p.lag_ms for p in figures.partitions), default=0),
    )
    return (
        f"{waiting} entries wait for routers, the oldest for {lag_ms:.0f} ms\n"
        f"{figures.users_online} users online, {figures.connections} connections, {figures.authenticated} signed in\n"
        f"messages a second: {figures.messages_in_per_second:g} in, {figures.messages_per_second:g} taken, "
        f"{figures.messages_out_per_second:g} out; {figures.refusals} refusals, {figures.errors} errors\n"
        f"{figures.in_flight} messages in flight, {figures.unaccounted} unaccounted for"
    )


def is_alive(pid: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def _lacks(running: Running) -> str | None:
    if running.pid is None or not is_alive(running.pid):
        return "it is down"
    process = Process(
        name=running.name, role=running.role, command=(), environment={}, ports=running.ports, host=running.host
    )
    return await missing(process)


async def _figures(state: State, admin_token: str) -> Status | str:
    """The figures from the first gateway that answers, or why there are none."""
    reason = "no gateway runs"
    headers = {"Authorization": f"Bearer {admin_token}"}
    async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session:
        for running in state.processes:
            if running.role != "gateway" or running.pid is None:
                continue
            try:
                async with session.get(f"http://{running.host}:{running.ports['internal']}/status") as response:
                    if response.status == 200:
                        return msgspec.json.decode(await response.read(), type=Status)
                    reason = f"{running.name} answers {response.status} to GET /status"
            except (aiohttp.ClientError, TimeoutError, OSError):
                reason = f"{running.name} does not answer"
            except msgspec.DecodeError as error:
                reason = f"{running.name} answers what this version does not read: {error}"
    return reason


def _processes(state: State, lacks: list[str | None]) -> Table:
    table = Table(title=f"cluster of pid {state.supervisor}", title_justify="left")
    for name in ("name", "pid", "ports", "ready"):
        table.add_column(name, overflow="fold", justify="right" if name == "pid" else "left")
    for running, lack in zip(state.processes, lacks, strict=True):
        ports = "  ".join(f"{purpose} {port}" for purpose, port in running.ports.items())
        ready = Text("yes", style="green") if lack is None else Text(f"no: {lack}", style="red")
        table.add_row(running.name, "down" if running.pid is None else str(running.pid), ports, ready)
    return table


def _gateways(figures: Status) -> Table:
    table = Table("gateway", "users", "connections", "signed in", "in/s", "out/s", "MB", "state")
    for each in figures.gateways:
        rates = (f"{each.messages_in_per_second:g}", f"{each.messages_out_per_second:g}")
        counts = (str(count) for count in (each.users, each.connections, each.authenticated))
        table.add_row(each.id, *counts, *rates, str(each.memory_bytes >> 20), each.state)
    return table


def _routers(figures: Status) -> Table:
    table = Table("router", "partitions", "messages/s", "parked", "MB", "store")
    for each in figures.routers:
        store = "away" if each.store_away else "there"
        rate, parked = f"{each.messages_per_second:g}", str(each.parked_frames)
        table.add_row(each.id, str(each.partitions), rate, parked, str(each.memory_bytes >> 20), store)
    return table


def _partitions(figures: Status) -> Table:
    table = Table("partition", "owner", "waiting", "lag ms")
    for row in figures.partitions:
        lag = str(row.lag_ms)
        table.add_row(str(row.partition), row.owner or "nobody", str(row.entries), lag)
    return table
