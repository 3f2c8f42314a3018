"""Presence's settings: every variable, its default and its reason."""

from typing import Annotated

from msgspec import Meta

from libs import settings


class PresenceSettings(settings.ServiceSettings, frozen=True, kw_only=True):
    presence_id: Annotated[str, Meta(min_length=1, max_length=64, description="This copy's name in logs.")] = "presence"
    downlink_max_entries: Annotated[
        int,
        Meta(ge=1000, description="Entries a gateway may leave untaken; beyond it, its downlink is made anew."),
    ] = 50_000
