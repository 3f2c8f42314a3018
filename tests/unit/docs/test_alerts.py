"""The rules that call somebody: Prometheus takes them, they fire when they should, and what they read exists."""

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from libs.deafness import PERIODS
from services.gateway.settings import GatewaySettings
from tests.support.promql import misnamed, series
from tests.support.promtool import promtool

_DOCS: Final = Path(__file__).parents[3] / "docs"
_RULES: Final[list[dict[str, Any]]] = [
    rule for group in yaml.safe_load((_DOCS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]


def test_prometheus_takes_the_rules() -> None:
    """All of them."""
    assert f"{len(_RULES)} rules found" in promtool(_DOCS, "check", "rules", "alerts.yml")


def test_alerts_fire_when_they_should_and_only_then() -> None:
    """By made-up series."""
    promtool(_DOCS, "test", "rules", "alerts.test.yml")


@pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule["alert"])
def test_what_an_alert_reads_exists(rule: dict[str, Any]) -> None:
    """A series that nobody exports, or a label that it does not have, never calls anybody."""
    assert series(rule["expr"])
    assert misnamed(rule["expr"]) == []


@pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_its_runbook(rule: dict[str, Any]) -> None:
    """Under a heading of its own: which series it reads, what it means, what to do."""
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert (page, anchor) == ("docs/operations.md", rule["alert"].lower())
    text = (_DOCS / "operations.md").read_text(encoding="utf-8")
    _, heading, section = text.partition(f"\n### {rule['alert']}\n")
    assert heading
    section = re.split(r"\n##+ ", section)[0]
    assert all(f"`{re.sub('_(bucket|count|sum)$', '', name)}`" in section for name in series(rule["expr"]))
    assert "Do: " in section


def test_no_runbook_is_of_an_alert_that_is_gone() -> None:
    """Nor is one there twice."""
    headings = re.findall(r"^### (Talowa\w+)$", (_DOCS / "operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in _RULES)


@pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_shown_to_fire_and_to_be_silent(rule: dict[str, Any]) -> None:
    """What would always fire is as bad as what never does."""
    tests = yaml.safe_load((_DOCS / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"] if check["alertname"] == rule["alert"]]
    assert {bool(check["exp_alerts"]) for check in checks} == {True, False}


def test_silence_is_three_periods_of_the_default() -> None:
    """As for who hangs."""
    (field,) = (field for field in msgspec.structs.fields(GatewaySettings) if field.name == "canary_s")
    deaf = [rule for rule in _RULES if "canary_silent" in rule["expr"]]
    assert len(deaf) == 3
    assert all(f"> {PERIODS * field.default:g}" in rule["expr"] for rule in deaf)
