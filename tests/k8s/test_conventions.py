"""Every workload of every overlay is as the conventions ask (docs/kubernetes.md#conventions)."""

from typing import Any, Final

import pytest

from services.gateway.drain import _FAREWELL_S
from tests.k8s.rendered import OVERLAYS, Document, composed, label, of_kind, rendered
from tests.k8s.test_rendered import containers, pod_of, selected

_WORKLOADS: Final = ("Deployment", "StatefulSet")
_SCALERS: Final = ("HorizontalPodAutoscaler", "ScaledObject")
_PRE_STOP_S: Final = 10
# What a process takes from SIGTERM to its end, besides a gateway's DRAIN_DEADLINE_S: docs/operations.md.
_GOODBYE_S: Final = 5
# A router that hangs is gone within so much.
_SURRENDER_S: Final = {"router": 10, "gateway": 0, "presence": 0, "issuer": 0}
_SIZES: Final = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024}


def _all(*kinds: str) -> list[Any]:
    """Those of all overlays, each by itself."""
    return [
        pytest.param(document, overlay, id=f"{overlay.removeprefix('overlays/')}-{label(document)}")
        for overlay in OVERLAYS
        for document in of_kind(rendered(overlay), *kinds)
    ]


def mebibytes(size: str) -> float:
    """As in `256Mi`."""
    return float(size[:-2]) * _SIZES[size[-2:]]


def millicores(cpu: str) -> float:
    """As in `100m`, or `2`."""
    return float(cpu[:-1]) if cpu.endswith("m") else float(cpu) * 1000


Workloads = pytest.mark.parametrize(("workload", "overlay"), _all(*_WORKLOADS))
Deployments = pytest.mark.parametrize(("workload", "overlay"), _all("Deployment"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_part_of_talowa(overlay: str) -> None:
    """So that `kubectl get all -l app.kubernetes.io/part-of=talowa` has it, in the namespace of its own."""
    for document in rendered(overlay):
        labels = document["metadata"].get("labels", {})
        assert labels.get("app.kubernetes.io/part-of") == "talowa", label(document)
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "talowa", label(document)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_takes_restricted_pods_alone(overlay: str) -> None:
    """The API server refuses others."""
    (namespace,) = of_kind(rendered(overlay), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@Workloads
def test_pods_are_restricted(workload: Document, overlay: str) -> None:
    """By the Pod Security Standard, and then some: a user by number, a root that cannot be written to."""
    pod = pod_of(workload)
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["runAsGroup"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    assert all(volume.keys() - {"name"} <= allowed for volume in pod.get("volumes", ()))
    for container in containers(workload):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert all("hostPort" not in port for port in container["ports"])


@Workloads
def test_pods_know_nothing_of_kubernetes(workload: Document, overlay: str) -> None:
    """No token, no list of Services, and an account of their own that has no token either."""
    pod = pod_of(workload)
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    (account,) = (
        one
        for one in of_kind(rendered(overlay), "ServiceAccount")
        if one["metadata"]["name"] == pod["serviceAccountName"]
    )
    assert account["automountServiceAccountToken"] is False


@Workloads
def test_pods_get_what_they_ask_for(workload: Document, overlay: str) -> None:
    """Memory that is asked for is the limit, so that nobody is killed for what others take; no limit of CPU."""
    for container in containers(workload):
        resources = container["resources"]
        assert resources["limits"] == {"memory": resources["requests"]["memory"]}
        assert resources["requests"].keys() == {"cpu", "memory"}


@Workloads
def test_images_are_of_a_version(workload: Document, overlay: str) -> None:
    """Never of whatever is the latest; and locally what was loaded is taken."""
    for container in containers(workload):
        _, _, tag = container["image"].rpartition(":")
        assert tag
        assert tag != "latest"
        assert container["imagePullPolicy"] == "IfNotPresent"


def test_the_local_overlay_runs_the_images_that_the_page_builds() -> None:
    """`talowa/gateway:local` and its like."""
    images = {
        workload["metadata"]["name"]: containers(workload)[0]["image"]
        for workload in of_kind(rendered("overlays/local"), "Deployment")
    }
    assert images == {
        "gateway": "talowa/gateway:local",
        "router": "talowa/router:local",
        "presence": "talowa/presence:local",
        "issuer": "talowa/router:local",
    }


@Workloads
def test_probes_ask_for_what_they_mean(workload: Document, overlay: str) -> None:
    """On the internal port: alive is whose loop turns, ready is who may be sent clients."""
    for container in containers(workload):
        probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
        if workload["kind"] == "Deployment":
            paths = {kind: (probe["httpGet"]["path"], probe["httpGet"]["port"]) for kind, probe in probes.items()}
            assert paths == {
                "startup": ("/healthz", "internal"),
                "readiness": ("/readyz", "internal"),
                "liveness": ("/healthz", "internal"),
            }
        startup = probes["startup"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 120  # a broker may read its log for so long


@Deployments
def test_there_is_time_to_leave(workload: Document, overlay: str) -> None:
    """Until SIGKILL: what preStop takes, the drain's deadline, goodbyes."""
    (container,) = containers(workload)
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": _PRE_STOP_S}}}
    name = workload["metadata"]["name"]
    deadline_s = 0.0
    if name == "gateway":
        (source,) = container["envFrom"]
        (told,) = (
            one["data"]
            for one in of_kind(rendered(overlay), "ConfigMap")
            if one["metadata"]["name"] == source["configMapRef"]["name"]
        )
        deadline_s = float(told["DRAIN_DEADLINE_S"])
        assert float(told["DRAIN_WINDOW_S"]) <= deadline_s
        assert _FAREWELL_S <= _GOODBYE_S
    needed_s = _PRE_STOP_S + deadline_s + max(_GOODBYE_S, _SURRENDER_S[name])
    assert pod_of(workload)["terminationGracePeriodSeconds"] > needed_s


@Deployments
def test_a_rollout_takes_nobody_away_before_another_is_there(workload: Document, overlay: str) -> None:
    """One more, never one less, and it has been ready for a while."""
    spec = workload["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["minReadySeconds"] == 20


@Deployments
def test_a_node_is_emptied_one_pod_at_a_time(workload: Document, overlay: str) -> None:
    """And one that hangs keeps no node from being emptied."""
    budgets = [
        budget
        for budget in of_kind(rendered(overlay), "PodDisruptionBudget")
        if selected([workload], budget["spec"]["selector"])
    ]
    assert [(budget["spec"]["maxUnavailable"], budget["spec"]["unhealthyPodEvictionPolicy"]) for budget in budgets] == [
        (1, "AlwaysAllow")
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("service", ["gateway", "router", "presence"])
def test_copies_are_spread_over_zones_and_hosts(service: str, overlay: str) -> None:
    """Of each version by itself, so that a rollout leaves them spread."""
    (workload,) = (one for one in of_kind(rendered(overlay), "Deployment") if one["metadata"]["name"] == service)
    constraints = pod_of(workload)["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in constraints] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for one in constraints:
        assert selected([workload], one["labelSelector"]) == [workload]
        assert one["matchLabelKeys"] == ["pod-template-hash"]


@pytest.mark.parametrize("where", [("base",), ("base", "components/hpa"), *((overlay,) for overlay in OVERLAYS)])
def test_who_is_scaled_has_no_number_of_its_own(where: tuple[str, ...]) -> None:
    """Each `kubectl apply` would undo what the autoscaler decided. Who is not scaled has one."""
    documents = composed(*where)
    scaled = [one["spec"]["scaleTargetRef"]["name"] for one in of_kind(documents, *_SCALERS)]
    assert len(scaled) == len(set(scaled)), "two scalers pull at one"
    for workload in of_kind(documents, "Deployment"):
        assert ("replicas" in workload["spec"]) != (workload["metadata"]["name"] in scaled), label(workload)


def test_production_scales_gateways_and_routers() -> None:
    """By one scaler each."""
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind(rendered("overlays/production"), *_SCALERS)}
    assert scaled == {"gateway", "router"}


def test_nothing_is_allowed_that_is_not_said() -> None:
    """Every workload of every component has a policy of its own, beside the one that denies all."""
    documents = composed(
        "base", *(f"components/{one}" for one in ("valkey", "embedded-store", "local-issuer", "networkpolicy"))
    )
    policies = of_kind(documents, "NetworkPolicy")
    (deny,) = (one for one in policies if one["metadata"]["name"] == "default-deny")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    own = [one for one in policies if one["spec"]["podSelector"]]
    for workload in of_kind(documents, *_WORKLOADS):
        found = [one for one in own if selected([workload], one["spec"]["podSelector"])]
        assert len(found) == 1, label(workload)
        assert found[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]
        names = {port["name"] for one in containers(workload) for port in one["ports"]}
        for rule in found[0]["spec"].get("ingress", ()):
            assert {port["port"] for port in rule["ports"]} <= names


def test_the_internal_port_is_open_to_gateways_and_prometheus_alone() -> None:
    """It knows no passwords for what gateways ask each other, and /metrics is nobody's business."""
    documents = composed("base", "components/networkpolicy")
    for policy in of_kind(documents, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            if "internal" in {port["port"] for port in rule["ports"]}:
                for peer in rule["from"]:
                    assert "namespaceSelector" in peer or [
                        one["metadata"]["name"] for one in selected(documents, peer["podSelector"])
                    ] == ["gateway"]
