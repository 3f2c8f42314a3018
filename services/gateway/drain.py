"""Leave without a stampede: take no one new, close the sockets spread over a window, say goodbye, exit.

Every socket is closed with 1012, which brings its client back within a second or two, to another gateway.
"""

import asyncio
from collections.abc import Collection
from typing import Final

import structlog

from libs.broker import AWAY
from services.gateway.bridge import Bridge
from services.gateway.heartbeat import Heartbeat
from services.gateway.sockets import Server, Socket
from services.gateway.uplink import Uplink

log = structlog.get_logger(__name__)

_STEP_S: Final = 0.1
# What is said last: the close frames' answers, the uplink's last write, the seats.
_FAREWELL_S: Final = 3.0


async def drain(
    server: Server, bridges: Collection[Bridge], uplink: Uplink, heartbeat: Heartbeat, window_s: float
) -> None:
    """Empty this gateway. Returns when it is empty, or when there is no more time for it."""
    server.accept(is_accepting=False)
    heartbeat.is_draining = True
    sockets: list[Socket | Bridge] = [*server.sockets.values(), *bridges]
    log.info("draining", sockets=len(sockets), window_s=window_s)
    steps = max(1, round(window_s / _STEP_S)) if sockets else 0
    for step in range(steps):
        for socket in sockets[step::steps]:
            socket.close_for_retry()
        await asyncio.sleep(_STEP_S)
    try:
        async with asyncio.timeout(_FAREWELL_S):
            await uplink.wait_written()
            await heartbeat.leave()
    except (TimeoutError, *AWAY) as error:
        log.warning("left without a farewell: presence will clear up", error=type(error).__name__)
