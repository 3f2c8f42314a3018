"""`talowa up` as a person runs it."""

import pytest
from rich.console import Console

from services.local import app
from services.local.app import _show, _without_password
from services.local.plan import Plan
from services.local.settings import LocalSettings
from services.local.state import Running, State


def test_the_brokers_password_is_not_shown() -> None:
    """The table ends up in screenshots."""
    assert _without_password("rediss://me:hunter2@example.org:6379/1") == "rediss://example.org:6379/1"
    assert _without_password("redis://127.0.0.1:9101") == "redis://127.0.0.1:9101"


def test_the_table_fits_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, pid, ports and log of a process stand on one line of 80 columns."""
    monkeypatch.setattr(app, "console", lambda: Console(width=80))
    settings = LocalSettings()
    log = str(settings.home / "logs" / "presence.log")
    ports = {"socket": 65535, "internal": 31999}
    state = State(1, [Running("presence", "presence", "127.0.0.1", 4_194_304, ports, log)])
    _show(state, settings, Plan([], "redis://127.0.0.1:9101"))
    assert "presence  4194304  127.0.0.1:65535  127.0.0.1:31999  .local/logs/presence.log" in capsys.readouterr().out
