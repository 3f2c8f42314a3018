"""Whose ID tokens a service believes: the settings that services share, and the issuer that follows from them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final, Protocol

import aiohttp
from msgspec import Meta

from libs.identity.certificates import Certificates, fetching
from libs.identity.verifier import EmulatorVerifier, FirebaseVerifier, Issuer, LocalVerifier
from libs.settings import Auth

GOOGLE: Final = "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"

TokenKeyFile = Annotated[
    Path,
    Meta(
        description="With AUTH=local: the issuer's public key, a PEM file; one after another, while a key is changed."
    ),
]
TokenIssuer = Annotated[str, Meta(description="With AUTH=local: what `iss` in a token must be.")]
TokenAudience = Annotated[str, Meta(description="With AUTH=local: what `aud` in a token must be.")]
ProjectId = Annotated[
    str,
    Meta(
        pattern=r"^([a-z][a-z0-9-]{4,28}[a-z0-9])?$",
        description="The Firebase project, whose tokens are believed and whose Firestore is the record, as in its "
        "console: my-project-1a2b3.",
    ),
]
CertificatesUrl = Annotated[str, Meta(pattern="^https?://", description="Where Google publishes its certificates.")]


class IssuerSettings(Protocol):
    """What a service's settings say of tokens."""

    @property
    def auth(self) -> Auth: ...
    @property
    def token_key_file(self) -> Path: ...
    @property
    def token_issuer(self) -> str: ...
    @property
    def token_audience(self) -> str: ...
    @property
    def firebase_project_id(self) -> str: ...
    @property
    def firebase_certificates_url(self) -> str: ...


def problems(s: IssuerSettings) -> list[str]:
    """What is wrong with them together: the variable, its value, the remedy."""
    if s.auth == "local":
        if s.token_key_file.is_file():
            return []
        remedy = "Give the issuer's public key; `talowa up` makes one for local use."
        return [f"TOKEN_KEY_FILE={s.token_key_file}: there is no such file. {remedy}"]
    return project_problems(s.auth, s.firebase_project_id)


def project_problems(auth: Auth, project_id: str) -> list[str]:
    """What is wrong with the project that AUTH asks for."""
    if auth == "local" or project_id:
        return []
    return [f"FIREBASE_PROJECT_ID is not set, and AUTH={auth} needs it. Give the id of the project."]


@asynccontextmanager
async def open_issuer(s: IssuerSettings) -> AsyncIterator[Issuer]:
    """The issuer that was asked for; whoever has it runs it."""
    match s.auth:
        case "local":
            yield LocalVerifier(s.token_key_file, issuer=s.token_issuer, audience=s.token_audience)
        case "firebase-emulator":
            yield EmulatorVerifier(s.firebase_project_id)
        case "firebase":
            async with aiohttp.ClientSession(trust_env=True) as session:
                certificates = Certificates(fetching(session, s.firebase_certificates_url))
                yield FirebaseVerifier(s.firebase_project_id, certificates)
