"""Every document has the fields that its API has, and no others: of Kubernetes itself, and of the custom resources."""

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import kubernetes_validate
import pytest

from tests.k8s.rendered import Document, label, of_kind
from tests.k8s.wholes import WHOLES, whole

# The oldest that the manifests promise to run on, and the newest whose schemas are to be had.
VERSIONS: Final = ("1.32", kubernetes_validate.latest_version())
_CUSTOM: Final = ("gateway.networking.k8s.io/", "keda.sh/", "monitoring.coreos.com/")
_CRDS: Final = Path(__file__).with_name("crds")
_TIMEOUT_S: Final = 60


def is_custom(document: Document) -> bool:
    """Whether a CRD has to be there for it."""
    return bool(document["apiVersion"].startswith(_CUSTOM))


def wrong(documents: list[Document]) -> list[tuple[str, str, str]]:
    """What is wrong with custom resources: which, where, why. Skips where Node or the models are missing, but in CI."""
    node = shutil.which("node")
    if node is None or not (_CRDS / "node_modules").is_dir():
        missing = "schemas of custom resources are not installed: `make k8s-check` does it, with Node"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    done = subprocess.run(
        [node, _CRDS / "check.mjs"],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(which, path, why) for which, path, why in json.loads(done.stdout)]


def distinct() -> list[Document]:
    """All there is, each once: the base is in every whole."""
    return list(
        {json.dumps(document, sort_keys=True): document for name in WHOLES for document in whole(name)}.values()
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(version: str) -> None:
    """By its own schemas, which an API server applies the same way. A kind without a schema fails."""
    documents = [document for document in distinct() if not is_custom(document)]
    assert {document["kind"] for document in documents} >= {"Deployment", "StatefulSet", "Ingress", "NetworkPolicy"}
    mistakes = []
    for document in documents:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as mistake:
            mistakes.append((label(document), list(mistake.path), mistake.message))
    assert mistakes == []


def test_custom_resources_have_the_fields_of_their_definitions() -> None:
    """Those of the Gateway API, of KEDA and of the Prometheus operator."""
    documents = [document for document in distinct() if is_custom(document)]
    assert {document["kind"] for document in documents} == {"HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject"}
    assert wrong(documents) == []


def test_a_field_that_does_not_exist_is_found() -> None:
    """An API server would drop it, and say nothing to who applies with `--validate=false`."""
    (scaled, *_) = of_kind(whole("components/keda"), "ScaledObject")
    mistaken = copy.deepcopy(scaled)
    mistaken["spec"]["fallback"]["behaviour"] = mistaken["spec"]["fallback"].pop("behavior")
    mistaken["spec"]["minReplicaCount"] = "3"
    ((_, path, why),) = wrong([mistaken])
    assert (path, why) == ("/spec/minReplicaCount", "must be integer")
    mistaken["spec"]["minReplicaCount"] = 3
    assert [path for _, path, _ in wrong([mistaken])] == ["/spec/fallback/behaviour"]

    (deployment, *_) = of_kind(whole("base"), "Deployment")
    mistaken = copy.deepcopy(deployment)
    mistaken["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    for version in VERSIONS:
        with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
            kubernetes_validate.validate(mistaken, version, strict=True)
