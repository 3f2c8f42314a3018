"""Operators' calls that change something: stop and start this gateway, spread sockets evenly, revoke a user."""

import asyncio
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from libs.clock import now_ms
from libs.directory import Directory
from libs.operators import Operators
from libs.wire import events, names, payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Revoke
from services.gateway.drain import Drain
from services.gateway.questions import Questions, body_of
from services.gateway.rebalance import Rebalance
from services.gateway.uplink import Uplink

WindowS = Annotated[float, Meta(ge=0, le=600)]


class Stop(Struct, rename={"window_s": "windowS"}, frozen=True):
    """What `POST /stop` takes."""

    window_s: WindowS | None = None


class Stopping(Struct, rename={"window_s": "windowS"}, frozen=True):
    """How many sockets are left to close, and in how many seconds they will be."""

    draining: int
    window_s: float


class Rebalancing(Struct, frozen=True):
    """How many sockets each gateway has too many, and how many each should have."""

    gateways: dict[str, int]
    target: int


class Started(Struct, frozen=True):
    """How many sockets stayed."""

    connections: int


_window: Final = msgspec.json.Decoder(WindowS)
_stop: Final = msgspec.json.Decoder(Stop)
_revoked: Final = msgspec.json.Decoder(payloads.Revoked)


class Operations:
    """Carries out what operators ask of this gateway, or of the cluster through it."""

    def __init__(
        self,
        drain: Drain,
        rebalance: Rebalance,
        directory: Directory,
        questions: Questions,
        uplink: Uplink,
        *,
        drain_window_s: float,
        answer_timeout_s: float,
    ) -> None:
        self._drain = drain
        self._rebalance = rebalance
        self._directory = directory
        self._questions = questions
        self._uplink = uplink
        self._drain_window_s = drain_window_s
        self._answer_timeout_s = answer_timeout_s

    def attach(self, app: web.Application, operators: Operators) -> None:
        """Serve the calls from an internal port."""
        app.router.add_post("/stop", operators.route(self._post_stop))
        app.router.add_post("/start", operators.route(self._post_start))
        app.router.add_post("/rebalance", operators.route(self._post_rebalance))
        app.router.add_post("/users/{uid}/revoke", operators.route(self._post_revoke))

    async def _post_stop(self, request: web.Request) -> bytes:
        window_s = _asked_window(request.query.get("windowS"), await request.read())
        left, window_s = self._drain.stop(self._drain_window_s if window_s is None else window_s)
        return msgspec.json.encode(Stopping(left, round(window_s, 1)))

    async def _post_start(self, _: web.Request) -> bytes:
        return msgspec.json.encode(Started(self._drain.start()))

    async def _post_rebalance(self, _: web.Request) -> bytes:
        given, gateways = await self._rebalance.ask()
        excess = {gateway: given.shares[gateway].excess if gateway in given.shares else 0 for gateway in gateways}
        return msgspec.json.encode(Rebalancing(excess, given.target))

    async def _post_revoke(self, request: web.Request) -> bytes:
        """Ask the router of the user's partition, which closes their sockets in line with their sign-ins."""
        user_id = request.match_info["uid"]
        if not names.is_id(user_id):
            raise Refusal(Code.USER_NOT_FOUND)
        located = await self._directory.locate([user_id])
        origin = self._questions.origin()
        frame = Revoke(origin, user_id, now_ms())
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                said = await self._questions.ask(origin.session, lambda: self._uplink.publish_for_user(user_id, frame))
        except TimeoutError as error:
            raise Refusal(Code.UNAVAILABLE) from error
        revoked = _revoked.decode(body_of(said))
        return payloads.encode(msgspec.structs.replace(revoked, gateways=len(located.get(user_id, ()))))


def _asked_window(query: str | None, body: bytes) -> float | None:
    """The window of the query, else of the body, if either names one. Raises `Refusal`."""
    try:
        if query is not None:
            return _window.decode(query)
        return _stop.decode(body).window_s if body.strip() else None
    except events.UNREADABLE as error:
        raise Refusal(Code.INVALID_PAYLOAD, "windowS is a number of seconds from 0 to 600.") from error
