"""What a router is told, and what it refuses to start with."""

import pytest

from libs.settings import SettingsError, load
from services.router.settings import RouterSettings

_KEY = "a-key-of-at-least-thirty-two-letters"
_ALL = {"CLUSTER_SECRET": _KEY, "ANONYMITY_KEYS": f"{_KEY}-2,{_KEY}", "PSEUDONYM_SECRET": _KEY}


@pytest.mark.parametrize("given", [{}, _ALL, {"CLUSTER_SECRET": _KEY}])
def test_anonymity_is_offered_whole_or_not_at_all(given: dict[str, str]) -> None:
    """With all of its secrets, or with none."""
    load(RouterSettings, {"REDIS_URL": "redis://x", **given})


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"ANONYMITY_KEYS": ""}, "PSEUDONYM_SECRET"),
        ({"PSEUDONYM_SECRET": ""}, "PSEUDONYM_SECRET"),
        ({"CLUSTER_SECRET": ""}, "CLUSTER_SECRET"),
        ({"ANONYMITY_KEYS": f"{_KEY},too-short"}, "ANONYMITY_KEYS"),
        ({"PSEUDONYM_SECRET": "too-short"}, "PSEUDONYM_SECRET"),
        ({"CLUSTER_SECRET": "too-short"}, "CLUSTER_SECRET"),
        ({"CLUSTER_SECRET": ","}, "CLUSTER_SECRET"),
    ],
)
def test_secrets_that_are_short_or_missing_are_told_by_name(changed: dict[str, str], named: str) -> None:
    """And never shown."""
    with pytest.raises(SettingsError) as refused:
        load(RouterSettings, {"REDIS_URL": "redis://x", **_ALL, **changed})
    assert named in str(refused.value)
    assert "too-short" not in str(refused.value)
    assert _KEY not in str(refused.value)


def test_canaries_are_not_sent_faster_than_what_is_looked_at_moves() -> None:
    """Every router would seem to hang; with 0 nobody looks."""
    for good in ("0", "1", "7.5"):
        load(RouterSettings, {"REDIS_URL": "redis://x", "CANARY_S": good})
    with pytest.raises(SettingsError, match=r"CANARY_S=0\.5: .* 0 for no canaries"):
        load(RouterSettings, {"REDIS_URL": "redis://x", "CANARY_S": "0.5"})
