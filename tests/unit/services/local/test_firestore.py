"""A local cluster on Google's emulator: what is run, what services are told, and what is missed where it cannot be."""

import shutil
from pathlib import Path

import pytest

from libs.lifecycle import Unstartable
from libs.settings import load
from services.local import firestore
from services.local.plan import make_plan
from services.local.settings import LocalSettings
from services.router.settings import RouterSettings


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Java and gcloud with its emulator, to look at."""
    jar = tmp_path / "sdk" / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / "sdk" / "bin" / name))
    return jar


def test_a_cluster_on_the_emulator_starts_it_first_and_tells_its_services(installed: Path, tmp_path: Path) -> None:
    """In so many words, whatever the environment says of a store."""
    settings = LocalSettings(
        store="firestore", data_dir=str(tmp_path), redis_url="redis://127.0.0.1:1", websocket_port=1
    )
    emulator, *services = make_plan(settings, {"STORE": "firestore"}).processes
    assert emulator.role == "store"
    assert str(installed) in emulator.command
    assert not emulator.restarts
    router = next(process for process in services if process.role == "router")
    read = load(RouterSettings, router.environment)
    assert (read.store, read.firestore_project_id) == ("firestore-emulator", "demo-talowa")
    assert read.firebase_project_id == "demo-talowa"  # whose tokens are believed, if emulated ones are
    assert read.firestore_emulator_host == f"127.0.0.1:{emulator.ports['store']}"


@pytest.mark.parametrize(
    ("lacks", "remedy"),
    [("java", "default-jre-headless"), ("gcloud", "google-cloud-cli"), ("jar", "firestore-emulator")],
)
def test_what_is_missed_is_told_with_what_to_install(
    installed: Path, monkeypatch: pytest.MonkeyPatch, lacks: str, remedy: str
) -> None:
    """Before anything runs."""
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == lacks else found(name))
    if lacks == "jar":
        installed.unlink()
    with pytest.raises(Unstartable, match=remedy):
        firestore.command(1)
