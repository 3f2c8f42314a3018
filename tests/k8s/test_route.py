"""Phones come in by a route of the Gateway API as they do by an Ingress."""

from typing import Any, Final

from tests.k8s.rendered import of_kind
from tests.k8s.wholes import whole

_KINDS: Final = {"PathPrefix": "Prefix", "Exact": "Exact"}
# What the standard channel has of a rule; others are dropped where it is installed.
_STANDARD: Final = {"name", "matches", "filters", "backendRefs", "timeouts"}


def route() -> dict[str, Any]:
    """What it says."""
    (resource,) = of_kind(whole("components/gateway-api"), "HTTPRoute")
    spec: dict[str, Any] = resource["spec"]
    return spec


def test_both_doors_have_the_same_host_and_paths() -> None:
    """And open on the same port; whoever changes one changes the other."""
    (ingress,) = of_kind(whole("components/ingress"), "Ingress")
    (by_host,) = ingress["spec"]["rules"]
    (rule,) = route()["rules"]
    assert route()["hostnames"] == [by_host["host"]]
    paths = {(each["path"]["value"], _KINDS[each["path"]["type"]]) for each in rule["matches"]}
    assert paths == {(each["path"], each["pathType"]) for each in by_host["http"]["paths"]}
    (backend,) = rule["backendRefs"]
    (service,) = (one for one in of_kind(whole("base"), "Service") if one["metadata"]["name"] == backend["name"])
    ports = {port["port"]: port["name"] for port in service["spec"]["ports"]}
    names = {each["backend"]["service"]["port"]["name"] for each in by_host["http"]["paths"]}
    assert {ports[backend["port"]]} == names


def test_no_poll_and_no_socket_is_cut_off() -> None:
    """Where nothing is said, a proxy's own limit counts: often 15 s, and a poll takes 25."""
    (rule,) = route()["rules"]
    assert rule["timeouts"] == {"request": "0s"}


def test_the_standard_channel_is_enough() -> None:
    """No affinity, which it does not have."""
    (rule,) = route()["rules"]
    assert rule.keys() <= _STANDARD
