"""From settings to processes and their environment."""

from pathlib import Path

from libs.settings import load
from services.local.plan import Plan, make_plan
from services.local.settings import LocalSettings
from tests.unit.services.local.fakes import free_port


def test_every_process_has_ports_and_names_of_its_own(tmp_path: Path) -> None:
    """Gateways take the ports they were promised; the rest are free ones."""
    plan = _plan(tmp_path, GATEWAYS="3", ROUTERS="2", WEBSOCKET_PORT="3001")
    assert [process.name for process in plan.processes] == ["broker", "r1", "r2", "presence", "g1", "g2", "g3"]
    assert [process.ports.get("socket") for process in plan.processes[-3:]] == [3001, 3002, 3003]
    taken = [port for process in plan.processes for port in process.ports.values()]
    assert len(taken) == len(set(taken))


def test_copies_of_presence_share_a_record_and_know_operators(tmp_path: Path) -> None:
    """In a file that is not the store's; what signs tickets is not for them."""
    plan = _plan(tmp_path, PRESENCES="2")
    copies = [process for process in plan.processes if process.role == "presence"]
    assert [process.name for process in copies] == ["presence", "presence2"]
    assert {process.environment["PRESENCE_SQLITE_PATH"] for process in copies} == {str(tmp_path / "presence.db")}
    gateway = plan.processes[-1].environment
    for name in ("ADMIN_TOKEN", "TOKEN_KEY_FILE", "TOKEN_ISSUER", "TOKEN_AUDIENCE"):
        assert all(process.environment[name] == gateway[name] for process in copies)
    assert not any("TICKET_SECRET" in process.environment for process in copies)


def test_gateways_share_their_secrets(tmp_path: Path) -> None:
    """A ticket of one is good at the other; no router sees them."""
    one, other = (process.environment for process in _plan(tmp_path).processes[-2:])
    for name in ("TICKET_SECRET", "ADMIN_TOKEN", "TOKEN_KEY_FILE", "TOKEN_ISSUER", "TOKEN_AUDIENCE"):
        assert one[name] == other[name]
    assert one["GATEWAY_ID"] != other["GATEWAY_ID"]
    assert "PUBLIC KEY" in Path(one["TOKEN_KEY_FILE"]).read_text()
    assert "TICKET_SECRET" not in _plan(tmp_path).processes[1].environment


def test_only_routers_can_tell_who_is_anonymous(tmp_path: Path) -> None:
    """They share what seals frames with gateways, and keep the rest."""
    _, one, other, presence, *gateways = (process.environment for process in _plan(tmp_path).processes)
    for name in ("CLUSTER_SECRET", "ANONYMITY_KEYS", "PSEUDONYM_SECRET"):
        assert one[name] == other[name] != ""
        assert name not in presence
    for gateway in gateways:
        assert gateway["CLUSTER_SECRET"] == one["CLUSTER_SECRET"]
        assert gateway.keys().isdisjoint({"ANONYMITY_KEYS", "PSEUDONYM_SECRET"})


def test_a_broker_that_runs_already_is_used(tmp_path: Path) -> None:
    """And none is started."""
    plan = _plan(tmp_path, REDIS_URL="redis://example.org:6379")
    assert {process.environment["REDIS_URL"] for process in plan.processes} == {"redis://example.org:6379"}
    assert "broker" not in [process.name for process in plan.processes]


def _plan(home: Path, **environ: str) -> Plan:
    settings = load(LocalSettings, {"DATA_DIR": str(home)} | environ)
    return make_plan(settings, {"PATH": "/bin"}, first_port=free_port())
