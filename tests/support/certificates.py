"""Certificates as Google publishes them, and a place that publishes them; and those of a server with TLS."""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import test_utils, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
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


class Authority(NamedTuple):
    """Whom clients are told to trust (its certificate, in PEM), and a file with the key of a server on 127.0.0.1."""

    certificate: str
    chain: Path


def authority(folder: Path) -> Authority:
    """An authority of a test's own, and a server's key and certificate by it."""
    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of a test's own")])
    host = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    rights = dict.fromkeys(inspect.signature(x509.KeyUsage).parameters, False)
    ca = (
        _valid(name, name, root.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**{**rights, "key_cert_sign": True, "crl_sign": True}), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root.public_key()), critical=False)
        .sign(root, hashes.SHA256())
    )
    leaf = (
        _valid(host, name, own.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
        .sign(root, hashes.SHA256())
    )
    key = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = folder / "talowa.pem"
    chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM) + key)
    return Authority(ca.public_bytes(serialization.Encoding.PEM).decode(), chain)


def _valid(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=16))
    )
