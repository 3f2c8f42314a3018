"""Seals: text that only who holds a key can read, or make.

AES-GCM with 256 bits and a random nonce. Several keys may be given: the first seals, all open, so that a key
can be changed while what was sealed under the old one is still about. Each purpose has keys of its own,
derived by HKDF: what was sealed for one opens for no other.

    key id (4 bytes) · nonce (12) · ciphertext and tag
"""

import secrets
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MIN_KEY_CHARS: Final = 32

_KEY_BYTES: Final = 32
_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = _ID_BYTES + _NONCE_BYTES


class Unopenable(ValueError):
    """Sealed under a key that is not ours (any more), for something else, or tampered with."""


class Seals:
    """Seals and opens for one purpose."""

    def __init__(self, keys: Sequence[str], purpose: str) -> None:
        ciphers = [
            (_derive(key, f"id of {purpose}")[:_ID_BYTES], AESGCM(_derive(key, f"key of {purpose}"))) for key in keys
        ]
        self._id, self._cipher = ciphers[0]
        self._ciphers = dict(ciphers)

    def seal(self, plain: bytes, context: bytes = b"") -> bytes:
        """`plain`, sealed; it opens only with the same `context`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._id + nonce + self._cipher.encrypt(nonce, plain, context)

    def open(self, sealed: bytes, context: bytes = b"") -> bytes:
        """What was sealed. Raises `Unopenable`."""
        cipher = self._ciphers.get(sealed[:_ID_BYTES])
        if cipher is None or len(sealed) < _HEAD_BYTES:
            raise Unopenable("no key for this seal")
        try:
            return cipher.decrypt(sealed[_ID_BYTES:_HEAD_BYTES], sealed[_HEAD_BYTES:], context)
        except InvalidTag as error:
            raise Unopenable("the seal is broken") from error


def keys_of(setting: str) -> list[str]:
    """The keys in a setting, separated by commas; the first seals."""
    return [key.strip() for key in setting.split(",") if key.strip()]


def problems(variable: str, setting: str) -> list[str]:
    """What is wrong with the keys in a setting, which may be empty; never the keys."""
    if setting and not keys_of(setting):
        return [f"{variable} has no key. Give one, or several with commas between."]
    return [
        f"{variable} has a key of {len(key)} characters: at least {MIN_KEY_CHARS} are needed. "
        "Make one with: openssl rand -hex 32."
        for key in keys_of(setting)
        if len(key) < MIN_KEY_CHARS
    ]


def _derive(key: str, info: str) -> bytes:
    return HKDF(SHA256(), _KEY_BYTES, salt=None, info=f"talowa 1 {info}".encode()).derive(key.encode())
