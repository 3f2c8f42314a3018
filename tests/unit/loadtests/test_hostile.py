"""What decides in `loadtests.hostile`: what is compared with what, and that misses are told, the worst first."""

import inspect

import msgspec
import pytest

from loadtests.hostile import report
from loadtests.hostile.attacks import ATTACKS
from loadtests.hostile.report import Row
from loadtests.tallies import Sent


def _row(name: str, p99_ms: float, missing: int = 0) -> Row:
    sent = Sent(
        sent=100,
        answered=100,
        refused={},
        due=100,
        arrived=100 - missing,
        missing=missing,
        lost=missing,
        doubled=0,
        took_s=1.0,
        late_ms=1.0,
        own_cpu_s=0.1,
        times_ms=[p99_ms] * 100,
    )
    row = Row.of(
        name, f"what {name} is", sent, gateway_percent=12.0, attacker_percent=3.0, grown_kb=2048.0, seconds=5.0
    )
    return msgspec.structs.replace(row, did={"closed 1008": 3, "frames": 20_000} if name else {})


_ROWS = [_row("", 10), _row("a", 20), _row("b", 25, missing=2), _row("", 100), _row("c", 190), _row("d", 401)]


def test_an_attack_is_compared_with_the_run_before_it() -> None:
    """In which nobody attacked."""
    assert [report.before(_ROWS, number).p99_ms for number in (1, 2, 4, 5)] == [10, 10, 100, 100]


def test_misses_are_told_and_the_worst_first() -> None:
    """More than twice the p99 before, or anything missing."""
    assert report.misses(_ROWS) == [
        "d: p99 401 ms, 4.0 times that before",
        "b: p99 25 ms, 2.5 times that before",
        "b: 2 messages missing, 0 refused",
    ]
    assert report.misses(_ROWS[:2]) == []


@pytest.mark.parametrize(("rows", "outcome"), [(_ROWS, "**Missed by 3:**"), (_ROWS[:2], "Met by all.")])
def test_the_page_says_what_was_met_what_was_done_and_how(rows: list[Row], outcome: str) -> None:
    """Each attack with what it is, what it managed, and what others noticed."""
    machine = {"CPU": "a CPU", "cores": "2", "kernel": "6"}
    page = report.markdown(
        rows,
        date="2026-11-30",
        command="python -m loadtests.hostile",
        machine=machine,
        versions={"Python": "3"},
        rate=200.0,
        nice=(-10, 0),
        load=3.14,
    )
    assert outcome in page
    assert "| a | 20 | 20 | 2.00 | 0 | 0 | 12 | 3 | 2,048 | 20,000 frames, 3 closed 1008 |" in page
    assert "| a | what a is |" in page
    assert "at nice -10, attackers at 0" in page


def test_every_attack_says_what_it_is() -> None:
    """On the page, in a sentence."""
    for name, attack in ATTACKS.items():
        assert (inspect.getdoc(attack) or "").endswith("."), name
