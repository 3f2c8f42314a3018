"""Presence's settings: every variable, its default and its reason."""

from typing import Annotated

from msgspec import Meta

from libs import settings
from libs.telemetry.logs import Level


class PresenceSettings(settings.Settings, frozen=True, kw_only=True):
    redis_url: Annotated[str, Meta(description="The broker, such as redis://127.0.0.1:6379.")]
    presence_id: Annotated[str, Meta(min_length=1, max_length=64, description="This copy's name in logs.")] = "presence"
    internal_host: Annotated[str, Meta(description="Where /healthz, /readyz and /metrics listen.")] = "0.0.0.0"
    internal_port: Annotated[int, Meta(ge=0, le=65535, description="A port from 0 (any) to 65535.")] = 9100
    log_level: Annotated[Level, Meta(description="One of debug, info, warning, error.")] = "info"
    downlink_max_entries: Annotated[
        int,
        Meta(ge=1000, description="Entries a gateway may leave untaken; beyond it, its downlink is made anew."),
    ] = 50_000
