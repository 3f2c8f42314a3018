"""Signing in with Firebase's tokens: Google's certificates, fetched over HTTP from a place that publishes some.

One cluster serves the whole module.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.certificates import Publisher, publisher
from tests.support.clients import RawClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_PROJECT: Final = "talowa-1a2b3"
_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_OTHER_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[LiveCluster, Publisher]]:
    """A gateway that believes a Firebase project; certificates were not to be had when it started."""
    async with publisher() as google:
        google.keys, google.status = {"k1": _KEY}, 503
        environment = {
            "AUTH": "firebase",
            "FIREBASE_PROJECT_ID": _PROJECT,
            "FIREBASE_CERTIFICATES_URL": google.url,
            "ACCOUNT_CHECKS": "off",
        }
        home = tmp_path_factory.mktemp("firebase")
        starting = asyncio.create_task(_publish_soon(google))  # noqa: TID251 - ends when it has published
        async with live_cluster(home, gateways=1, routers=1, environment=environment) as cluster:
            await starting
            await cluster.people(["asha"])
            yield cluster, google


async def _publish_soon(google: Publisher) -> None:
    await until(lambda: google.asked >= 2, 30, "a second question for certificates")
    google.status = 200


def _token(key: rsa.RSAPrivateKey = _KEY, key_id: str = "k1", **changed: Any) -> str:
    now_s = int(time.time())
    claims = {
        "iss": f"https://securetoken.google.com/{_PROJECT}",
        "aud": _PROJECT,
        "auth_time": now_s - 5,
        "sub": "asha",
        "iat": now_s - 5,
        "exp": now_s + 3600,
    } | changed
    return jwt.encode(claims, key, "RS256", headers={"kid": key_id})


async def test_a_gateway_is_ready_once_it_has_certificates_and_signs_in(scene: tuple[LiveCluster, Publisher]) -> None:
    """The cluster became ready only after Google had answered; then a token of the project signs in."""
    cluster, google = scene
    assert google.asked >= 2
    async with await RawClient.connect(cluster.urls[0], {"token": _token()}) as client:
        success = await client.expect_event("auth_success")
    assert success["userId"] == "asha"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (_token(_OTHER_KEY), "token_invalid"),
        (_token(key_id="made-up"), "token_invalid"),
        (_token(aud="another"), "token_invalid"),
        (_token(exp=int(time.time()) - 60), "token_expired"),
        (_token(sub="nobody"), "user_not_found"),
    ],
)
async def test_other_tokens_are_refused(scene: tuple[LiveCluster, Publisher], token: str, code: str) -> None:
    """With the code that tells the app what to do."""
    cluster, _ = scene
    async with await RawClient.connect(cluster.urls[0]) as client:
        await client.expect_event("auth_required")
        await client.send_event("authenticate", {"token": token})
        failed = await client.expect_event("auth_failed")
    assert failed["code"] == code


async def test_made_up_key_ids_ask_google_nothing(scene: tuple[LiveCluster, Publisher]) -> None:
    """More than once a minute, however many there are."""
    cluster, google = scene
    asked = google.asked
    for number in range(20):
        async with await RawClient.connect(cluster.urls[0]) as client:
            await client.expect_event("auth_required")
            await client.send_event("authenticate", {"token": _token(key_id=f"made-up-{number}")})
            assert (await client.expect_event("auth_failed"))["code"] == "token_invalid"
    assert google.asked - asked <= 1


async def test_operators_of_the_project_may_operate(scene: tuple[LiveCluster, Publisher]) -> None:
    """With an ID token whose claim says admin; presence believes the same issuer."""
    cluster, _ = scene
    headers = {"Authorization": f"Bearer {_token(role='admin')}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for name, path in (("g1", "/status"), ("presence", "/presence?ids=asha")):
            url = f"http://{cluster._internal[name]}{path}"
            async with session.get(url) as response:
                assert response.status == 200, await response.text()
