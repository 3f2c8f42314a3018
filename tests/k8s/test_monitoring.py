"""Prometheus finds every pod and takes every rule, and Grafana every dashboard."""

import json
from pathlib import Path
from typing import Any, Final

import yaml

from docs import alerts
from tests.k8s.rendered import Document, label, of_kind
from tests.k8s.wholes import whole
from tests.support.promtool import promtool

_OPERATOR: Final = "components/prometheus-operator"
_GRAFANA: Final = "components/grafana"
DASHBOARDS: Final = {"cluster", "message", "gateways", "routers", "presence", "google", "load"}
# `kubectl apply` keeps a copy of what it applied in an annotation, and that may have so many bytes.
_ANNOTATION_BYTES: Final = 256 * 1024


def matches(selector: dict[str, Any], document: Document) -> bool:
    """Whether a selector of `matchLabels` and `In` takes the pods of a workload."""
    labels = document["spec"]["template"]["metadata"]["labels"]
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", [])
    )


def test_every_service_is_read_on_its_internal_port() -> None:
    """And nothing else is: the broker has no `/metrics`."""
    documents = whole(_OPERATOR)
    (monitor,) = of_kind(documents, "PodMonitor")
    read = [
        each for each in of_kind(documents, "Deployment", "StatefulSet") if matches(monitor["spec"]["selector"], each)
    ]
    assert {each["metadata"]["name"] for each in read} == {"gateway", "router", "presence"}
    for each in read:
        ports = {
            port["name"] for container in each["spec"]["template"]["spec"]["containers"] for port in container["ports"]
        }
        assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= ports, label(each)
        assert monitor["spec"]["jobLabel"] in each["spec"]["template"]["metadata"]["labels"]


def test_the_rules_of_the_operator_are_those_of_the_docs() -> None:
    """After a change of `docs/alerts.yml`: `make docs`."""
    assert alerts.RESOURCE.read_text(encoding="utf-8") == alerts.text()
    (resource,) = of_kind(whole(_OPERATOR), "PrometheusRule")
    assert resource["spec"] == yaml.safe_load(alerts.SOURCE.read_text(encoding="utf-8"))


def test_prometheus_takes_the_rules_as_they_are_applied(tmp_path: Path) -> None:
    """By its own checks; when they fire is tested beside `docs/alerts.yml`."""
    (resource,) = of_kind(whole("overlays/production"), "PrometheusRule")
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(resource["spec"]), encoding="utf-8")
    assert "SUCCESS" in promtool(tmp_path, "check", "rules", "rules.yml")


def test_every_dashboard_is_found_by_grafana() -> None:
    """By the label that its sidecar looks for; under a name that stays, or an old one would be shown beside it."""
    maps = {each["metadata"]["name"]: each for each in of_kind(whole(_GRAFANA), "ConfigMap")}
    boards = {name: each for name, each in maps.items() if "grafana_dashboard" in each["metadata"].get("labels", {})}
    assert boards.keys() == {f"dashboard-{name}" for name in DASHBOARDS}
    for name, each in boards.items():
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        ((file, content),) = each["data"].items()
        assert file == f"talowa-{name.removeprefix('dashboard-')}.json"
        assert json.loads(content)["panels"]
        assert len(json.dumps(each)) < _ANNOTATION_BYTES
