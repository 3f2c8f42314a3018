"""Checkov finds nothing but what is let pass here, each with its reason."""

import copy
import json
import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.k8s.rendered import Document, of_kind
from tests.k8s.wholes import WHOLES, whole

# It has pins of its own, and lives beside the project's packages.
_CHECKOV: Final = Path(sys.prefix, "checkov", "bin", "checkov")
_OPTIONS: Final = ("--framework", "kubernetes", "--skip-download", "--quiet", "--soft-fail", "--output", "json")
_TIMEOUT_S: Final = 110
_MISTAKEN: Final = "mistaken"

# A check, and a resource.
Finding = tuple[str, str]

# What it finds, in which resources (kind.whole.name), and why that stays.
LET_PASS: Final[tuple[tuple[str, str, str], ...]] = (
    ("CKV_K8S_11", "*", "no limit of CPU: when one is held up in the middle of a second, so are all who are on it"),
    ("CKV_K8S_15", "*", "tags are of a version, and an image that was loaded into a node without a registry is taken"),
    ("CKV_K8S_35", "Deployment.*", "settings are read from the environment, all in one way; private keys are files"),
    ("CKV_K8S_40", "StatefulSet.*.valkey", "999 is the user that Valkey's own image has made for it"),
    ("CKV_K8S_43", "*", "who installs builds the images; `images:` of an overlay takes a digest as well as a tag"),
)


@pytest.fixture(scope="module")
def all_findings(tmp_path_factory: pytest.TempPathFactory) -> set[Finding]:
    """What it finds in all there is, and in a mistake. It asks nobody on the net."""
    if not _CHECKOV.exists():
        missing = "checkov is not installed: `make k8s-check` does it"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    folder = tmp_path_factory.mktemp("rendered")
    for name, documents in {**{name: whole(name) for name in WHOLES}, _MISTAKEN: mistaken()}.items():
        # Named by the whole, in place of a namespace, which is an overlay's to give. Checkov looks beyond it: one
        # policy that denies all is enough for it (CKV2_K8S_6). The conventions are that each workload has its own.
        place = name.replace("/", "-")
        named = [each | {"metadata": each["metadata"] | {"namespace": place}} for each in documents]
        (folder / f"{place}.yaml").write_text(yaml.safe_dump_all(named), encoding="utf-8")
    command = (_CHECKOV, "--directory", folder, *_OPTIONS)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    return {(each["check_id"], each["resource"]) for each in report["results"]["failed_checks"]}


@pytest.fixture
def findings(all_findings: set[Finding]) -> set[Finding]:
    """Without those of the mistake."""
    return {(check, resource) for check, resource in all_findings if f".{_MISTAKEN}." not in resource}


def mistaken() -> list[Document]:
    """A gateway that may do what it likes."""
    gateway, *_ = of_kind(copy.deepcopy(whole("base")), "Deployment")
    gateway["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = True
    return [gateway]


def test_it_finds_nothing_without_a_reason(findings: set[Finding]) -> None:
    """A new one is mended, or gets its reason above."""
    assert {
        (check, resource)
        for check, resource in findings
        if not any(check == passed and fnmatch(resource, where) for passed, where, _ in LET_PASS)
    } == set()


@pytest.mark.parametrize(("check", "where", "why"), LET_PASS)
def test_no_reason_is_left_over(check: str, where: str, why: str, findings: set[Finding]) -> None:
    """What has been mended is not let pass the next time."""
    assert any(check == found and fnmatch(resource, where) for found, resource in findings), why


def test_a_mistake_is_found(all_findings: set[Finding]) -> None:
    """It does look."""
    assert ("CKV_K8S_16", f"Deployment.{_MISTAKEN}.gateway") in all_findings
