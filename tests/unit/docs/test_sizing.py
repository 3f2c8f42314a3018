"""The tables under *Sizing* in `docs/operations.md` are what follows from their inputs."""

import re
from pathlib import Path

import pytest

from docs import sizing
from docs.sizing import CHOSEN, DAILY, MEASURED, MONEY, PODS, SOCKETS, Input, Step, bill, reckoned

_PAGE = sizing.PAGE.read_text(encoding="utf-8")
_BILL = bill(sizing.PAGE.with_name("firestore.md").read_text(encoding="utf-8"))


def _plan(sockets: float, **changed: float) -> dict[str, float]:
    """With some inputs changed."""
    inputs = [one._replace(value=changed.get(one.name, one.value)) for one in (*MEASURED, *CHOSEN)]
    return reckoned(DAILY, MONEY, reckoned(inputs, PODS, {"sockets": sockets}) | _BILL)


def test_the_tables_are_what_is_reckoned_now() -> None:
    """After a change of an input, or of what Firestore costs: `make docs`."""
    assert sizing.written(_PAGE) == _PAGE


def test_every_input_is_used_and_no_name_stands_for_two() -> None:
    """A figure that nothing follows from tells nothing."""
    names = [one.name for one in (*MEASURED, *CHOSEN, *DAILY)] + [step.name for step in (*PODS, *MONEY)]
    assert len(set(names)) == len(names)
    formulas = " ".join(step.formula for step in (*PODS, *MONEY))
    said = " ".join(step.what for step in (*PODS, *MONEY))
    unused = [one.name for one in (*MEASURED, *CHOSEN, *DAILY) if not re.search(rf"\b{one.name}\b", formulas)]
    assert [name for name in unused if f"`{name}`" not in said] == []


def test_every_source_is_there() -> None:
    """Whoever doubts a figure finds where it was measured."""
    for one in MEASURED:
        path = one.source.partition("](")[2].partition(")")[0].partition("#")[0]
        assert path, one
        assert (Path(sizing.PAGE.parent) / path).resolve().is_file(), one


@pytest.mark.parametrize("sockets", SOCKETS)
def test_a_lost_zone_leaves_room(sockets: int) -> None:
    """What the gateways of two zones hold then was tried on one, and is as much as presence and pushes bear."""
    plan = _plan(sockets)
    assert plan["sockets_zone_lost"] < plan["most_sockets"]
    assert plan["presences"] <= 8
    assert plan["routers"] <= plan["partitions"] / 2


def test_what_is_planned_for_an_evening_is_within_what_firebase_takes() -> None:
    """Else somebody has to ask for more."""
    plan = _plan(SOCKETS[0])
    assert plan["pushes_per_min"] < plan["pushes_quota"]


def test_another_input_gives_another_plan() -> None:
    """Twice the sockets a gateway are half the gateways; a row that Firestore's page does not have is missed."""
    assert _plan(250_000, per_gateway=16_000)["gateways"] == 16
    assert reckoned([Input("a", 2, "", "")], [Step("b", "ceil(a * c)", "")], {"c": 1.2})["b"] == 3
    with pytest.raises(NameError):
        reckoned([], [Step("b", "a", "")], {})
    with pytest.raises(KeyError):
        bill("| a message | 1 | 2 |")
    with pytest.raises(ValueError, match=r"docs/sizing\.py"):
        sizing.written("# Operations\n")
