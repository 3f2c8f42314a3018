"""The parts of `make scale` in which gateways go, with a few dozen phones: they end well, and their books are true."""

from pathlib import Path
from typing import Final

from loadtests.scale import moves, works
from loadtests.scale.plan import Size
from loadtests.scale.stage import Stage

_SIZE: Final = Size(rate=60, at_once=20, failover=60, failover_others=20, before_s=1.0, after_s=5.0)


async def test_everyone_on_a_killed_gateway_comes_back_and_nothing_is_lost(tmp_path: Path) -> None:
    """All sign in at the other gateway with their tickets, and what was written meanwhile arrives."""
    said: list[str] = []
    row = await works.failover(Stage(tmp_path, _SIZE, said.append))
    assert (row.entry.signed_in, row.on_it, row.back) == (80, 60, 60), said
    assert row.all_back_s is not None, said
    assert sum(row.per_second) == 60, said
    assert row.closed == {0: 60}, said
    assert row.flow.is_whole, said
    assert (row.flow.sent, row.flow.lost) == (360, 0), said
    assert "g1" not in row.cpu_s, said
    assert row.cpu_s["g2"] > 0, said


async def test_a_rolling_restart_of_all_gateways_brings_everyone_back_and_loses_nothing(tmp_path: Path) -> None:
    """Those that do as they are told, and those that do not; every restart is in the books."""
    said: list[str] = []
    size = Size(rate=60, at_once=20, rolling=60, rolling_before_s=1.0, drain_sign_ins_per_s=100)
    row = await moves.rolling(Stage(tmp_path, size, said.append))
    assert [each.gateway for each in row.restarts] == ["g1", "g2", "g3"], said
    assert (row.entry.signed_in, row.signed_in_after) == (60, 60), said
    assert row.closed == {1012: row.back}, said
    assert sum(row.per_second) == row.back >= 60, said
    assert row.flow.is_whole, said
    assert row.flow.lost == 0, said
