"""Token → claims, or a code: one verifier for each issuer whose tokens may be believed.

The local issuer signs with one key that is known; Firebase with keys that Google publishes; Firebase's emulator does
not sign at all.
"""

import asyncio
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from msgspec import Struct

from libs.identity.certificates import Certificates, KeysAway
from libs.identity.claims import Claims
from libs.wire import names
from libs.wire.codes import Code, Refusal

_MAX_TOKEN_CHARS: Final = 8192
# Two machines' clocks need not agree to the second.
_LEEWAY_S: Final = 5
_PUBLIC_KEYS: Final = re.compile(rb"-----BEGIN [A-Z ]*PUBLIC KEY-----.+?-----END [A-Z ]*PUBLIC KEY-----", re.DOTALL)
_ID_CLAIMS: Final = ("exp", "iat", "sub", "aud", "iss")
_FIREBASE_CLAIMS: Final = (*_ID_CLAIMS, "auth_time")


class _Header(Struct, frozen=True):
    alg: str
    kid: str = ""


_headers: Final = msgspec.json.Decoder(_Header)
# A clock that is off by more has stopped telling the time; so has a token that says so.
_CLOCKS_APART_S: Final = 3600


class Verifier(Protocol):
    """Checks the ID tokens of one issuer."""

    async def verify(self, token: str) -> Claims:
        """The claims of a good token. Raises `Refusal` with `token_invalid`, `_expired`, or `unavailable`."""
        ...


class Issuer(Verifier, Protocol):
    """What a service runs to have a `Verifier`."""

    @property
    def problem(self) -> str | None:
        """Why no token can be checked now, if none can."""
        ...

    @property
    def age_s(self) -> float:
        """Seconds since the keys were fetched; 0 where they never change."""
        ...

    async def run(self) -> None:
        """Keep at hand what checking takes, until cancelled."""
        ...


class LocalVerifier:
    """Tokens of the local issuer: RS256 under a known key (about 60 µs a token), or one of several."""

    problem: str | None = None
    age_s = 0.0

    def __init__(self, key_file: Path, *, issuer: str, audience: str) -> None:
        pem = key_file.read_bytes()
        self._keys = [serialization.load_pem_public_key(key) for key in _PUBLIC_KEYS.findall(pem) or [pem]]
        self._issuer = issuer
        self._audience = audience

    async def verify(self, token: str) -> Claims:
        """See `Verifier`."""
        *others, last = self._keys
        for key in others:
            try:
                return self._read(token, key)
            except Refusal as refusal:
                if refusal.code is not Code.TOKEN_INVALID:
                    raise
        return self._read(token, last)

    def _read(self, token: str, key: Any) -> Claims:
        return _claims(_decoded(token, key, self._issuer, self._audience, _ID_CLAIMS))

    async def run(self) -> None:
        """See `Issuer`. The keys are those of the start."""
        await asyncio.Event().wait()


class FirebaseVerifier:
    """Tokens of a Firebase project: RS256 under Google's keys.

    What is checked is what Firebase prescribes (https://firebase.google.com/docs/auth/admin/verify-id-tokens). Who was
    disabled or revoked is the router's to know.
    """

    def __init__(self, project: str, certificates: Certificates) -> None:
        self._certificates = certificates
        self._issuer = _firebase_issuer(project)
        self._audience = project

    @property
    def problem(self) -> str | None:
        """See `Issuer`."""
        return self._certificates.problem

    @property
    def age_s(self) -> float:
        """See `Issuer`."""
        return self._certificates.age_s

    async def verify(self, token: str) -> Claims:
        """See `Verifier`."""
        key_id = _header(token).kid
        try:
            key = self._certificates.key(key_id) or await self._certificates.find(key_id)
        except KeysAway as error:
            raise Refusal(Code.UNAVAILABLE) from error
        if key is None:
            raise Refusal(Code.TOKEN_INVALID)
        return _claims(_decoded(token, key, self._issuer, self._audience, _FIREBASE_CLAIMS))

    async def run(self) -> None:
        """See `Issuer`."""
        await self._certificates.run()


class EmulatorVerifier:
    """Tokens of Firebase's Auth emulator, which nobody signed: for trying out, and for nothing else."""

    problem: str | None = None
    age_s = 0.0

    def __init__(self, project: str) -> None:
        self._issuer = _firebase_issuer(project)
        self._audience = project

    async def verify(self, token: str) -> Claims:
        """See `Verifier`."""
        if _header(token).alg != "none":
            raise Refusal(Code.TOKEN_INVALID)
        return _claims(_decoded(token, None, self._issuer, self._audience, _FIREBASE_CLAIMS))

    async def run(self) -> None:
        """See `Issuer`. There are no keys."""
        await asyncio.Event().wait()


def _firebase_issuer(project: str) -> str:
    return f"https://securetoken.google.com/{project}"


def _header(token: str) -> "_Header":
    """What a token says of its key, unchecked. A tenth of the time that PyJWT takes to say it."""
    if len(token) > _MAX_TOKEN_CHARS:
        raise Refusal(Code.TOKEN_INVALID)
    part = token.partition(".")[0]
    try:
        return _headers.decode(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refusal(Code.TOKEN_INVALID) from error


def _decoded(token: str, key: Any, issuer: str, audience: str, required: tuple[str, ...]) -> Mapping[str, Any]:
    """What a token says, if it is good. Without a key its signature is not looked at."""
    if len(token) > _MAX_TOKEN_CHARS:
        raise Refusal(Code.TOKEN_INVALID)
    options: dict[str, Any] = {"require": list(required), "verify_iat": False}
    if key is None:
        options |= dict.fromkeys(("verify_exp", "verify_aud", "verify_iss"), True)
        options["verify_signature"] = False
    try:
        payload = jwt.decode(
            token,
            key=key,
            algorithms=["RS256"],
            issuer=issuer,
            audience=audience,
            leeway=_LEEWAY_S,
            options=options,  # type: ignore[arg-type] # a dict that is put together
        )
    except jwt.ExpiredSignatureError as error:
        raise Refusal(Code.TOKEN_EXPIRED) from error
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Refusal(Code.TOKEN_INVALID) from error
    _check_issued(payload["iat"], time.time())
    return payload


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
    _check_issued(issued_at, time.time())  # a sign-in that is yet to come could not be revoked
    return Claims(
        user_id=user_id,
        issued_at_ms=int(issued_at * 1000),
        expires_at_ms=int(payload["exp"] * 1000),
        role=role if isinstance(role, str) else None,
    )
