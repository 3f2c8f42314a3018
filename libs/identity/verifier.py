"""Token → claims, or a code.

`Verifier` is the contract of an issuer: the local one is here, Firebase will be another.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import jwt
from cryptography.hazmat.primitives import serialization

from libs.identity.claims import Claims
from libs.wire import names
from libs.wire.codes import Code, Refusal

_MAX_TOKEN_CHARS: Final = 8192
# Two machines' clocks need not agree to the second.
_LEEWAY_S: Final = 5
# A clock that is off by more has stopped telling the time; so has a token that says so.
_CLOCKS_APART_S: Final = 3600


class Verifier(Protocol):
    """Checks the ID tokens of one issuer."""

    async def verify(self, token: str) -> Claims:
        """The claims of a good token. Raises `Refusal` with `token_invalid`, `_expired` or `_revoked`."""
        ...


class LocalVerifier:
    """Tokens of the local issuer: RS256 under one known key (about 60 µs a token)."""

    def __init__(self, key_file: Path, *, issuer: str, audience: str) -> None:
        self._key = serialization.load_pem_public_key(key_file.read_bytes())
        self._issuer = issuer
        self._audience = audience

    async def verify(self, token: str) -> Claims:
        """See `Verifier`."""
        if len(token) > _MAX_TOKEN_CHARS:
            raise Refusal(Code.TOKEN_INVALID)
        try:
            payload = jwt.decode(
                token,
                key=self._key,  # type: ignore[arg-type] # RSA, by the algorithm that is asked for
                algorithms=["RS256"],
                issuer=self._issuer,
                audience=self._audience,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "aud", "iss"], "verify_iat": False},
            )
        except jwt.ExpiredSignatureError as error:
            raise Refusal(Code.TOKEN_EXPIRED) from error
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Refusal(Code.TOKEN_INVALID) from error
        _check_issued(payload["iat"], time.time())
        return _claims(payload)


def _check_issued(issued_at: object, now: float) -> None:
    """A token of the near future is good: its issuer's clock is ahead, or ours is behind. It is told to come again."""
    if not isinstance(issued_at, int | float) or issued_at > now + _CLOCKS_APART_S:
        raise Refusal(Code.TOKEN_INVALID)
    if issued_at > now + _LEEWAY_S:
        raise Refusal(Code.UNAVAILABLE)


def _claims(payload: Mapping[str, Any]) -> Claims:
    user_id, role = payload["sub"], payload.get("role")
    issued_at = payload.get("auth_time", payload["iat"])
    if not isinstance(user_id, str) or not names.is_id(user_id) or not isinstance(issued_at, int | float):
        raise Refusal(Code.TOKEN_INVALID)
    return Claims(
        user_id=user_id,
        issued_at_ms=int(issued_at * 1000),
        expires_at_ms=int(payload["exp"] * 1000),
        role=role if isinstance(role, str) else None,
    )
