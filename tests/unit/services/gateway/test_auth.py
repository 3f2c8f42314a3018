"""Token or ticket → claims, or a code."""

from collections.abc import Mapping
from typing import Any

import pytest

from libs.identity import Claims, Tickets
from libs.wire.codes import Code, Refusal
from services.gateway.auth import Authenticator, offers_anything
from tests.unit.services.gateway.fakes import FAR_MS

_TICKETS = Tickets(["s" * 32], 3_600_000)


class FakeVerifier:
    """Believes every token; its text says whose it is."""

    async def verify(self, token: str) -> Claims:
        return Claims(token, 0, FAR_MS, "admin")


@pytest.mark.parametrize(
    ("offered", "code"),
    [
        ({}, Code.TOKEN_MISSING),
        ({"token": "", "resumeTicket": None}, Code.TOKEN_MISSING),
        ({"token": 5}, Code.TOKEN_INVALID),
        ({"resumeTicket": ["x"]}, Code.TOKEN_INVALID),
        ({"resumeTicket": "x"}, Code.TOKEN_INVALID),
    ],
)
async def test_an_offer_that_is_none_is_refused(offered: Mapping[str, Any], code: Code) -> None:
    """Nothing at all is `token_missing`; anything else is `token_invalid`."""
    with pytest.raises(Refusal) as refused:
        await Authenticator(FakeVerifier(), _TICKETS).check(offered)
    assert refused.value.code is code
    assert offers_anything(offered) == (code is Code.TOKEN_INVALID)


async def test_a_ticket_stands_for_its_token() -> None:
    """With the same claims; a token beside it is looked at first."""
    authenticator = Authenticator(FakeVerifier(), _TICKETS)
    claims = await authenticator.check({"token": "asha"})
    assert await authenticator.check({"resumeTicket": authenticator.ticket(claims)}) == claims
    other = await authenticator.check({"token": "bala", "resumeTicket": authenticator.ticket(claims)})
    assert other.user_id == "bala"
