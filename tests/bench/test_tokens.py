"""What it costs to check a token: the local issuer's, and Firebase's under a key that is at hand."""

import asyncio
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.identity.certificates import Certificates, Fetched
from libs.identity.verifier import FirebaseVerifier

_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def published() -> Fetched:
    """One key."""
    return Fetched({"k1": _KEY.public_key()}, 3600)


@pytest.mark.benchmark(group="tokens")
def test_check_a_firebase_token(benchmark: Any) -> None:
    """RS256 of 2048 bits is most of it."""
    now_s = int(time.time())
    claims = {
        "iss": "https://securetoken.google.com/talowa",
        "aud": "talowa",
        "auth_time": now_s,
        "sub": "asha",
        "iat": now_s,
        "exp": now_s + 3600,
        "firebase": {"identities": {"phone": ["+911234567890"]}, "sign_in_provider": "phone"},
    }
    token = jwt.encode(claims, _KEY, "RS256", headers={"kid": "k1"})
    verifier = FirebaseVerifier("talowa", Certificates(published))
    asyncio.run(verifier.verify(token))

    def check() -> None:
        coroutine = verifier.verify(token)
        with pytest.raises(StopIteration):  # it waits for nothing
            coroutine.send(None)

    benchmark(check)
