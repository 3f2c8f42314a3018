"""What is rendered holds together: selectors and pods, ports and containers, settings and services, names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from libs.settings import Settings, load
from services.gateway.settings import GatewaySettings
from services.local.settings import IssuanceSettings
from services.presence.settings import PresenceSettings
from services.router.settings import RouterSettings
from tests.k8s.rendered import K8S, OVERLAYS, Document, composed, label, of_kind, rendered

_PAGE: Final = K8S.parent / "docs" / "kubernetes.md"
_SETTINGS: Final[dict[str, type[Settings]]] = {
    "gateway": GatewaySettings,
    "router": RouterSettings,
    "presence": PresenceSettings,
    "issuer": IssuanceSettings,
}
_WORKLOADS: Final = ("Deployment", "StatefulSet")
# Set by whoever makes the secret; here, what it may be.
_SECRET: Final = "s" * 32
_REDIS: Final = "redis://:password@broker:6379"

Wheres = pytest.mark.parametrize("where", ["base", *OVERLAYS])


def pod_of(workload: Document) -> Document:
    """The pod that it makes."""
    pod: Document = workload["spec"]["template"]["spec"]
    return pod


def containers(workload: Document) -> list[Document]:
    """All of them."""
    return [*pod_of(workload)["containers"], *pod_of(workload).get("initContainers", [])]


def selected(documents: list[Document], selector: dict[str, Any]) -> list[Document]:
    """The workloads whose pods a selector means."""
    found = []
    for workload in of_kind(documents, *_WORKLOADS):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        exact = selector.get("matchLabels", {})
        among = selector.get("matchExpressions", [])
        assert all(one["operator"] == "In" for one in among)
        if exact.items() <= labels.items() and all(labels.get(one["key"]) in one["values"] for one in among):
            found.append(workload)
    return found


def _environment(documents: list[Document], container: Document) -> dict[str, str]:
    """What a container is told, with stand-ins for what secrets and the pod itself say."""
    told: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        (found,) = (
            one for one in of_kind(documents, "ConfigMap") if one["metadata"]["name"] == source["configMapRef"]["name"]
        )
        told |= found["data"]
    for variable in container.get("env", ()):
        name = variable["name"]
        told[name] = variable.get("value") or (_REDIS if name == "REDIS_URL" else "pod-7d4f")
        if "secretKeyRef" in variable.get("valueFrom", {}) and name != "REDIS_URL":
            told[name] = _SECRET
    return told


def _references(documents: list[Document]) -> Iterator[tuple[str, str, str | None]]:
    """What pods take by name: (kind, name, key)."""
    for workload in of_kind(documents, *_WORKLOADS):
        for container in containers(workload):
            yield from _of_environment(container)
        for volume in pod_of(workload).get("volumes", ()):
            yield from _of_volume(volume)
        yield "ServiceAccount", pod_of(workload)["serviceAccountName"], None


def _of_environment(container: Document) -> Iterator[tuple[str, str, str | None]]:
    for source in container.get("envFrom", ()):
        yield "ConfigMap", source["configMapRef"]["name"], None
    for variable in container.get("env", ()):
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            yield "Secret", reference["name"], reference["key"]


def _of_volume(volume: Document) -> Iterator[tuple[str, str, str | None]]:
    if "configMap" in volume:
        yield "ConfigMap", volume["configMap"]["name"], None
    if "secret" in volume:
        for item in volume["secret"].get("items", [{"key": None}]):
            yield "Secret", volume["secret"]["secretName"], item["key"]
    if "persistentVolumeClaim" in volume:
        yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], None


@Wheres
def test_no_two_documents_have_one_name(where: str) -> None:
    """The second would be applied over the first."""
    names = [label(document) for document in rendered(where)]
    assert len(names) == len(set(names))


@Wheres
def test_the_three_services_are_there(where: str) -> None:
    """Each with its account, its budget and its Service."""
    names = {label(document) for document in rendered(where)}
    kinds = ("Deployment", "ServiceAccount", "PodDisruptionBudget", "Service")
    assert {f"{kind}/{service}" for kind in kinds for service in ("gateway", "router", "presence")} <= names


def test_the_base_needs_nothing_but_kubernetes() -> None:
    """No kind of it is anybody's extension."""
    assert {document["apiVersion"] for document in rendered("base")} <= {"v1", "apps/v1", "policy/v1"}


@Wheres
def test_selectors_find_one_workload_each(where: str) -> None:
    """Those of workloads find their own pods; those of Services and budgets the pods they are named for."""
    documents = rendered(where)
    for workload in of_kind(documents, *_WORKLOADS):
        assert selected(documents, workload["spec"]["selector"]) == [workload]
    for service in of_kind(documents, "Service"):
        assert len(selected(documents, {"matchLabels": service["spec"]["selector"]})) == 1, label(service)
    for budget in of_kind(documents, "PodDisruptionBudget"):
        (found,) = selected(documents, budget["spec"]["selector"])
        assert found["metadata"]["name"] == budget["metadata"]["name"]


@Wheres
def test_ports_lead_to_containers_that_listen_there(where: str) -> None:
    """Of Services, probes and policies, by name; and the numbers are those that the service's settings say."""
    documents = rendered(where)
    for service in of_kind(documents, "Service"):
        (workload,) = selected(documents, {"matchLabels": service["spec"]["selector"]})
        names = {port["name"] for one in containers(workload) for port in one["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names, label(service)
    for workload in of_kind(documents, *_WORKLOADS):
        for container in containers(workload):
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            probes = [container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
            assert {(probe.get("httpGet") or probe["tcpSocket"])["port"] for probe in probes} <= ports.keys()
            if kind := _SETTINGS.get(workload["metadata"]["name"]):
                told = _environment(documents, container)
                fields = {field.name: field.default for field in msgspec.structs.fields(kind)}
                wanted = {"internal": "internal_port", "socket": "websocket_port"}
                assert ports == {name: int(told.get(wanted[name].upper(), fields[wanted[name]])) for name in ports}


@Wheres
def test_ingresses_and_routes_lead_to_services(where: str) -> None:
    """By the names and ports that those have."""
    documents = rendered(where)
    ports = {
        service["metadata"]["name"]: {port["name"] for port in service["spec"]["ports"]}
        for service in of_kind(documents, "Service")
    }
    for ingress in of_kind(documents, "Ingress"):
        paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        assert paths
        for path in paths:
            service = path["backend"]["service"]
            assert service["port"]["name"] in ports[service["name"]]


@Wheres
def test_what_is_named_is_there_and_secrets_are_named_and_never_made(where: str) -> None:
    """A secret in a repository is none."""
    documents = rendered(where)
    made = {(document["kind"], document["metadata"]["name"]) for document in documents}
    assert not of_kind(documents, "Secret")
    for kind, name, _ in _references(documents):
        assert kind == "Secret" or (kind, name) in made, f"{kind}/{name} is nowhere"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_page_has_the_command_for_every_secret(overlay: str) -> None:
    """With all of its keys."""
    page = _PAGE.read_text(encoding="utf-8")
    commands = [part.split("\n\n")[0] for part in page.split("create secret generic ")[1:]]
    for kind, name, key in _references(rendered(overlay)):
        if kind == "Secret":
            written = [command for command in commands if command.split()[0] == name]
            assert written, f"docs/kubernetes.md does not say how to make the secret {name}"
            assert key is None or any(f"{key}=" in command for command in written), f"{name} is made without {key}"


@Wheres
def test_a_setting_that_changes_has_a_new_name(where: str) -> None:
    """ConfigMaps are hashed: a change rolls out, and a rollback brings the old one back."""
    documents = rendered(where)
    for workload in of_kind(documents, *_WORKLOADS):
        for kind, name, _ in _references([workload]):
            if kind == "ConfigMap":
                assert len(name.rpartition("-")[2]) == 10, f"{name} has no hash"


@Wheres
def test_every_variable_is_a_setting_of_its_service(where: str) -> None:
    """A name that nobody reads is a mistake that nobody notices."""
    documents = rendered(where)
    looked_at = set()
    for workload in of_kind(documents, "Deployment"):
        name = workload["metadata"]["name"]
        (container,) = containers(workload)
        known = {field.name.upper() for field in msgspec.structs.fields(_SETTINGS[name])}
        assert _environment(documents, container).keys() <= known, name
        looked_at.add(name)
    assert {"gateway", "router", "presence"} <= looked_at


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_service_would_start_with_what_it_is_told(overlay: str, tmp_path: Path) -> None:
    """No rule of its settings is broken."""
    documents = rendered(overlay)
    file = tmp_path / "key.pem"
    file.touch()
    for workload in of_kind(documents, "Deployment"):
        (container,) = containers(workload)
        told = _environment(documents, container)
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        for variable in ("TOKEN_KEY_FILE", "TOKEN_SIGNING_KEY_FILE", "SQLITE_PATH", "PRESENCE_SQLITE_PATH"):
            if path := told.get(variable):
                assert str(Path(path).parent) in mounts, f"{variable}={path} is on no volume"
                told[variable] = str(file)
        load(_SETTINGS[workload["metadata"]["name"]], told)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_agree_on_what_they_must(overlay: str) -> None:
    """Partitions, canaries, who issues tokens, where the record is."""
    documents = rendered(overlay)
    told = {
        workload["metadata"]["name"]: _environment(documents, containers(workload)[0])
        for workload in of_kind(documents, "Deployment")
        if workload["metadata"]["name"] in ("gateway", "router", "presence")
    }
    for variable, services in {
        "PARTITIONS": ("gateway", "router"),
        "CANARY_S": ("gateway", "router"),
        "AUTH": ("gateway", "router", "presence"),
        "FIREBASE_PROJECT_ID": ("gateway", "router", "presence"),
        "STORE": ("router", "presence"),
    }.items():
        assert len({told[service].get(variable) for service in services}) == 1, variable


@pytest.mark.parametrize(
    "component", sorted(path.parent.name for path in (K8S / "components").glob("*/kustomization.yaml"))
)
def test_a_component_can_be_had_by_itself(component: str) -> None:
    """On the base alone; the local issuer with the record that it writes to."""
    needs = {"local-issuer": ["components/embedded-store"]}.get(component, [])
    documents = composed("base", *needs, f"components/{component}")
    assert len(documents) > 0
    assert {label(document) for document in of_kind(documents, "Deployment")} >= {"Deployment/gateway"}
