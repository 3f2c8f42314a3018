"""What `kubectl kustomize` makes of the manifests: each kustomization is rendered once."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

K8S: Final = Path(__file__).parents[2] / "k8s"
OVERLAYS: Final = ("overlays/local", "overlays/production")
_TIMEOUT_S: Final = 60

Document = dict[str, Any]


@functools.cache
def rendered(path: str) -> list[Document]:
    """The documents of a kustomization, by its folder under `k8s`: `rendered("overlays/local")`. Do not change them."""
    return [document for document in yaml.safe_load_all(_kustomize(K8S / path)) if document]


@functools.cache
def composed(*paths: str) -> list[Document]:
    """As if an overlay took these bases and components, by their folders under `k8s`. Do not change them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        here = [(os.path.relpath(K8S / path, folder), path.startswith("components/")) for path in paths]
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [path for path, is_component in here if not is_component],
            "components": [path for path, is_component in here if is_component],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        return [document for document in yaml.safe_load_all(_kustomize(folder)) if document]


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    """Those of these kinds."""
    return [document for document in documents if document["kind"] in kinds]


def label(document: Document) -> str:
    """Which one it is, for the names of tests: `Deployment/gateway`."""
    return f"{document['kind']}/{document['metadata']['name']}"


def find_kubectl() -> str:
    """The binary; skips the test where there is none, and fails it in CI."""
    found = shutil.which("kubectl")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("kubectl is not installed")
    return found


def _kustomize(folder: Path) -> str:
    done = subprocess.run(
        [find_kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
