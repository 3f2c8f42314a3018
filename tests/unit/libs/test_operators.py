"""Operators' calls: who may make them."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from libs.operators import Operators
from libs.wire.codes import Code, Refusal

_OLD, _NEW = "o" * 32, "n" * 32


async def _role_of(token: str) -> str:
    if token == "an-admins":  # noqa: S105 - a name
        return "admin"
    raise Refusal(Code.TOKEN_INVALID)


async def _status(admin_tokens: list[str], offered: str) -> int:
    async def done(_: web.Request) -> bytes:
        return b"{}"

    request = make_mocked_request("GET", "/", headers={"Authorization": f"Bearer {offered}"})
    return (await Operators(admin_tokens, _role_of).route(done)(request)).status


@pytest.mark.parametrize(
    ("admin_tokens", "good"), [([], []), ([_OLD], [_OLD]), ([_OLD, _NEW], [_OLD, _NEW]), ([_NEW], [_NEW])]
)
async def test_each_admin_token_opens_until_it_is_taken_away(admin_tokens: list[str], good: list[str]) -> None:
    """So one can be changed while somebody uses the old one; without any, only an admin's ID token does."""
    for offered in (_OLD, _NEW, "x", ""):
        assert await _status(admin_tokens, offered) == (200 if offered in good else 401)
    assert await _status(admin_tokens, "an-admins") == 200
