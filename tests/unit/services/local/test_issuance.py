"""The local token issuer as a process: people in, tokens out, for who has the operators' token alone."""

from pathlib import Path

import aiohttp
import jwt
import pytest

from libs.settings import SettingsError, load
from libs.telemetry import health
from services.local.issuance import internal_app
from services.local.issuer import AUDIENCE, ISSUER, Issuer
from services.local.keyring import Keyring
from services.local.settings import IssuanceSettings
from services.router.sqlite import open_store

_TOKEN = "t" * 32
_FILE = b'{"users": [{"id": "asha", "role": "admin"}, {"id": "ravi"}], "groups": [{"id": "v12", "members": ["asha"]}]}'


async def test_who_is_posted_is_in_the_store_and_gets_a_token(tmp_path: Path) -> None:
    """Under the key whose public half gateways have, with the role of the file; wrong ones are refused."""
    keyring = Keyring(tmp_path)
    issuer = Issuer(keyring.signing_key())
    async with open_store(tmp_path / "store.db") as store:
        app = internal_app(issuer, store, _TOKEN, 60)
        async with health.serve(app, "127.0.0.1", 0, "INTERNAL_PORT") as port, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}"

            async def post(body: bytes, token: str) -> tuple[int, dict[str, dict[str, str]]]:
                headers = {"Authorization": f"Bearer {token}"}
                async with session.post(f"{url}/people", data=body, headers=headers) as response:
                    return response.status, await response.json()

            assert (await post(_FILE, "x" * 32))[0] == 401
            assert await store.users(["asha"]) == {}
            assert (await post(b'{"users": [{"id": "a:b"}]}', _TOKEN))[0] == 400
            status, answer = await post(_FILE, _TOKEN)
            assert status == 200
            assert (await store.users(["asha", "ravi"])).keys() == {"asha", "ravi"}
            assert (await store.groups(["v12"]))["v12"].members == {"asha"}
            async with session.get(f"{url}/readyz") as response:
                assert response.status == 200
    key = keyring.public_key_file().read_bytes()
    claims = {
        user: jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER)
        for user, token in answer["tokens"].items()
    }
    assert {user: (claim["sub"], claim.get("role")) for user, claim in claims.items()} == {
        "asha": ("asha", "admin"),
        "ravi": ("ravi", None),
    }
    assert {claim["exp"] - claim["iat"] for claim in claims.values()} == {60}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"TOKEN_SIGNING_KEY_FILE": "/nowhere.pem", "ADMIN_TOKEN": _TOKEN}, "TOKEN_SIGNING_KEY_FILE=.*openssl genrsa"),
        ({"TOKEN_SIGNING_KEY_FILE": __file__, "ADMIN_TOKEN": "short"}, "ADMIN_TOKEN has 5 characters"),
    ],
)
def test_what_it_lacks_is_named(environ: dict[str, str], words: str) -> None:
    """With the command that makes it."""
    with pytest.raises(SettingsError, match=words):
        load(IssuanceSettings, environ)
