"""Whether another server answers than before: by what servers say of themselves as a connection begins."""

import pytest
from redis import exceptions

from libs.lives import Lives

NONE = "0" * 40


def said(run: str, replid: str, before: str = NONE, role: str = "master") -> bytes:
    """What INFO gives, with other lines around."""
    lines = ("# Server", f"run_id:{run}", "# Replication", f"role:{role}", f"master_replid:{replid}")
    return "\r\n".join((*lines, f"master_replid2:{before}", "")).encode()


def test_the_same_server_is_the_same_however_often_it_is_met() -> None:
    """Also the first time: nothing was lost with it."""
    lives = Lives()
    for _ in range(3):
        lives.meet(None, said("a", "1"))
    assert lives.changes == 0


def test_another_life_is_another_server() -> None:
    """Started again, or promoted after it was a replica for a while; each counts once."""
    lives = Lives()
    for number, life in enumerate([said("a", "1"), said("b", "2"), said("b", "3", "2")]):
        lives.meet(None, life)
        lives.meet(None, life)
        assert lives.changes == number


def test_a_replica_is_turned_away() -> None:
    """It would refuse what is written, and may be behind in what is read. It is not remembered."""
    lives = Lives()
    lives.meet(None, said("a", "1"))
    with pytest.raises(exceptions.ConnectionError, match="replica"):
        lives.meet(None, said("b", "1", role="slave"))
    lives.meet(None, said("a", "1"))
    assert lives.changes == 0


def test_a_node_is_an_heir_only_if_it_goes_on_with_a_history_that_was_met() -> None:
    """Slots that move to a new node, or to one that was promoted long ago, take along what they hold."""
    lives = Lives()
    lives.meet(("n", 1), said("a", "1"))
    lives.meet(("n", 2), said("b", "2"))
    lives.meet(("n", 3), said("c", "3", before="7"))
    assert lives.changes == 0
    lives.meet(("n", 4), said("d", "4", before="1"))
    assert lives.changes == 1


def test_a_server_that_is_loading_is_away_and_one_that_tells_nothing_is_taken_as_it_is() -> None:
    """INFO may be forbidden; a mistake of ours must not keep anybody out."""
    lives = Lives()
    with pytest.raises(exceptions.ConnectionError):
        lives.meet(None, exceptions.BusyLoadingError())
    for _ in range(2):
        lives.meet(None, exceptions.NoPermissionError("NOPERM"))
    assert lives.changes == 0
