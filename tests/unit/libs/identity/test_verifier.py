"""Token → claims, or a code."""

import base64
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from libs.identity.certificates import Certificates, Fetched, KeysAway
from libs.identity.verifier import EmulatorVerifier, FirebaseVerifier, LocalVerifier, Verifier
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


async def refusal(verifier: Verifier, offered: str) -> Code:
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


async def test_an_issuers_key_can_be_changed_while_tokens_under_the_old_one_are_about(tmp_path: Path) -> None:
    """A file with both keys, one after the other: tokens of either are good, or over; of a third they are not."""
    older, third = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pems = [key.public_key().public_bytes(serialization.Encoding.PEM, form) for key in (_KEY, older)]
    (tmp_path / "public.pem").write_bytes(b"".join(pems))
    both = LocalVerifier(tmp_path / "public.pem", issuer="issuer", audience="audience")
    for key in (_KEY, older):
        assert (await both.verify(token(key))).user_id == "asha"
        assert await refusal(both, token(key, exp=1)) is Code.TOKEN_EXPIRED
    assert await refusal(both, token(third)) is Code.TOKEN_INVALID


# --- Firebase's --------------------------------------------------------------------------------------------


_PROJECT = "talowa-1a2b3"


async def published() -> Fetched:
    """One key."""
    return Fetched({"k1": _KEY.public_key()}, 3600)


async def away() -> Fetched:
    """No keys today."""
    raise KeysAway("no route")


def firebase_token(key: Any = _KEY, algorithm: str = "RS256", kid: Any = "k1", **changed: Any) -> str:
    """An ID token as Firebase makes it, with something changed."""
    now_s = int(time.time())
    claims = {
        "iss": f"https://securetoken.google.com/{_PROJECT}",
        "aud": _PROJECT,
        "auth_time": now_s - 100,
        "user_id": "asha",
        "sub": "asha",
        "iat": now_s - 10,
        "exp": now_s + 3590,
        "phone_number": "+911234567890",
        "firebase": {"identities": {"phone": ["+911234567890"]}, "sign_in_provider": "phone"},
    } | changed
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers={} if kid is None else {"kid": kid})


async def test_a_firebase_token_says_whose_it_is() -> None:
    """Since when is when they signed in, not when the token was renewed: what is revoked is older than a sign-in."""
    verifier = FirebaseVerifier(_PROJECT, Certificates(published))
    claims = await verifier.verify(firebase_token(role="coordinator"))
    assert (claims.user_id, claims.role) == ("asha", "coordinator")
    assert claims.issued_at_ms // 1000 == int(time.time()) - 100
    assert verifier.problem is None


_BAD_FIREBASE: list[tuple[dict[str, Any], Code]] = [
    ({"exp": 1}, Code.TOKEN_EXPIRED),
    ({"auth_time": None}, Code.TOKEN_INVALID),
    ({"auth_time": 1 << 40}, Code.TOKEN_INVALID),
    ({"iat": 1 << 40}, Code.TOKEN_INVALID),
    ({"iss": "https://securetoken.google.com/another"}, Code.TOKEN_INVALID),
    ({"aud": "another"}, Code.TOKEN_INVALID),
    ({"sub": ""}, Code.TOKEN_INVALID),
    ({"sub": None}, Code.TOKEN_INVALID),
]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        *_BAD_FIREBASE,
        ({"kid": None}, Code.TOKEN_INVALID),
        ({"kid": "made-up"}, Code.TOKEN_INVALID),
        ({"kid": "x" * 5000}, Code.TOKEN_INVALID),
        ({"key": rsa.generate_private_key(public_exponent=65537, key_size=2048)}, Code.TOKEN_INVALID),
        ({"key": "k" * 32, "algorithm": "HS256"}, Code.TOKEN_INVALID),
        ({"key": None, "algorithm": "none"}, Code.TOKEN_INVALID),
    ],
)
async def test_a_firebase_token_that_is_not_good_is_refused(changed: dict[str, Any], code: Code) -> None:
    """What Firebase prescribes to be checked is checked."""
    assert await refusal(FirebaseVerifier(_PROJECT, Certificates(published)), firebase_token(**changed)) is code


async def test_without_keys_a_token_may_be_shown_again() -> None:
    """It may be a good one: that cannot be known now."""
    verifier = FirebaseVerifier(_PROJECT, Certificates(away))
    assert await refusal(verifier, firebase_token()) is Code.UNAVAILABLE
    assert verifier.problem is not None


async def test_the_emulators_tokens_are_unsigned_and_checked_in_all_else() -> None:
    """One that is signed is another issuer's."""
    verifier = EmulatorVerifier(_PROJECT)
    unsigned: dict[str, Any] = {"key": None, "algorithm": "none"}
    assert (await verifier.verify(firebase_token(**unsigned))).user_id == "asha"
    assert await refusal(verifier, firebase_token()) is Code.TOKEN_INVALID
    for changed, code in _BAD_FIREBASE:
        assert await refusal(verifier, firebase_token(**unsigned, **changed)) is code


_NESTED = [base64.b64encode(start + b"[" * 5_000).decode() + ".e30.AAAA" for start in (b"", b'{"a":')]


@given(text=st.one_of(st.text(), st.text("abcXYZ019-_=.", max_size=80), st.sampled_from(_NESTED)))
async def test_any_text_is_refused_by_all(text: str) -> None:
    """Nothing a stranger sends raises anything else."""
    for verifier in (FirebaseVerifier(_PROJECT, Certificates(published)), EmulatorVerifier(_PROJECT)):
        assert await refusal(verifier, text) is Code.TOKEN_INVALID
