"""The gateway's HTTP: `/info` for clients, `/status` for operators."""

import os
import resource
import time
from typing import Any, Final

import msgspec
from aiohttp import web

from libs import keys
from libs.broker import Broker
from libs.directory import Directory
from libs.operators import Operators
from libs.telemetry import health
from libs.wire import names, payloads
from services.gateway.heartbeat import lags
from services.gateway.settings import GatewaySettings
from services.gateway.uplink import Lag

_STARTED: Final = time.time()


def public_app(settings: GatewaySettings, checks: health.Checks) -> web.Application:
    """The application of the socket port; the sockets attach themselves to it."""
    app = web.Application(client_max_size=settings.frame_max_bytes)
    health.add_health(app, checks)
    info = payloads.encode(
        payloads.Info(
            url=settings.websocket_url,
            transports=("websocket", "polling"),
            path="/socket.io/",
            heartbeat_interval=int(settings.ping_interval_s * 1000),
            heartbeat_timeout=int(settings.ping_timeout_s * 1000),
        )
    )

    async def get_info(_: web.Request) -> web.Response:
        return web.Response(body=info, content_type="application/json")

    app.router.add_get("/info", get_info)
    return app


def add_operators(
    app: web.Application, operators: Operators, broker: Broker, directory: Directory, *, partitions: int
) -> None:
    """Serve the operators' calls from an internal port."""

    async def get_status(_: web.Request) -> bytes:
        return msgspec.json.encode(await _status(broker, directory, partitions))

    app.router.add_get("/status", operators.route(get_status))


def figures(connections: int, sessions: int, relay_address: str) -> bytes:
    """What one gateway contributes to `/status`, and where others pass on to it what is for its sockets."""
    return msgspec.json.encode(
        {
            "connections": connections,
            "authenticated": sessions,
            "uptimeSeconds": round(time.time() - _STARTED),
            "memoryBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "pid": os.getpid(),
            "relayAddress": relay_address,
        }
    )


async def _status(broker: Broker, directory: Directory, partitions: int) -> dict[str, Any]:
    live = await directory.live()
    by_gateway = await broker.command("HGETALL", keys.figures())
    gateways = [
        {"id": name.decode(), **msgspec.json.decode(packed)}
        for name, packed in sorted(by_gateway.items())
        if name.decode() in live
    ]
    lag = await lags(broker, partitions)
    numbers = range(names.alarm_partition(partitions) + 1)
    leases = await broker.batch([("GET", keys.lease(number)) for number in numbers])
    users = await broker.batch([("HLEN", keys.seats(shard)) for shard in range(keys.DIRECTORY_SHARDS)])
    return {
        "connections": sum(gateway["connections"] for gateway in gateways),
        "authenticated": sum(gateway["authenticated"] for gateway in gateways),
        "usersOnline": sum(count for count in users if isinstance(count, int)),
        "gateways": gateways,
        "partitions": [
            {
                "partition": number,
                "entries": lag.get(number, Lag()).entries,
                "lagMs": round(lag.get(number, Lag()).age_s * 1000),
                "owner": lease.decode().partition(" ")[2] if isinstance(lease, bytes) else None,
            }
            for number, lease in zip(numbers, leases, strict=True)
        ],
    }
