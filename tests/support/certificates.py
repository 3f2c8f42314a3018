"""Certificates as Google publishes them, and a place that publishes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import test_utils, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID

_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "securetoken.system.gserviceaccount.com")])


def certificate(key: RSAPrivateKey) -> str:
    """A certificate of a key, signed by itself, in PEM."""
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=16))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


class Publisher:
    """Publishes certificates over HTTP, as long as it is told to, and counts who asks."""

    def __init__(self) -> None:
        self.keys: dict[str, RSAPrivateKey] = {}
        self.headers = {"Cache-Control": "public, max-age=19302, must-revalidate, no-transform", "Age": "302"}
        self.status = 200
        self.text: str | None = None
        self.asked = 0
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        """The page."""
        self.asked += 1
        if self.text is not None:
            return web.Response(text=self.text, headers=self.headers)
        page = {key_id: certificate(key) for key_id, key in self.keys.items()}
        return web.json_response(page, status=self.status, headers=self.headers)


@asynccontextmanager
async def publisher() -> AsyncIterator[Publisher]:
    """A place that publishes."""
    published = Publisher()
    app = web.Application()
    app.router.add_get("/x509", published.answer)
    async with test_utils.TestServer(app) as server:
        published.url = str(server.make_url("/x509"))
        yield published
