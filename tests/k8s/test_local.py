"""The local overlay fits on one small node, and needs nothing that is not on it."""

from typing import Final

from tests.k8s.rendered import Document, of_kind, rendered
from tests.k8s.test_conventions import mebibytes, millicores
from tests.k8s.test_rendered import containers, pod_of

_LOCAL: Final = "overlays/local"
_NODE_CPU_M: Final = 2000
_NODE_MEMORY_MI: Final = 4096
# What kubeadm's pods ask for (API server, etcd, controller manager, scheduler, two CoreDNS, network), as in kind; k3s
# asks for a third of it. Then what the kubelet, the runtime and the system keep for themselves.
_CONTROL_PLANE_CPU_M: Final = 950
_CONTROL_PLANE_MEMORY_MI: Final = 290
_SYSTEM_MEMORY_MI: Final = 900


def _most(workload: Document) -> int:
    """Pods at the same time, while it rolls out."""
    replicas: int = workload["spec"].get("replicas", 1)
    surge: int = workload["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge", 0)
    return replicas + surge


def test_it_fits_on_a_node_of_two_cores_and_four_gibibytes() -> None:
    """With the control plane on it, and all workloads rolling out at once."""
    workloads = of_kind(rendered(_LOCAL), "Deployment", "StatefulSet")
    asked = [
        (_most(workload) * millicores(requests["cpu"]), _most(workload) * mebibytes(requests["memory"]))
        for workload in workloads
        for requests in (container["resources"]["requests"] for container in containers(workload))
    ]
    assert sum(cpu for cpu, _ in asked) + _CONTROL_PLANE_CPU_M <= _NODE_CPU_M
    assert sum(memory for _, memory in asked) + _CONTROL_PLANE_MEMORY_MI + _SYSTEM_MEMORY_MI <= _NODE_MEMORY_MI


def test_who_shares_a_disk_runs_on_one_node() -> None:
    """SQLite's log is memory that processes of one machine share."""
    workloads = of_kind(rendered(_LOCAL), "Deployment")
    names: dict[str, set[str]] = {}
    for workload in workloads:
        for volume in pod_of(workload)["volumes"]:
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                names.setdefault(claim, set()).add(workload["metadata"]["name"])
    assert names == {"store": {"router", "issuer"}, "presence": {"presence"}}
    for workload in workloads:
        for together in names.values():
            if workload["metadata"]["name"] in together:
                (term,) = pod_of(workload)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
                assert term["topologyKey"] == "kubernetes.io/hostname"
                (expression,) = term["labelSelector"]["matchExpressions"]
                assert set(expression["values"]) == together


def test_it_asks_for_no_extension() -> None:
    """Kubernetes as it comes is enough."""
    groups = {document["apiVersion"] for document in rendered(_LOCAL)}
    assert groups <= {"v1", "apps/v1", "policy/v1"}


def test_the_broker_keeps_what_it_took() -> None:
    """An append-only file, and nothing evicted; its memory is half as much again as its data."""
    (told,) = (
        one["data"]["valkey.conf"] for one in of_kind(rendered(_LOCAL), "ConfigMap") if "valkey.conf" in one["data"]
    )
    lines = [line for line in told.splitlines() if line and not line.startswith("#")]
    assert {"appendonly yes", "maxmemory-policy noeviction", "dir /data"} <= set(lines)
    (most,) = (int(line.split()[1].removesuffix("mb")) for line in lines if line.startswith("maxmemory "))
    (broker,) = of_kind(rendered(_LOCAL), "StatefulSet")
    assert mebibytes(containers(broker)[0]["resources"]["limits"]["memory"]) >= most * 1.5
    (claim,) = broker["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] in {mount["name"] for mount in containers(broker)[0]["volumeMounts"]}
