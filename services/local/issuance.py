"""`python -m services.local.issuance`: the local token issuer as a process of its own, for clusters without Firebase.

Who has the operators' token posts a file of people, as `talowa import` reads it, and gets a token for each user in it.
It writes to the store of the routers, beside them, and signs with a key that no other process needs.
"""

import asyncio
from typing import Final

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from libs import lifecycle, settings
from libs.identity import seals
from libs.operators import Operators
from libs.storage import StoreAway
from libs.telemetry import health, logs
from libs.wire.codes import Code, Refusal
from services.local import people
from services.local.issuer import Issuer
from services.local.keyring import read_key
from services.local.people import BadFile
from services.local.settings import IssuanceSettings
from services.router.sqlite import open_store
from services.router.store import Registry

log = structlog.get_logger(__name__)

# A store whose routers make its file at this moment is asked again this often.
_STORE_WAIT_S: Final = 0.5


async def main(stop: asyncio.Event) -> None:
    """Register people and issue tokens until `stop` is set."""
    s = settings.load(IssuanceSettings)
    logs.configure("issuer", "issuer", s.log_level)
    issuer = Issuer(read_key(s.token_signing_key_file))
    while not stop.is_set():
        try:
            async with open_store(s.sqlite_path, patience_s=s.store_patience_s) as store:
                app = internal_app(issuer, store, s.admin_token, s.token_lifetime_s)
                async with health.serve(app, s.internal_host, s.internal_port, "INTERNAL_PORT") as port:
                    log.info("started", internal_port=port)
                    await stop.wait()
        except StoreAway as error:
            log.warning("waiting for the store", error=str(error))
            await asyncio.sleep(_STORE_WAIT_S)
    log.info("stopped")


def internal_app(issuer: Issuer, store: Registry, admin_token: str, lifetime_s: int) -> web.Application:
    """The application of its port."""
    app = health.internal_app(CollectorRegistry(), {})

    async def post_people(request: web.Request) -> bytes:
        try:
            file = people.parse(await request.read())
        except BadFile as error:
            raise Refusal(Code.INVALID_PAYLOAD, str(error)) from error
        await people.put_users(store, file.users)
        await people.put_groups(store, file.groups)
        return msgspec.json.encode(
            {"tokens": {user.id: issuer.token(user.id, user.role, lifetime_s) for user in file.users}}
        )

    app.router.add_post("/people", Operators(seals.keys_of(admin_token), _nobodys_role).route(post_people))
    return app


async def _nobodys_role(_: str) -> str:
    raise Refusal(Code.TOKEN_INVALID)


if __name__ == "__main__":
    lifecycle.run(main)
