"""Operators' calls on an internal port: who may make them, and how a refusal is said over HTTP."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from libs.broker import AWAY
from libs.storage import StoreAway
from libs.wire import payloads
from libs.wire.codes import Code, Refusal

Handler = Callable[[web.Request], Awaitable[bytes]]
RoleOf = Callable[[str], Awaitable[str]]

_MAY_OPERATE: Final = frozenset({"admin", "founder"})
_STATUS: Final = {
    Code.NOT_AUTHENTICATED: 401,
    Code.TOKEN_INVALID: 401,
    Code.TOKEN_EXPIRED: 401,
    Code.TOKEN_REVOKED: 401,
    Code.USER_DISABLED: 401,
    Code.ACCESS_DENIED: 403,
    Code.ROLE_REQUIRED: 403,
    Code.NOT_FOUND: 404,
    Code.USER_NOT_FOUND: 404,
    Code.CONTENT_TOO_LARGE: 413,
    Code.RATE_LIMITED: 429,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.OVERLOADED: 503,
}
_JSON: Final = "application/json"


class Operators:
    """Lets in who has an admin token, or an ID token of an admin or founder.

    `role_of` gives the role of an ID token's user, or raises `Refusal`. Several admin tokens may be good while one is
    changed.
    """

    def __init__(self, admin_tokens: list[str], role_of: RoleOf) -> None:
        self._admin_tokens = [token.encode() for token in admin_tokens]
        self._role_of = role_of

    def route(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        """`handler`, whose result is a JSON body, for those who may; a `Refusal` is said with its code."""

        async def answer(request: web.Request) -> web.Response:
            try:
                await self._check(request)
                return web.Response(body=await handler(request), content_type=_JSON)
            except Refusal as refusal:
                return refused(refusal)
            except web.HTTPRequestEntityTooLarge:
                return refused(Refusal(Code.CONTENT_TOO_LARGE, "The body is over 1 MiB."))
            except (StoreAway, *AWAY):
                return refused(Refusal(Code.UNAVAILABLE))

        return answer

    async def _check(self, request: web.Request) -> None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or not token:
            raise Refusal(Code.NOT_AUTHENTICATED, "Send Authorization: Bearer <admin token, or an admin's ID token>.")
        # A header may hold any bytes; those that are no UTF-8 are kept as surrogates.
        offered = token.encode(errors="surrogateescape")
        if any(hmac.compare_digest(offered, good) for good in self._admin_tokens):
            return
        if not token.isascii():
            raise Refusal(Code.TOKEN_INVALID)
        try:
            role = await self._role_of(token)
        except Refusal as refusal:
            if refusal.code is Code.USER_NOT_FOUND:  # of who asks: 404 would speak of whom they ask about
                raise Refusal(Code.TOKEN_INVALID) from refusal
            raise
        if role not in _MAY_OPERATE:
            raise Refusal(Code.ROLE_REQUIRED, "Only an admin or founder may do this.")


def refused(refusal: Refusal) -> web.Response:
    """A refusal over HTTP: its code in the body, and the status that fits it."""
    headers = {}
    if refusal.retry_after_ms is not None:
        headers["Retry-After"] = str(-(-refusal.retry_after_ms // 1000))
    body = payloads.encode(payloads.refused(refusal))
    return web.Response(body=body, status=_STATUS.get(refusal.code, 400), content_type=_JSON, headers=headers)
