"""Token → claims, or a code."""

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from libs.identity.verifier import LocalVerifier
from libs.wire.codes import Code, Refusal

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> LocalVerifier:
    """Of an issuer whose private key the tests have."""
    path: Path = tmp_path_factory.mktemp("key") / "public.pem"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(_KEY.public_key().public_bytes(serialization.Encoding.PEM, form))
    return LocalVerifier(path, issuer="issuer", audience="audience")


def token(key: Any = _KEY, algorithm: str = "RS256", **changed: Any) -> str:
    """A good token with something changed; None leaves a claim out."""
    now_s = int(time.time())
    claims = {"iss": "issuer", "aud": "audience", "sub": "asha", "iat": now_s, "exp": now_s + 60} | changed
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm)


async def refusal(verifier: LocalVerifier, offered: str) -> Code:
    """The code a token is refused with."""
    with pytest.raises(Refusal) as refused:
        await verifier.verify(offered)
    return refused.value.code


async def test_a_good_token_says_whose_it_is(verifier: LocalVerifier) -> None:
    """Until when, since when, and the role if it claims one."""
    now_s = int(time.time())
    claims = await verifier.verify(token(auth_time=now_s - 100, role="admin"))
    assert (claims.user_id, claims.role) == ("asha", "admin")
    assert claims.issued_at_ms == (now_s - 100) * 1000
    assert abs(claims.expires_at_ms - (now_s + 60) * 1000) <= 1000
    assert (await verifier.verify(token(role=["admin"]))).role is None


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"exp": 1}, Code.TOKEN_EXPIRED),
        ({"exp": None}, Code.TOKEN_INVALID),
        ({"exp": "soon"}, Code.TOKEN_INVALID),
        ({"iat": None}, Code.TOKEN_INVALID),
        ({"iat": 1 << 40}, Code.TOKEN_INVALID),
        ({"iat": "then"}, Code.TOKEN_INVALID),
        ({"iss": "another"}, Code.TOKEN_INVALID),
        ({"aud": "another"}, Code.TOKEN_INVALID),
        ({"aud": None}, Code.TOKEN_INVALID),
        ({"sub": None}, Code.TOKEN_INVALID),
        ({"sub": ""}, Code.TOKEN_INVALID),
        ({"sub": "a:b"}, Code.TOKEN_INVALID),
        ({"auth_time": "then"}, Code.TOKEN_INVALID),
        ({"key": "x" * 32, "algorithm": "HS256"}, Code.TOKEN_INVALID),
        ({"key": None, "algorithm": "none"}, Code.TOKEN_INVALID),
        ({"padding": "x" * 9_000}, Code.TOKEN_INVALID),
    ],
)
async def test_a_token_that_is_not_good_is_refused(
    verifier: LocalVerifier, changed: dict[str, Any], code: Code
) -> None:
    """With the code that tells the client what to do."""
    assert await refusal(verifier, token(**changed)) is code


@given(text=st.one_of(st.text(), st.text("abcXYZ019-_=.", max_size=80), st.just("W" * 4_000 + ".e30.AAAA")))
async def test_any_text_is_refused(verifier: LocalVerifier, text: str) -> None:
    """Nothing a stranger sends raises anything else."""
    assert await refusal(verifier, text) is Code.TOKEN_INVALID


async def test_a_clock_that_is_behind_turns_nobody_away_for_good(verifier: LocalVerifier) -> None:
    """A token from five minutes ahead may be good: it is told to come again, perhaps elsewhere, and not to sign out."""
    ahead_s = int(time.time()) + 300
    assert await refusal(verifier, token(iat=ahead_s, exp=ahead_s + 60)) is Code.UNAVAILABLE
