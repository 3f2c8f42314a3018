"""Google's public keys for ID tokens, by key id: fetched ahead of their end, kept while fetching fails.

Firebase signs with keys that change every few days and are published as certificates, with a `max-age`
(https://firebase.google.com/docs/auth/admin/verify-id-tokens). Checking a token never waits for Google, but for one
case: a key id that is not known. It is asked for once a minute at most, however many tokens show how many ids.
"""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import aiohttp
import msgspec
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Struct

log = structlog.get_logger(__name__)

# They are fetched anew when this much of their time is over, give or take a tenth: not by all gateways at once.
_AHEAD: Final = 0.8
_JITTER: Final = 0.1
_AGAIN_AT_MOST_EVERY_S: Final = 60.0
# After a failure: twice as long each time, up to the minute.
_RETRY_S: Final = 1.0
_MAX_AGE_S: Final = (60, 86_400)
_DEFAULT_MAX_AGE_S: Final = 3600
_TIMEOUT_S: Final = 5.0
_BODY_MAX_BYTES: Final = 262_144
_max_age: Final = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})", re.ASCII)
_pages: Final = msgspec.json.Decoder(dict[str, str])


class KeysAway(Exception):
    """The keys cannot be had now; they may be later."""


class Fetched(Struct, frozen=True):
    """Keys by id, and for how many seconds they may be kept."""

    keys: Mapping[str, RSAPublicKey]
    max_age_s: float


Fetch = Callable[[], Awaitable[Fetched]]


class Certificates:
    """Keeps the keys that `fetch` brings. Raises nothing when it fails: the keys there are stay good."""

    def __init__(
        self, fetch: Fetch, clock: Callable[[], float] = time.monotonic, jitter: Callable[[], float] = random.random
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._jitter = jitter
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._due_at = clock()
        self._failures = 0
        self._fetching = asyncio.Lock()

    @property
    def problem(self) -> str | None:
        """Why no token can be checked, if none can."""
        return None if self._keys else "Google's certificates could not be fetched: is the way to them open?"

    @property
    def age_s(self) -> float:
        """Seconds since they were fetched; 0 where they never were."""
        return 0.0 if self._fetched_at is None else self._clock() - self._fetched_at

    def key(self, key_id: str) -> RSAPublicKey | None:
        """A key that is known."""
        return self._keys.get(key_id)

    async def find(self, key_id: str) -> RSAPublicKey | None:
        """A key; None if Google has none by that id. Raises `KeysAway` when it could not be asked."""
        if key_id not in self._keys:
            asked_at = self._clock()
            async with self._fetching:  # whoever waited here looks at what the first one brought
                if self._tried_at is None or max(asked_at - self._tried_at, 0.0) >= _AGAIN_AT_MOST_EVERY_S:
                    await self._refresh()
        if key_id not in self._keys and self._failures:
            raise KeysAway
        return self._keys.get(key_id)

    async def run(self) -> None:
        """Fetch ahead of time, until cancelled."""
        while True:
            await asyncio.sleep(max(0.0, self._due_at - self._clock()))
            async with self._fetching:
                if self._clock() >= self._due_at:
                    await self._refresh()

    async def _refresh(self) -> None:
        self._tried_at = self._clock()
        try:
            fetched = await self._fetch()
        except KeysAway as error:
            # The policy for Google being away: go on with the keys there are, and ask again.
            self._due_at = self._clock() + min(_RETRY_S * 2**self._failures, _AGAIN_AT_MOST_EVERY_S)
            self._failures = min(self._failures + 1, 10)
            log.warning("certificates are not to be had", error=str(error), known=len(self._keys))
            return
        self._keys, self._failures, self._fetched_at = fetched.keys, 0, self._clock()
        share = _AHEAD + _JITTER * (2 * self._jitter() - 1)
        self._due_at = self._clock() + fetched.max_age_s * share


def fetching(session: aiohttp.ClientSession, url: str) -> Fetch:
    """Fetches certificates from where Google publishes them."""

    async def fetch() -> Fetched:
        try:
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as response:
                if response.status != 200:
                    raise KeysAway(f"status {response.status}")
                body = await response.content.read(_BODY_MAX_BYTES)
                age_s = response.headers.get("Age", "0")
                max_age_s = _max_age_s(
                    response.headers.get("Cache-Control", ""), int(age_s) if age_s.isdecimal() else 0
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KeysAway(type(error).__name__) from error
        return Fetched(_keys(body), max_age_s)

    return fetch


def _max_age_s(cache_control: str, age_s: int) -> float:
    said = _max_age.search(cache_control)
    left_s = (int(said.group(1)) if said else _DEFAULT_MAX_AGE_S) - age_s
    return float(min(max(left_s, _MAX_AGE_S[0]), _MAX_AGE_S[1]))


def _keys(body: bytes) -> dict[str, RSAPublicKey]:
    """The RSA keys of a page of certificates. Raises `KeysAway` for what is none."""
    try:
        found = {key_id: _public_key(pem) for key_id, pem in _pages.decode(body).items()}
    except (msgspec.DecodeError, ValueError) as error:
        raise KeysAway("the page holds no certificates") from error
    keys = {key_id: key for key_id, key in found.items() if isinstance(key, RSAPublicKey)}
    if not keys:
        raise KeysAway("the page holds no certificates")
    return keys


def _public_key(pem: str) -> object:
    return x509.load_pem_x509_certificate(pem.encode()).public_key()
