"""The rules that call somebody: Prometheus takes them, they fire when they should, and what they read exists."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from docs import metrics
from libs.deafness import PERIODS
from services.gateway.settings import GatewaySettings

_DOCS: Final = Path(__file__).parents[3] / "docs"
_RULES: Final[list[dict[str, Any]]] = [
    rule for group in yaml.safe_load((_DOCS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]


def promtool(*arguments: str) -> str:
    """What it says; fails the test if it is not content. Skips the test where there is none, and fails it in CI."""
    found = shutil.which("promtool")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("promtool is not installed")
    done = subprocess.run([found, *arguments], cwd=_DOCS, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules() -> None:
    """All of them."""
    assert f"{len(_RULES)} rules found" in promtool("check", "rules", "alerts.yml")


def test_alerts_fire_when_they_should_and_only_then() -> None:
    """By made-up series."""
    promtool("test", "rules", "alerts.test.yml")


@pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule["alert"])
def test_what_an_alert_reads_exists_and_its_runbook_speaks_of_it(rule: dict[str, Any]) -> None:
    """A series that nobody exports never calls anybody."""
    exported = metrics.names()
    series = set(re.findall(r"talowa_[a-z_]+", rule["expr"]))
    assert series
    assert series <= exported.keys()
    page = (_DOCS / "operations.md").read_text(encoding="utf-8")
    assert rule["annotations"]["runbook"] == "docs/operations.md#what-to-do-when"
    assert "## What to do when" in page
    assert all(f"`{name}`" in page for name in {*series, rule["alert"]})


def test_silence_is_three_periods_of_the_default() -> None:
    """As for who hangs."""
    (field,) = (field for field in msgspec.structs.fields(GatewaySettings) if field.name == "canary_s")
    assert all(f"> {PERIODS * field.default:g}" in rule["expr"] for rule in _RULES)
