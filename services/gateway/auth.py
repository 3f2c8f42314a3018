"""Token or ticket → claims, or a code. Identity comes from here alone.

A resume ticket is the cluster's own and asks no issuer.
"""

from collections.abc import Mapping
from typing import Any

from libs.clock import now_ms
from libs.identity import Claims, Tickets
from libs.identity.verifier import Verifier
from libs.wire.codes import Code, Refusal


class Authenticator:
    """Reads what a client offers, token or ticket."""

    def __init__(self, verifier: Verifier, tickets: Tickets) -> None:
        self._verifier = verifier
        self._tickets = tickets

    async def check(self, offered: Mapping[str, Any]) -> Claims:
        """The claims of `token`, else of `resumeTicket`. Raises `Refusal`."""
        token, ticket = offered.get("token"), offered.get("resumeTicket")
        if isinstance(token, str) and token:
            return await self._verifier.verify(token)
        if isinstance(ticket, str) and ticket:
            return self._tickets.read(ticket, now_ms())
        raise Refusal(Code.TOKEN_MISSING if token in (None, "") and ticket in (None, "") else Code.TOKEN_INVALID)

    def ticket(self, claims: Claims) -> str:
        """A resume ticket for who just signed in."""
        return self._tickets.issue(claims, now_ms())


def offers_anything(auth: Mapping[str, Any]) -> bool:
    """Whether a handshake tries to sign in at all."""
    return any(auth.get(name) not in (None, "") for name in ("token", "resumeTicket"))
