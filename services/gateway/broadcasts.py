"""Emergency broadcasts as they are asked for: by a socket's event, or by operators over HTTP."""

import asyncio
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

import msgspec
from aiohttp import web

from libs.clock import now_ms
from libs.operators import Operators
from libs.wire import events, names
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Answer, Broadcast, Origin, Sender, Tally
from services.gateway.questions import Questions
from services.gateway.uplink import Uplink

_OPERATOR: Final = Sender("operator", "operator", "admin")
# The same words for the same places within this time, without a clientId, are one broadcast that was sent again.
_SAME_MS: Final = 5 * 60 * 1000
_decoder: Final = msgspec.json.Decoder(dict[str, Any])


def frame(event: events.EmergencyBroadcast, origin: Origin, sender: Sender) -> Broadcast:
    """The broadcast to send, checked. Raises `Refusal`.

    The router decides who may; it is asked here as well, as nothing bounds the way of broadcasts but who may use it.
    """
    if sender.role not in events.MAY_WARN:
        raise Refusal(Code.ROLE_REQUIRED)
    event.check()
    at_ms = now_ms()
    place_ids = tuple(dict.fromkeys(event.location_ids))
    client_id = event.client_id or _derived(event, place_ids, at_ms)
    return Broadcast(
        origin=origin,
        sender=sender,
        broadcast_id=names.broadcast_id(sender.user_id, client_id),
        title=event.title,
        content=event.content,
        level=event.location_level,
        place_ids=place_ids,
        priority=event.priority,
        received_at_ms=at_ms,
    )


def add_routes(
    app: web.Application, operators: Operators, questions: Questions, uplink: Uplink, *, answer_timeout_s: float
) -> None:
    """Serve the operators' calls about broadcasts from an internal port."""

    async def ask(make: Callable[[Origin], Broadcast | Tally]) -> bytes:
        asked = make(questions.origin())
        try:
            async with asyncio.timeout(answer_timeout_s):
                said = await questions.ask(asked.origin.session, lambda: uplink.publish_alarm(asked))
        except TimeoutError as error:
            raise Refusal(Code.UNAVAILABLE) from error
        if not isinstance(said, Answer):
            raise Refusal(Code.INTERNAL)
        return _over_http(said.body)

    async def post_broadcast(request: web.Request) -> bytes:
        event = events.read("emergency_broadcast", msgspec.Raw(await request.read()))
        if not isinstance(event, events.EmergencyBroadcast):
            raise Refusal(Code.INVALID_PAYLOAD)
        return await ask(lambda origin: frame(event, origin, _OPERATOR))

    async def get_tally(request: web.Request) -> bytes:
        broadcast_id = request.match_info["id"]
        if names.broadcast_of(names.broadcast(broadcast_id)) is None:
            raise Refusal(Code.NOT_FOUND)
        return await ask(lambda origin: Tally(origin, broadcast_id))

    app.router.add_post("/emergency-broadcast", operators.route(post_broadcast))
    app.router.add_get("/broadcasts/{id}", operators.route(get_tally))


def _derived(event: events.EmergencyBroadcast, place_ids: tuple[str, ...], at_ms: int) -> str:
    said = msgspec.json.encode((event.title, event.content, event.location_level, place_ids, event.priority))
    return f"{blake2b(said, digest_size=16).hexdigest()}/{at_ms // _SAME_MS}"


def _over_http(body: bytes) -> bytes:
    """A router's answer, without `ok`. Raises `Refusal` for one that says no."""
    said = _decoder.decode(body)
    if said.pop("ok"):
        return msgspec.json.encode(said)
    error = said["error"]
    raise Refusal(Code(error["code"]), error["message"], error.get("retryAfterMs"))
