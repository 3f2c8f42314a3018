"""The internal port of a service: `/healthz`, `/readyz`, `/metrics`.

Liveness means that the loop turns and nothing else; readiness asks the service's own checks, each a
name and a function that gives None, or a sentence that says what is missing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from libs.lifecycle import Unstartable

# What is no HTTP (a scanner, TLS on a plain port, a body that is not gzip) is answered 400, and is no error of ours.
_NOT_OURS: Final = (HttpProcessingError, web.RequestPayloadError)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a line of aiohttp's is to be told; it would name the address that asked."""
    record.msg, record.args = "a request could not be answered", ()
    return not (record.exc_info and isinstance(record.exc_info[1], _NOT_OURS))


_server_log: Final = logging.getLogger("aiohttp.server")
_server_log.addFilter(_is_ours)

# Connections that wait to be taken; the kernel caps it at net.core.somaxconn. When a gateway has died, thousands come
# within a second: whom the kernel turns away here is not told, and waits for its own time-out.
_BACKLOG: Final = 16_384

Checks = Mapping[str, Callable[[], str | None]]


class Guard(Protocol):
    """Watches the connections of a server. `options` are aiohttp's, for whoever handles them."""

    options: Mapping[str, Any]

    def watch(self, server: web.Server) -> Callable[[], asyncio.BaseProtocol]:
        """What makes the protocol of each connection."""
        ...


def add_health(app: web.Application, checks: Checks) -> None:
    """Serve `/healthz` and `/readyz` from `app`."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def readyz(_: web.Request) -> web.Response:
        missing = {name: reason for name, check in checks.items() if (reason := check()) is not None}
        return web.json_response({"ready": not missing, "missing": missing}, status=503 if missing else 200)

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)


def internal_app(registry: CollectorRegistry, checks: Checks) -> web.Application:
    """The application of an internal port; a service may add routes of its own."""
    app = web.Application()
    add_health(app, checks)

    async def metrics(request: web.Request) -> web.Response:
        encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encoder(registry), headers={"Content-Type": content_type})

    app.router.add_get("/metrics", metrics)
    return app


@asynccontextmanager
async def serve(
    app: web.Application, host: str, port: int, variable: str, guard: Guard | None = None
) -> AsyncIterator[int]:
    """Serve `app` while the block runs; gives the port. `variable` is named if the port is taken."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, **(guard.options if guard else {}))
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - for the types
    protocol = guard.watch(runner.server) if guard else runner.server
    try:
        try:
            listener = await asyncio.get_running_loop().create_server(protocol, host, port, backlog=_BACKLOG)
        except OSError as error:
            raise Unstartable(f"{variable}={port}: {error.strerror}. Free the port or choose another.") from error
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
    finally:
        await runner.cleanup()
