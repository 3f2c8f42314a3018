"""Polling without affinity: a request for another gateway's socket is passed on to it.

A socket's id names its gateway. Whatever reaches the wrong one (a poll, a post, the upgrade) goes to the
owner's internal port, once: what arrives there is answered there. Only who polls pays for it.
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from services.gateway.bridge import CLOSE_TIMEOUT_S, Bridge
from services.gateway.compression import Compression, WebSocketResponse
from services.gateway.metrics import GatewayMetrics
from services.gateway.neighbours import Neighbours

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

PATH: Final = "/socket.io/"
_SOCKET_ID: Final = re.compile(r"([A-Za-z0-9-]{1,80})\.[A-Za-z0-9_-]{1,64}", re.ASCII)
_SECRET_HEADER: Final = "X-Talowa-Relay"  # noqa: S105 - its name
# An owner that is alive takes a connection in a millisecond; one whose machine is gone never does.
_CONNECT_TIMEOUT_S: Final = 1.0
# What belongs to one hop, or is said anew on the next (RFC 9110, 7.6.1).
_OF_A_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-connection",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        _SECRET_HEADER.lower(),
    }
)
# What a slow phone may leave unread on a bridge before the owner is held up.
_UNREAD_BYTES: Final = 65_536


class Relay:
    """Passes on what is another gateway's. Gateways believe each other by a secret they share."""

    def __init__(
        self,
        gateway: str,
        neighbours: Neighbours,
        session: aiohttp.ClientSession,
        metrics: GatewayMetrics,
        compression: Compression,
        *,
        secrets: Sequence[str],
        poll_max_s: float,
        frame_max_bytes: int,
        client_address: Callable[[web.Request], str],
    ) -> None:
        self._gateway = gateway
        self._neighbours = neighbours
        self._session = session
        self._metrics = metrics
        self._compression = compression
        # The first is said, all are believed: a secret can be changed on one gateway after the other.
        self._secrets = [hmac.new(secret.encode(), b"relay", hashlib.sha256).hexdigest() for secret in secrets]
        self._poll_max_s = poll_max_s
        self._frame_max_bytes = frame_max_bytes
        self._client_address = client_address
        self.bridges: set[Bridge] = set()

    async def pass_on(self, request: web.Request) -> web.StreamResponse | None:
        """The owner's answer. None if there is no owner: it is gone, or never was."""
        owner = gateway_of(request.query.get("sid", ""))
        address = None if owner in (None, self._gateway) else await self._neighbours.address_of(owner)
        if owner is None or address is None:
            self._metrics.relayed.labels("unknown").inc()
            return None
        # The target may have been written as a whole address, with a host of the client's choosing.
        url = URL(f"http://{address}{request.rel_url.raw_path_qs}", encoded=True)
        try:  # before the owner is asked: what the client does wrong says nothing of it
            body = await request.read() if request.method == hdrs.METH_POST else None
        except web.RequestPayloadError as error:
            raise web.HTTPBadRequest(text="The body is not in the encoding it claims.") from error
        try:
            if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
                return await self._bridge(request, url)
            return await self._ask(request, url, body)
        except aiohttp.WSServerHandshakeError:  # the owner's refusal: the session is gone, or not to be upgraded
            return None
        except (aiohttp.ClientError, OSError, TimeoutError):
            self._neighbours.forget(owner)
            self._metrics.relayed.labels("unreachable").inc()
            return None

    def serve(self, app: web.Application, answer: Answer) -> None:
        """Take from other gateways, on the internal port, what is for sockets here."""

        async def relayed(request: web.Request) -> web.StreamResponse:
            said = request.headers.get(_SECRET_HEADER, "").encode(errors="surrogateescape")
            if not any(hmac.compare_digest(said, secret.encode()) for secret in self._secrets):
                raise web.HTTPForbidden(text="Only gateways of this cluster, with the same TICKET_SECRET, ask here.")
            return await answer(request)

        app.router.add_get(PATH, relayed)
        app.router.add_post(PATH, relayed)

    async def _ask(self, request: web.Request, url: URL, body: bytes | None) -> web.Response:
        self._metrics.relayed.labels("poll" if body is None else "post").inc()
        async with self._session.request(
            request.method,
            url,
            data=body,
            headers=self._headers(request),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=self._poll_max_s, sock_connect=_CONNECT_TIMEOUT_S),
        ) as answer:
            headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in _OF_A_HOP]
            return web.Response(status=answer.status, headers=headers, body=await answer.read())

    async def _bridge(self, request: web.Request, url: URL) -> web.StreamResponse | None:
        client = WebSocketResponse(
            self._compression,
            max_msg_size=self._frame_max_bytes + 1,
            timeout=CLOSE_TIMEOUT_S,
            writer_limit=_UNREAD_BYTES,
        )
        if not client.can_prepare(request):
            return None
        self._metrics.relayed.labels("upgrade").inc()
        closing = aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S)
        async with asyncio.timeout(2 * _CONNECT_TIMEOUT_S):
            owner = await self._session.ws_connect(url, headers=self._headers(request), timeout=closing)
        bridge = Bridge(client, owner, patience_s=self._poll_max_s)
        self.bridges.add(bridge)
        try:
            await client.prepare(request)
            await bridge.run()
        finally:
            self.bridges.discard(bridge)
            await owner.close()  # for a client that is gone before it began
        return client

    def _headers(self, request: web.Request) -> list[tuple[str, str]]:
        """The client's own, and who it is; the body was decoded, and a WebSocket is agreed on anew."""
        kept = [
            (name, value)
            for name, value in request.headers.items()
            if (lower := name.lower()) not in _OF_A_HOP
            and lower != "content-encoding"
            and not lower.startswith("sec-websocket-")
        ]
        return [*kept, ("X-Forwarded-For", self._client_address(request)), (_SECRET_HEADER, self._secrets[0])]


def gateway_of(sid: str) -> str | None:
    """The gateway that a socket's id names, None if it is no id of ours."""
    match = _SOCKET_ID.fullmatch(sid)
    return match[1] if match else None


def open_session() -> aiohttp.ClientSession:
    """Connections to other gateways, kept for the next request. A poll holds one for as long as it waits."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=(hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
    )
