"""What scales asks for series that exist, leaves room for a death, and never takes silence for nothing to do."""

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from docs import metrics
from services.router.settings import RouterSettings
from tests.k8s.rendered import Document, of_kind
from tests.k8s.wholes import whole
from tests.support.promql import series
from tests.support.promtool import promtool

SCALERS: Final = ("components/keda", "overlays/production")


def scaled(name: str) -> dict[str, Document]:
    """The ScaledObjects, by what they scale."""
    return {each["spec"]["scaleTargetRef"]["name"]: each for each in of_kind(whole(name), "ScaledObject")}


def triggers(name: str) -> list[dict[str, Any]]:
    """What they ask."""
    return [trigger["metadata"] for each in scaled(name).values() for trigger in each["spec"]["triggers"]]


@pytest.mark.parametrize("name", SCALERS)
def test_what_is_asked_for_exists(name: str) -> None:
    """In the catalogue; a query without an answer would hold everything as it is."""
    for trigger in triggers(name):
        assert series(trigger["query"])
        assert series(trigger["query"]) <= metrics.names().keys()


@pytest.mark.parametrize("name", SCALERS)
def test_prometheus_takes_the_queries(name: str, tmp_path: Path) -> None:
    """By its own parser."""
    rules = [{"record": f"query:{number}", "expr": each["query"]} for number, each in enumerate(triggers(name))]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool(tmp_path, "check", "rules", "rules.yml")


@pytest.mark.parametrize("name", SCALERS)
def test_silence_is_not_taken_for_nothing_to_do(name: str) -> None:
    """A Prometheus that is away, or sees nobody, takes no pod away."""
    assert scaled(name).keys() == {"gateway", "router"}
    for each in scaled(name).values():
        assert each["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"
        assert each["spec"]["fallback"]["replicas"] == each["spec"]["minReplicaCount"]
    assert {trigger["ignoreNullValues"] for trigger in triggers(name)} == {"false"}


@pytest.mark.parametrize("name", SCALERS)
def test_pods_go_one_at_a_time_and_late(name: str) -> None:
    """And come faster than they go."""
    for each in scaled(name).values():
        behavior = each["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 1800
        assert [policy["value"] for policy in behavior["scaleDown"]["policies"]] == [1]
        assert behavior["scaleUp"]["stabilizationWindowSeconds"] < behavior["scaleDown"]["stabilizationWindowSeconds"]


@pytest.mark.parametrize("name", SCALERS)
def test_the_gateways_that_are_left_have_room_for_those_of_a_dead_one(name: str) -> None:
    """At the fewest there are, and at the sockets a gateway where one more is asked for."""
    spec = scaled(name)["gateway"]["spec"]
    fewest, sockets = spec["minReplicaCount"], int(spec["triggers"][0]["metadata"]["threshold"])
    (told,) = (
        each["data"] for each in of_kind(whole(name), "ConfigMap") if each["metadata"]["name"].startswith("gateway-")
    )
    assert sockets * fewest / (fewest - 1) <= int(told["SOCKETS_SOFT_MAX"])


@pytest.mark.parametrize("name", SCALERS)
def test_no_router_is_without_a_partition(name: str) -> None:
    """More routers than partitions would have nothing to do."""
    (partitions,) = (each.default for each in msgspec.structs.fields(RouterSettings) if each.name == "partitions")
    assert scaled(name)["router"]["spec"]["maxReplicaCount"] <= partitions


@pytest.mark.parametrize("name", SCALERS)
def test_a_query_asks_for_one_installation(name: str) -> None:
    """That of the namespace it is in: Prometheus may see others."""
    for each in scaled(name).values():
        for trigger in each["spec"]["triggers"]:
            selectors = re.findall(r"talowa_[a-z_]+(\{[^}]*\})?", trigger["metadata"]["query"])
            assert set(selectors) == {f'{{namespace="{each["metadata"].get("namespace", "talowa")}"}}'}
