"""`README.md` shows settings that services start with."""

import re
from pathlib import Path

import pytest

from libs import settings
from libs.settings import ServiceSettings
from services.gateway.settings import GatewaySettings
from services.presence.settings import PresenceSettings
from services.router.settings import RouterSettings

PAGE = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
# What stands for a secret in the page.
SECRET = "0123456789abcdef" * 2


KINDS: tuple[type[ServiceSettings], ...] = (GatewaySettings, RouterSettings, PresenceSettings)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_settings_of_production_hold_together(kind: type[ServiceSettings]) -> None:
    """All of them at once, as each service is given them; and each is a setting of some service."""
    shown = PAGE.partition("## From here to production")[2].partition("```sh\n")[2].partition("```")[0]
    given = {name: value.replace("…", SECRET) for name, value in re.findall(r"\b([A-Z_]+)=(\S+)", shown)}
    assert {"AUTH", "STORE", "PUSH", "FIREBASE_PROJECT_ID", "TICKET_SECRET", "ANONYMITY_KEYS"} <= given.keys()
    read = settings.load(kind, given)
    assert read.auth == "firebase"
    known = {field.upper() for each in KINDS for field in each.__struct_fields__}
    assert given.keys() <= known
