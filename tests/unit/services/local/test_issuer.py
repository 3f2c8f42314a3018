"""Local tokens are signed as Firebase's are, with a key of this DATA_DIR alone."""

import stat
from pathlib import Path

import jwt
import pytest

from services.local.issuer import AUDIENCE, ISSUER, Issuer
from services.local.keyring import Keyring


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DATA_DIR whose key is made once: it takes a while."""
    return tmp_path_factory.mktemp("home")


def test_a_token_is_valid_under_the_public_key(home: Path) -> None:
    """Its claims are those of an ID token."""
    keyring = Keyring(home)
    token = Issuer(keyring.signing_key()).token("asha", role="admin", ttl_s=60)
    claims = jwt.decode(
        token, keyring.public_key_file().read_bytes(), algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER
    )
    assert claims["sub"] == claims["user_id"] == "asha"
    assert claims["role"] == "admin"
    assert claims["exp"] - claims["iat"] == 60
    assert claims["auth_time"] == claims["iat"]


def test_a_token_has_a_role_only_if_it_was_given_one(home: Path) -> None:
    """Without it, the user document says."""
    token = Issuer(Keyring(home).signing_key()).token("asha")
    assert "role" not in jwt.decode(token, options={"verify_signature": False})


def test_the_key_stays_and_is_private(home: Path) -> None:
    """A token outlives the process that signed it; only the owner can sign."""
    first, second = Keyring(home), Keyring(home)
    assert first.signing_key().private_numbers() == second.signing_key().private_numbers()
    assert stat.S_IMODE((home / "issuer" / "private.pem").stat().st_mode) == 0o600


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    """All gateways, and every command after them, share them."""
    keyring = Keyring(tmp_path)
    assert keyring.ticket_secret() == Keyring(tmp_path).ticket_secret()
    assert keyring.admin_token() == Keyring(tmp_path).admin_token()
    assert keyring.ticket_secret() != keyring.admin_token()
    assert len(keyring.ticket_secret()) >= 32
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name for path in files} == {"ticket-secret", "admin-token"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
