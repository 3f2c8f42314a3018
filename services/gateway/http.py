"""The gateway's HTTP: `/info` for clients, `/status` for operators."""

import hmac
import os
import resource
import time
from typing import Any, Final

import msgspec
from aiohttp import web

from libs import keys
from libs.broker import AWAY, Broker
from libs.directory import Directory
from libs.telemetry import health
from libs.wire import payloads
from libs.wire.codes import Code, Refusal
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


def add_status(
    app: web.Application, broker: Broker, directory: Directory, *, partitions: int, admin_token: str
) -> None:
    """Serve `/status` of the whole cluster from an internal port, to who has the admin token."""

    async def get_status(request: web.Request) -> web.Response:
        if not _is_admin(request, admin_token):
            refusal = payloads.refused(Refusal(Code.ACCESS_DENIED, "Send Authorization: Bearer <admin token>."))
            return web.Response(body=payloads.encode(refusal), status=401, content_type="application/json")
        try:
            body = await _status(broker, directory, partitions)
        except AWAY:
            refusal = payloads.refused(Refusal(Code.UNAVAILABLE))
            return web.Response(body=payloads.encode(refusal), status=503, content_type="application/json")
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    app.router.add_get("/status", get_status)


def figures(connections: int, sessions: int) -> bytes:
    """What one gateway contributes to `/status`."""
    return msgspec.json.encode(
        {
            "connections": connections,
            "authenticated": sessions,
            "uptimeSeconds": round(time.time() - _STARTED),
            "memoryBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "pid": os.getpid(),
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
    leases = await broker.batch([("GET", keys.lease(number)) for number in range(partitions)])
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
            for number, lease in enumerate(leases)
        ],
    }


def _is_admin(request: web.Request, admin_token: str) -> bool:
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    return bool(admin_token) and kind == "Bearer" and hmac.compare_digest(given.encode(), admin_token.encode())
