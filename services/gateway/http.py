"""The gateway's HTTP: `/info` for clients, `/status` for operators."""

from aiohttp import web

from libs.broker import Broker
from libs.operators import Operators
from libs.telemetry import health
from libs.wire import payloads
from services.gateway.settings import GatewaySettings
from services.gateway.status import read_status


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


def add_operators(app: web.Application, operators: Operators, broker: Broker, *, partitions: int) -> None:
    """Serve the operators' calls from an internal port."""

    async def get_status(_: web.Request) -> bytes:
        return await read_status(broker, partitions)

    app.router.add_get("/status", operators.route(get_status))
