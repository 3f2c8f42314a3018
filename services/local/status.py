"""`talowa status`: what runs, whether it is ready, and how far behind it is."""

import asyncio
import os

import aiohttp
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.local.process import Process, missing
from services.local.state import Running, State

_TIMEOUT = aiohttp.ClientTimeout(total=3)


class GatewayFigures(Struct, rename="camel", frozen=True):
    id: str
    connections: int = 0
    authenticated: int = 0


class PartitionFigures(Struct, rename="camel", frozen=True):
    partition: int
    entries: int = 0
    lag_ms: float | None = None
    owner: str | None = None


class Figures(Struct, rename="camel", frozen=True):
    """What a gateway's `GET /status` says, as far as it is shown here."""

    connections: int = 0
    authenticated: int = 0
    users_online: int = 0
    gateways: list[GatewayFigures] = []
    partitions: list[PartitionFigures] = []


async def show_status(state: State, admin_token: str, console: Console) -> bool:
    """Print the tables; whether everything runs and is ready."""
    lacks = await asyncio.gather(*(_lacks(running) for running in state.processes))
    console.print(_processes(state, lacks))
    figures = await _figures(state, admin_token)
    if isinstance(figures, str):
        console.print(f"no figures: {figures}", markup=False)
    else:
        console.print(
            f"{figures.connections} connections, {figures.authenticated} signed in, {figures.users_online} users online"
        )
        console.print(_gateways(figures), _partitions(figures))
    return all(lack is None for lack in lacks)


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


async def _figures(state: State, admin_token: str) -> Figures | str:
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
                        return msgspec.json.decode(await response.read(), type=Figures)
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


def _gateways(figures: Figures) -> Table:
    table = Table("gateway", "connections", "signed in")
    for gateway in figures.gateways:
        table.add_row(gateway.id, str(gateway.connections), str(gateway.authenticated))
    return table


def _partitions(figures: Figures) -> Table:
    table = Table("partition", "owner", "waiting", "lag ms")
    for row in figures.partitions:
        lag = "" if row.lag_ms is None else f"{row.lag_ms:.0f}"
        table.add_row(str(row.partition), row.owner or "nobody", str(row.entries), lag)
    return table
