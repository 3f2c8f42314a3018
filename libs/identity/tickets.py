"""Resume tickets: short-lived, signed by the cluster, so that a reconnect storm needs no Firebase.

A ticket holds the claims of the token it came from and never outlives that token, so tickets cannot
be chained past it. Whether its user was revoked or disabled meanwhile, the router says at sign-in.

Several secrets may be given: the first signs, all are believed, so that a secret can be changed while tickets under
the old one are about.
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Final

import msgspec

from libs.identity.claims import Claims
from libs.wire.codes import Code, Refusal

_MAX_CHARS: Final = 1024
_MAC_BYTES: Final = 32
# Signs for this purpose only: the same secret may one day sign something else.
_PURPOSE: Final = b"talowa resume ticket 1\0"

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[int, Claims])


class Tickets:
    """Issues tickets under the first secret, reads those under any. `lifetime_ms` bounds how long one may be used."""

    def __init__(self, secrets: Sequence[str], lifetime_ms: int) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._lifetime_ms = lifetime_ms

    def issue(self, claims: Claims, now_ms: int) -> str:
        """A ticket for these claims, good until the token ends or the lifetime is over."""
        until = min(claims.expires_at_ms, now_ms + self._lifetime_ms)
        body = _encoder.encode((until, claims))
        return urlsafe_b64encode(body + _mac(self._secrets[0], body)).decode().rstrip("=")

    def read(self, ticket: str, now_ms: int) -> Claims:
        """The claims of a ticket. Raises `Refusal` with `token_invalid` or `token_expired`."""
        try:
            if len(ticket) > _MAX_CHARS:
                raise ValueError
            raw = urlsafe_b64decode(ticket.encode("ascii") + b"=" * (-len(ticket) % 4))
            body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
            if not any(hmac.compare_digest(mac, _mac(secret, body)) for secret in self._secrets):
                raise ValueError
            until, claims = _decoder.decode(body)
        except (ValueError, UnicodeError) as error:
            raise Refusal(Code.TOKEN_INVALID) from error
        if now_ms >= until:
            raise Refusal(Code.TOKEN_EXPIRED)
        return claims


def _mac(secret: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + body, hashlib.sha256)
