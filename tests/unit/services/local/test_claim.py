"""What is in the way of a second cluster is named: who holds the folder, who holds the port."""

import os
import socket
from pathlib import Path

import pytest

from libs.lifecycle import Unstartable
from services.local import ports
from services.local.claim import claimed
from tests.unit.services.local.fakes import free_port


def test_a_second_cluster_on_a_folder_is_told_who_has_it(tmp_path: Path) -> None:
    """The pid to stop, and the other way out."""
    with (
        claimed(tmp_path / "home"),
        pytest.raises(Unstartable, match=f"in use by the cluster with pid {os.getpid()}.*another DATA_DIR"),
        claimed(tmp_path / "home"),
    ):
        pass


def test_a_folder_is_free_again_when_its_cluster_has_gone(tmp_path: Path) -> None:
    """Nothing is left to clean up."""
    with claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Not a stack trace."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Unstartable, match=r"DATA_DIR=.*file/home: Not a directory"),
        claimed(tmp_path / "file" / "home"),
    ):
        pass


def test_a_port_in_use_is_named_with_its_holder() -> None:
    """Before anything starts. Where /proc tells it, with the process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        by = rf" by .* \(pid {os.getpid()}\)" if Path("/proc/net/tcp").exists() else ""
        with pytest.raises(Unstartable, match=rf"port {port} is in use{by}\. Stop what holds it.*WEBSOCKET_PORT"):
            ports.must_be_free("127.0.0.1", [free_port(), port])


def test_an_address_of_another_machine_is_named() -> None:
    """It is not the port that is wrong."""
    with pytest.raises(Unstartable, match=r"WEBSOCKET_HOST=192\.0\.2\.1"):
        ports.must_be_free("192.0.2.1", [free_port()])


def test_free_ports_are_distinct_and_leave_out_what_is_taken() -> None:
    """The gateways' own ports are not listened on yet, but are not free."""
    taken = ports.free(2, "127.0.0.1")
    found = ports.free(3, "127.0.0.1", taken=taken)
    assert len(set(found)) == 3
    assert not set(found) & set(taken)
