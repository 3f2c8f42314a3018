"""What is secret in DATA_DIR: each made once, in a file that only its owner can read.

Two processes that ask at the same moment for a secret that does not exist get the same one.
"""

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_SECRET_BYTES = 32
_KEY_BITS = 2048  # what Firebase signs with


class Keyring:
    """The secrets under one DATA_DIR."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def ticket_secret(self) -> str:
        """What all gateways sign resume tickets with."""
        return _once(self._home / "ticket-secret", _random).decode()

    def cluster_secret(self) -> str:
        """What gateways and routers seal for each other with."""
        return _once(self._home / "cluster-secret", _random).decode()

    def anonymity_key(self) -> str:
        """What routers seal anonymous senders with, in the store."""
        return _once(self._home / "anonymity-key", _random).decode()

    def pseudonym_secret(self) -> str:
        """What makes the names of anonymous senders."""
        return _once(self._home / "pseudonym-secret", _random).decode()

    def admin_token(self) -> str:
        """What opens the operators' routes."""
        return _once(self._home / "admin-token", _random).decode()

    def signing_key(self) -> rsa.RSAPrivateKey:
        """The issuer's private key. Writes its public half beside it for the gateways."""
        file = self._home / "issuer" / "private.pem"
        _once(file, _new_key)
        return read_key(file)

    def public_key_file(self) -> Path:
        """The PEM file that tokens are checked with, made from the private key if it is not there."""
        public = self.signing_key().public_key()
        path = self._home / "issuer" / "public.pem"
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        if not path.exists() or path.read_bytes() != pem:
            path.write_bytes(pem)
        return path


def read_key(file: Path) -> rsa.RSAPrivateKey:
    """A private key that can sign tokens. Raises `OSError`, `ValueError` and `TypeError`."""
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{file} is not an RSA key. Remove it to get a new one.")
    return key


def _once(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of `path`; made and written there by whoever comes first."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp gives mode 0600; a link to it appears whole, or not at all if another was faster.
        handle, name = tempfile.mkstemp(dir=path.parent)
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(make())
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()


def _random() -> bytes:
    return secrets.token_urlsafe(_SECRET_BYTES).encode()


def _new_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
