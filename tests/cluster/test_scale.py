"""`make scale`'s part that kills a gateway, with a few dozen phones: it ends well, and its books are true."""

from pathlib import Path
from typing import Final

from loadtests.scale import works
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
