"""Google's public keys: fetched ahead, kept while Google is away, never asked for because a stranger wants it so."""

import asyncio
from typing import Final

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from libs.identity.certificates import Certificates, Fetched, KeysAway, fetching
from tests.support.certificates import Publisher, publisher
from tests.support.waiting import until

_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Google:
    """Gives the keys of these ids; away while there is an error."""

    def __init__(self, *key_ids: str, max_age_s: float = 1000.0) -> None:
        self.key_ids = key_ids
        self.max_age_s = max_age_s
        self.error: str | None = None
        self.asked = 0
        self.now_s = 0.0

    async def fetch(self) -> Fetched:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise KeysAway(self.error)
        return Fetched(dict.fromkeys(self.key_ids, _KEY.public_key()), self.max_age_s)

    def certificates(self, jitter: float = 0.5) -> Certificates:
        """What keeps its keys, by its clock."""
        return Certificates(self.fetch, lambda: self.now_s, lambda: jitter)


async def test_an_unknown_key_is_asked_for_once_a_minute_whoever_asks() -> None:
    """A thousand tokens with a thousand key ids are one question; a new key of Google's is found all the same."""
    google = Google("old")
    certificates = google.certificates()
    assert await certificates.find("old") is not None
    google.key_ids = ("old", "new")
    google.now_s = 59.0
    assert set(await asyncio.gather(*(certificates.find(f"made up {number}") for number in range(1000)))) == {None}
    assert await certificates.find("new") is None
    assert google.asked == 1
    google.now_s = 60.0
    found = await asyncio.gather(*(certificates.find(key_id) for key_id in ("made up", "new", "old")))
    assert [key is not None for key in found] == [False, True, True]
    assert google.asked == 2


async def test_keys_stay_good_while_google_is_away() -> None:
    """Who shows an unknown one meanwhile may try again: it may be a good one."""
    google = Google("old")
    certificates = google.certificates()
    assert certificates.problem is not None
    google.error = "no route"
    with pytest.raises(KeysAway):
        await certificates.find("old")
    assert certificates.problem is not None
    google.error, google.now_s = None, 100.0
    await certificates.find("old")
    google.error, google.now_s = "no route", 1_000_000.0
    with pytest.raises(KeysAway):
        await certificates.find("new")
    assert certificates.key("old") is not None
    assert certificates.problem is None


@pytest.mark.parametrize(("jitter", "share"), [(0.0, 0.7), (0.5, 0.8), (1.0, 0.9)])
async def test_keys_are_fetched_ahead_of_their_end(jitter: float, share: float) -> None:
    """When some eight tenths of their time are over, and not by all gateways at once."""
    google = Google("old", max_age_s=1000.0)
    certificates = google.certificates(jitter)
    async with asyncio.timeout(5):
        running = asyncio.create_task(certificates.run())  # noqa: TID251 - ended below
        await until(lambda: google.asked == 1, 5, "the first fetch")
        google.now_s = 1000.0 * share + 1
        running.cancel()
        again = asyncio.create_task(certificates.run())  # noqa: TID251 - ended below
        await until(lambda: google.asked == 2, 5, "the second fetch")
        again.cancel()


async def test_what_google_publishes_is_read() -> None:
    """RSA keys by their id, and how long they hold: `max-age`, less the time a cache had them."""
    async with publisher() as google, aiohttp.ClientSession() as session:
        google.keys = {"a": _KEY}
        fetched = await fetching(session, google.url)()
        assert fetched.max_age_s == 19_000
        assert {key_id: key.public_numbers() for key_id, key in fetched.keys.items()} == {
            "a": _KEY.public_key().public_numbers()
        }
        for said, held_s in (("no-store", 3600), ("max-age=1", 60), ("max-age=999999999", 86_400)):
            google.headers = {"Cache-Control": said}
            assert (await fetching(session, google.url)()).max_age_s == held_s


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"a": 1}', '{"a": "no certificate"}', "<html>sign in to this wifi"])
async def test_a_page_that_holds_no_certificates_takes_nothing_away(text: str) -> None:
    """As little as one that answers with an error, or does not answer."""
    async with publisher() as google, aiohttp.ClientSession() as session:
        google.text = text
        with pytest.raises(KeysAway):
            await fetching(session, google.url)()


@pytest.mark.parametrize("status", [404, 429, 503])
async def test_an_error_of_google_is_no_page(status: int) -> None:
    """Nor is a port where nobody listens."""
    async with publisher() as google, aiohttp.ClientSession() as session:
        google.keys, google.status = {"a": _KEY}, status
        with pytest.raises(KeysAway):
            await fetching(session, google.url)()
        gone: Publisher = google
    async with aiohttp.ClientSession() as session:
        with pytest.raises(KeysAway):
            await fetching(session, gone.url)()
