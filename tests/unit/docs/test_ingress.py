"""`docs/ingress.md` and its files agree with the settings of gateways; the ingress test runs them."""

import re
from pathlib import Path

import msgspec
import pytest

from services.gateway.settings import GatewaySettings
from tests.support.proxies import DOCUMENTS

PAGE = DOCUMENTS.with_suffix(".md").read_text(encoding="utf-8")
DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(GatewaySettings)}
_IDLE = r"(?:timeout (?:client|server|tunnel)|proxy_(?:read|send)_timeout) +(\d+)s"
_KEPT = r"(?:timeout http-keep-alive|keepalive_timeout) +(\d+)s"


def files() -> list[Path]:
    """All of them."""
    return sorted(DOCUMENTS.iterdir())


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_a_proxy_waits_longer_than_gateways_are_silent(file: Path) -> None:
    """For twice the time between two pings; and it keeps a connection for less than they do."""
    text = file.read_text(encoding="utf-8")
    idle = [int(found) for found in re.findall(_IDLE, text)]
    assert set(idle) == {60}
    assert min(idle) > 2 * DEFAULTS["ping_interval_s"]
    assert all(int(found) < DEFAULTS["keep_alive_s"] for found in re.findall(_KEPT, text))


def test_the_page_has_all_files_and_settings() -> None:
    """Each file is linked, each variable is one of gateways, each number beside one is its default."""
    assert {file.name for file in files()} == set(re.findall(r"\]\(ingress/([a-z.-]+)\)", PAGE))
    variables = {name.upper() for name in DEFAULTS}
    for name, number in re.findall(r"`([A-Z_]{6,})(?:=\w+)?`(?: \((\d+)\))?", PAGE):
        assert name in variables, name
        assert not number or float(number) == DEFAULTS[name.lower()], name
