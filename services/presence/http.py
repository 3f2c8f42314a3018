"""Presence's calls for operators: `/presence?ids=…` and `/presence/statistics`."""

from typing import Final

import msgspec
from aiohttp import web

from libs.broker import Broker
from libs.clock import now_ms
from libs.directory import Standing, standing
from libs.identity.verifier import Verifier
from libs.operators import Operators
from libs.wire import names, payloads
from libs.wire.codes import Code, Refusal
from services.presence.lastseen import LastSeen

_MAX_IDS: Final = 1000


def add_operators(app: web.Application, operators: Operators, broker: Broker, store: LastSeen) -> None:
    """Serve the calls from an internal port."""

    async def get_presence(request: web.Request) -> bytes:
        users = _ids(request.query.get("ids", ""))
        found = await standing.announced(broker, users)
        # Who was never announced since the broker began is away.
        stored = await store.seen([user for user in users if user not in found])
        now = now_ms()
        for user in users:
            found.setdefault(user, Standing(standing.OFFLINE, 0, stored.get(user, 0)))
        return payloads.encode(
            payloads.Presence({user: payloads.Seen(found[user].status, found[user].seen_ms(now)) for user in users})
        )

    async def get_statistics(_: web.Request) -> bytes:
        return msgspec.json.encode(await standing.statistics(broker))

    app.router.add_get("/presence", operators.route(get_presence))
    app.router.add_get("/presence/statistics", operators.route(get_statistics))


class RoleClaims:
    """The role that an ID token itself claims: presence has no documents of users to ask."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def role_of(self, token: str) -> str:
        """The role, empty where the token claims none. Raises `Refusal`."""
        return (await self._verifier.verify(token)).role or ""


def _ids(given: str) -> list[str]:
    users = list(dict.fromkeys(user for user in given.split(",") if user))
    if len(users) > _MAX_IDS:
        raise Refusal(Code.TOO_MANY, f"ids has {len(users)} ids; {_MAX_IDS} are the most.")
    if not users or not all(names.is_id(user) for user in users):
        raise Refusal(Code.INVALID_PAYLOAD, "ids is one or more user ids, separated by commas.")
    return users
