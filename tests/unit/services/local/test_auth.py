"""A local cluster that believes emulated tokens: what is run for it, and what services are told."""

import shutil
from pathlib import Path

import msgspec
import pytest

from libs.lifecycle import Unstartable
from libs.settings import load
from services.gateway.settings import GatewaySettings
from services.local import auth
from services.local.operators import CannotOperate
from services.local.plan import Plan, make_plan
from services.local.settings import LocalSettings
from services.router.settings import RouterSettings

EMULATED = {"AUTH": "firebase-emulator"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Node, and firebase-tools, to look at."""
    script = tmp_path / "firebase" / "node_modules/firebase-tools/lib/bin/firebase.js"
    script.parent.mkdir(parents=True)
    script.touch()
    monkeypatch.setattr(auth, "FOLDER", tmp_path / "firebase")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return script


def planned(home: Path, environment: dict[str, str]) -> Plan:
    settings = LocalSettings(data_dir=str(home), redis_url="redis://127.0.0.1:1", websocket_port=1)
    return make_plan(settings, environment)


def test_who_believes_emulated_tokens_is_given_an_emulator(installed: Path, tmp_path: Path) -> None:
    """Of the same project; routers look at its accounts."""
    emulator, *services = planned(tmp_path, EMULATED).processes
    assert (emulator.role, emulator.restarts) == ("auth", False)
    assert str(installed) in emulator.command
    file = emulator.command[emulator.command.index("--config") + 1]
    settings = msgspec.json.decode(Path(file).read_bytes())
    assert settings["emulators"]["auth"] == {"host": "127.0.0.1", "port": emulator.ports["auth"]}
    told = {process.role: process.environment for process in services}
    for environment in told.values():
        assert environment["FIREBASE_AUTH_EMULATOR_HOST"] == f"127.0.0.1:{emulator.ports['auth']}"
    gateway, router = load(GatewaySettings, told["gateway"]), load(RouterSettings, told["router"])
    assert (gateway.auth, router.checks_accounts) == ("firebase-emulator", True)
    project = emulator.command[emulator.command.index("--project") + 1]
    assert gateway.firebase_project_id == router.firebase_project_id == project == "demo-talowa"


@pytest.mark.parametrize("environment", [{}, EMULATED | {"FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9099"}])
def test_who_has_one_or_needs_none_is_given_none(tmp_path: Path, environment: dict[str, str]) -> None:
    """Whether it is installed or not."""
    given = environment | ({"FIREBASE_PROJECT_ID": "demo-mine"} if environment else {})
    assert "auth" not in [process.role for process in planned(tmp_path, given).processes]


def test_what_is_missed_is_told_with_what_to_do(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything runs."""
    installed.unlink()
    with pytest.raises(Unstartable, match="make emulators"):
        auth.command(tmp_path, 1)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(Unstartable, match="Node 20"):
        auth.command(tmp_path, 1)


def test_an_emulator_that_is_gone_is_named() -> None:
    """Who asks for a token is told whom was asked."""
    with pytest.raises(CannotOperate, match=r"the Auth emulator at 127\.0\.0\.1:1 gave no token"):
        auth.Emulated("127.0.0.1:1").token("asha")
