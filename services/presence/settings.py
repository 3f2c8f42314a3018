"""Presence's settings: every variable, its default and its reason."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from libs import settings
from libs.identity import issuers, seals
from libs.storage.firestore import settings as firestore


class PresenceSettings(settings.ServiceSettings, frozen=True, kw_only=True):
    presence_id: Annotated[str, Meta(min_length=1, max_length=64, description="This copy's name in logs.")] = "presence"
    downlink_max_entries: Annotated[
        int,
        Meta(ge=1000, description="Entries a gateway may leave untaken; beyond it, its downlink is made anew."),
    ] = 50_000
    store: firestore.Store = "sqlite"
    presence_sqlite_path: Annotated[
        Path, Meta(description="The SQLite file of last-seen times: not the store's. Copies on one machine share it.")
    ] = Path(".local/presence.db")
    store_patience_s: Annotated[
        float, Meta(gt=0, le=60, description="How long a store call may take before the store counts as away.")
    ] = 2.0

    token_key_file: issuers.TokenKeyFile = Path(".local/issuer/public.pem")
    token_issuer: issuers.TokenIssuer = "talowa-local"
    token_audience: issuers.TokenAudience = "talowa-local"
    firebase_project_id: issuers.ProjectId = ""
    firebase_certificates_url: issuers.CertificatesUrl = issuers.GOOGLE
    firestore_project_id: firestore.ProjectId = ""
    firestore_database_id: firestore.DatabaseId = "(default)"
    firestore_emulator_host: firestore.EmulatorHost = ""
    firestore_writes_per_s: firestore.WritesPerS = 500.0
    admin_token: Annotated[
        str,
        Meta(
            description="Opens /presence to operators; empty leaves it to ID tokens. Several, with commas: each opens."
        ),
    ] = ""

    def problems(self) -> list[str]:
        """What the fields cannot say one by one."""
        found = seals.problems("ADMIN_TOKEN", self.admin_token)
        found += issuers.problems(self)
        return found + firestore.problems(self)
