"""A router's settings: every variable, its default and its reason."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from libs import settings


class RouterSettings(settings.PartitionedSettings, frozen=True, kw_only=True):
    router_id: Annotated[str, Meta(min_length=1, max_length=64, description="This router's name in logs.")] = "router"

    store: Annotated[Literal["sqlite"], Meta(description="The record: sqlite.")] = "sqlite"
    sqlite_path: Annotated[Path, Meta(description="The file of the SQLite store.")] = Path(".local/store.db")
    store_patience_s: Annotated[
        float, Meta(gt=0, le=60, description="How long a store call may take before the store counts as away.")
    ] = 2.0

    read_entries: Annotated[
        int, Meta(ge=1, le=10_000, description="Entries a read takes from one partition; bounds a batch.")
    ] = 100
    linger_ms: Annotated[
        float, Meta(ge=0, le=25, description="How long a busy router gathers before a batch; 0 to 25.")
    ] = 5.0
    parked_frames_max: Annotated[
        int, Meta(ge=1, description="Frames held while the store is away; then reading stops, and gateways refuse.")
    ] = 20_000
    people_cache_s: Annotated[
        float, Meta(ge=0, le=3600, description="How long a user or group document is trusted: a block takes this long.")
    ] = 5.0
    receipt_gather_s: Annotated[
        float, Meta(gt=0, le=60, description="Receipts are written to the store together, this often.")
    ] = 1.0
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
    page_messages: Annotated[int, Meta(ge=1, le=500, description="Messages in a page of offline_messages.")] = 50
    page_bytes: Annotated[
        int, Meta(ge=4096, le=262_144, description="Bytes in a page of offline_messages; small for slow phones.")
    ] = 32_768
