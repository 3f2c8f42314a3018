"""A router's settings: every variable, its default and its reason."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from libs import settings
from libs.identity import issuers, seals
from libs.storage.firestore import settings as firestore


class RouterSettings(settings.PartitionedSettings, frozen=True, kw_only=True):
    router_id: Annotated[str, Meta(min_length=1, max_length=64, description="This router's name in logs.")] = "router"

    store: firestore.Store = "sqlite"
    sqlite_path: Annotated[Path, Meta(description="The file of the SQLite store.")] = Path(".local/store.db")
    store_patience_s: Annotated[
        float, Meta(gt=0, le=60, description="How long a store call may take before the store counts as away.")
    ] = 2.0
    firebase_project_id: issuers.ProjectId = ""
    firestore_project_id: firestore.ProjectId = ""
    firestore_database_id: firestore.DatabaseId = "(default)"
    firestore_emulator_host: firestore.EmulatorHost = ""
    firestore_writes_per_s: firestore.WritesPerS = 500.0

    account_checks: Annotated[
        Literal["on", "off"],
        Meta(
            description="on: with AUTH=firebase the accounts of those who sign in are looked at, in case they were "
            "disabled or revoked, which takes credentials of Google's. off: a token is believed until it ends."
        ),
    ] = "on"

    push: Annotated[
        Literal["log", "fcm", "off"],
        Meta(
            description="Pushes to phones that are away. log: says how many there would be; fcm: Firebase Cloud "
            "Messaging, which takes FIREBASE_PROJECT_ID and credentials of Google's; off: none."
        ),
    ] = "log"
    push_after_s: Annotated[
        float, Meta(ge=0, le=3600, description="Who does not have a message for so long is pushed.")
    ] = 30.0
    pushes_per_s: Annotated[
        int, Meta(ge=1, le=10_000, description="Pushes of one partition handed on a second; others wait their turn.")
    ] = 100
    fcm_url: Annotated[str, Meta(pattern="^https?://", description="Where Firebase Cloud Messaging listens.")] = (
        "https://fcm.googleapis.com"
    )

    anonymity_keys: Annotated[
        str,
        Meta(
            description="At least 32 characters, on routers only: seals anonymous senders in the store. Several, with "
            "commas: the first seals, all open. Empty: no anonymous messages."
        ),
    ] = ""
    pseudonym_secret: Annotated[
        str,
        Meta(
            description="At least 32 characters, on routers only: another one gives every anonymous sender a new name."
        ),
    ] = ""

    read_entries: Annotated[
        int, Meta(ge=1, le=10_000, description="Entries a read takes from one partition; bounds a batch.")
    ] = 100
    linger_ms: Annotated[
        float, Meta(ge=0, le=100, description="Under load a router begins a batch this often; when idle, at once.")
    ] = 40.0
    parked_frames_max: Annotated[
        int, Meta(ge=1, description="Frames held while the store is away; then reading stops, and gateways refuse.")
    ] = 20_000
    people_cache_s: Annotated[
        float, Meta(ge=0, le=3600, description="How long a user or group document is trusted: a block takes this long.")
    ] = 5.0
    receipt_gather_s: Annotated[
        float, Meta(gt=0, le=60, description="Receipts are written to the store together, this often.")
    ] = 1.0
    receipt_rest_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="Of one conversation receipts are written no sooner again, where each write is paid for; a "
            "broker that loses its memory takes back `delivered`, and brings again, what is younger.",
        ),
    ] = 0.0
    counted_members_max: Annotated[
        int, Meta(ge=2, description="Up to this many members, statuses count who has and who read a message.")
    ] = 200
    retention_days: Annotated[
        float,
        Meta(ge=0, le=3650, description="What everybody confirmed this long ago leaves the hot log; history keeps it."),
    ] = 7.0
    retention_every_s: Annotated[
        float, Meta(ge=0.1, le=86_400, description="How often one router looks for what may leave the hot log.")
    ] = 3600.0
    broadcast_days: Annotated[
        float,
        Meta(
            ge=0,
            le=3650,
            description="With STORE=firestore: a broadcast so old leaves the record, whoever has not had it; 0: never.",
        ),
    ] = 0.0
    ledger_s: Annotated[
        float,
        Meta(ge=0, le=86_400, description="How long the ledger tells where each message is; 0: there is no ledger."),
    ] = 3900.0
    ledger_max_mb: Annotated[
        int, Meta(ge=16, description="Memory of the ledger in the broker, over all partitions; beyond it, less time.")
    ] = 1024
    ledger_settle_s: Annotated[
        float, Meta(ge=0, le=600, description="The ledger is compared with the store this long after it was written.")
    ] = 5.0
    ledger_every_s: Annotated[
        float,
        Meta(ge=0.1, le=600, description="How often the ledger is compared: what is compared at once costs less."),
    ] = 1.0
    ledger_share: Annotated[
        float, Meta(ge=0, le=1, description="The share of messages whose ledger is compared with the store.")
    ] = 1.0
    page_messages: Annotated[int, Meta(ge=1, le=500, description="Messages in a page of offline_messages.")] = 50
    page_bytes: Annotated[
        int, Meta(ge=4096, le=262_144, description="Bytes in a page of offline_messages; small for slow phones.")
    ] = 32_768

    text_per_minute: Annotated[
        int, Meta(ge=0, le=100_000, description="Texts and locations a user may send in any minute; 0: any number.")
    ] = 60
    image_per_minute: Annotated[
        int, Meta(ge=0, le=100_000, description="Images a user may send in any minute; 0: any number.")
    ] = 10
    document_per_minute: Annotated[
        int, Meta(ge=0, le=100_000, description="Documents a user may send in any minute; 0: any number.")
    ] = 5
    voice_per_minute: Annotated[
        int, Meta(ge=0, le=100_000, description="Voice messages a user may send in any minute; 0: any number.")
    ] = 20
    emergency_per_minute: Annotated[
        int,
        Meta(ge=0, le=100_000, description="Emergencies and broadcasts a user may send in any minute; 0: any number."),
    ] = 3

    @property
    def checks_accounts(self) -> bool:
        """Whether accounts are looked at."""
        return self.auth != "local" and self.account_checks == "on"

    def problems(self) -> list[str]:
        """What the fields cannot say one by one."""
        found = super().problems()
        if self.checks_accounts:
            found += issuers.project_problems(self.auth, self.firebase_project_id)
        if self.push == "fcm" and not self.firebase_project_id:
            found.append("FIREBASE_PROJECT_ID is not set, and PUSH=fcm needs it. Give the id of the project.")
        for variable, setting in (
            ("CLUSTER_SECRET", self.cluster_secret),
            ("ANONYMITY_KEYS", self.anonymity_keys),
            ("PSEUDONYM_SECRET", self.pseudonym_secret),
        ):
            found += seals.problems(variable, setting)
        if bool(self.anonymity_keys) != bool(self.pseudonym_secret):
            found.append("ANONYMITY_KEYS and PSEUDONYM_SECRET go together: set both, or neither.")
        if self.anonymity_keys and not self.cluster_secret:
            found.append(
                "ANONYMITY_KEYS needs CLUSTER_SECRET, which hides senders on their way: set it, as on gateways."
            )
        return found + firestore.problems(self)
