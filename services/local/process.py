"""What a process of the cluster is, and whether it is ready. Knows nothing of how it is run."""

import asyncio
import signal
from typing import Literal

import aiohttp
from msgspec import Struct

Role = Literal["broker", "store", "auth", "router", "presence", "gateway"]

# A process answers in milliseconds when it is well; on a machine that is starting others, in tens.
_ASK_TIMEOUT_S = 2.0


class Process(Struct, frozen=True, kw_only=True):
    """A process to run: `command[0]` is an absolute path, `ports` say where it listens, by purpose.

    Readiness is asked at the port `internal` (`/readyz`), at `redis` (PING), or by connecting to `store` or `auth`.
    """

    name: str
    role: Role
    command: tuple[str, ...]
    environment: dict[str, str]
    ports: dict[str, int]
    host: str = "127.0.0.1"
    restarts: bool = True


async def missing(process: Process) -> str | None:
    """None if the process is ready, or a few words on what it lacks."""
    try:
        async with asyncio.timeout(_ASK_TIMEOUT_S):
            if process.role == "broker":
                return await ping(process.host, process.ports["redis"])
            if process.role in ("store", "auth"):
                await connect(process.host, process.ports[process.role])
                return None
            return await readyz(process.host, process.ports["internal"])
    except TimeoutError:
        return "it does not answer"
    except (OSError, aiohttp.ClientError):
        return "it does not listen"


async def readyz(host: str, port: int) -> str | None:
    """Ask a service's `/readyz`. None, or what its checks miss. Raises `OSError` and `aiohttp.ClientError`."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/readyz") as response:
        if response.status == 200:
            return None
        if response.content_type != "application/json":
            return f"/readyz answers {response.status}"
        checks = (await response.json()).get("missing", {})
        return "; ".join(f"{name}: {reason}" for name, reason in checks.items()) or "/readyz says no"


async def ping(host: str, port: int) -> str | None:
    """Ask a broker. None, or its own words (it may be loading its file). Raises `OSError`."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"PING\r\n")
        answer = (await reader.readline()).decode(errors="replace").strip()
    finally:
        writer.close()
    return None if answer == "+PONG" else answer.lstrip("-") or "it closed the connection"


async def connect(host: str, port: int) -> None:
    """Connect, and leave. Raises `OSError`."""
    _, writer = await asyncio.open_connection(host, port)
    writer.close()


def how_it_ended(code: int) -> str:
    """A return code in words: a signal's name, or the code."""
    if code >= 0:
        return f"code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
