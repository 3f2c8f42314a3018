"""What a comparison says of its goals, and that it says it of the losing ones too."""

import msgspec
import pytest

from loadtests.compare import plan, report
from loadtests.compare.goals import GOALS, outcomes
from loadtests.compare.works import Messages, Rate, Row, Sockets
from loadtests.letters import group_letters
from loadtests.phone import Person


def _messages(system: str, work: str, cpu_us: float, missing: int = 0) -> Messages:
    return Messages(
        system=system,
        work=work,
        rate=800,
        sent=100,
        answered=99,
        refused={"rate_limited": 1},
        due=100,
        arrived=100 - missing,
        missing=missing,
        doubled=0,
        p50_ms=1.0,
        p99_ms=2.0,
        max_ms=3.0,
        cpu_us=cpu_us,
        cpu_us_by_role={"gateway": cpu_us - 10, "broker": 10.0},
        client_us=20.0,
        client_late_ms=1.0,
    )


def _sockets(system: str, last_ms: list[float], resume_cpu_ms: float | None) -> Sockets:
    return Sockets(
        system=system,
        work="sockets",
        sockets=10_000,
        failed={},
        sign_in_cpu_ms=0.9,
        sign_in_cpu_ms_by_role={"gateway": 0.9},
        sign_ins_per_s=900,
        resume_cpu_ms=resume_cpu_ms,
        resume_cpu_ms_by_role={},
        resumes_per_s=None if resume_cpu_ms is None else 1500,
        kb_per_socket=15.5,
        kb_per_socket_all=16.0,
        idle_cpu_percent=2.0,
        broadcast_last_ms=last_ms,
        broadcast_reached=[10_000 for _ in last_ms],
        broadcast_cpu_us=20.0,
        client_sign_in_cpu_ms=0.1,
    )


_ROWS: list[Row] = [
    _messages("ours-2", "direct-800", 600.0),
    _messages("node-2", "direct-800", 400.0, missing=3),
    Rate(system="ours-2", work="rate", held=5000, tried=[(5000, 200.0, True), (6000, 300.0, False)]),
    Rate(system="node-2", work="rate", held=2000, tried=[(2000, 20.0, True)]),
    _sockets("ours-1", [100.0, 90.0, 500.0], 0.4),
    _sockets("node-1", [110.0, 90.0, 100.0], None),
]


def test_every_goal_has_a_row() -> None:
    """Met, missed, or not measured: a ratio of two systems, the median of several, or a figure of ours."""
    found = {each.what: each for each in outcomes(_ROWS)}
    assert len(found) == len(GOALS)
    direct, *_, rate = found.values()
    assert (direct.value, direct.is_met) == ("1.50", False)
    assert (rate.value, rate.is_met) == ("2.50", True)
    by_value = {each.value: each.is_met for each in found.values()}
    assert by_value["1.00"] is True
    assert by_value["15.50 KB"] is True
    assert by_value["0.90 ms"] is False
    assert by_value["0.40 ms"] is True
    assert by_value[None] is None


def test_the_page_shows_what_was_lost() -> None:
    """Goals that are missed, messages that are missing, rates that were not held."""
    results = report.Results(
        "2026-01-01", "command", {"CPU": "x"}, {"Node": "20"}, 60, {"LIMIT": "1"}, outcomes(_ROWS), _ROWS
    )
    page = report.markdown(results)
    assert "| 1.50 | 600 / 400 | **no** |" in page
    assert "97, 3 missing" in page
    assert "99, 1 rate_limited" in page
    assert "6,000! (300)" in page
    tables = [line.count("|") for line in page.splitlines() if line.startswith("|")]
    assert min(tables) >= 4


def test_results_come_back_from_json() -> None:
    """Each row says of what kind it is."""
    results = report.Results("2026-01-01", "command", {}, {}, 60, {}, outcomes(_ROWS), _ROWS)
    assert msgspec.json.decode(msgspec.json.encode(results), type=report.Results) == results


def test_what_is_asked_for_by_name_is_done() -> None:
    """Systems alone do what they do by default, works alone are done by who does them, both are taken at the word."""
    assert plan.choose(plan.WHOLE, None, None) == {name: list(works) for name, works in plan.SYSTEMS.items()}
    assert plan.choose(plan.WHOLE, ["ours-8"], None) == {"ours-8": ["direct-800", "direct-2500"]}
    assert plan.choose(plan.WHOLE, None, ["rate"]) == {"node-2": ["rate"], "ours-2": ["rate"]}
    assert plan.choose(plan.WHOLE, ["ours-1"], ["rate"]) == {"ours-1": ["rate"]}
    with pytest.raises(ValueError, match="there is no ours-3"):
        plan.choose(plan.WHOLE, ["ours-3"], None)


@pytest.mark.parametrize("members", [50, 500])
def test_letters_go_to_groups_that_their_sender_is_in(members: int) -> None:
    """Everyone writes once in a round, and every group is as large as the letter says."""
    population = plan.talkers()
    letters = group_letters([Person(user, "", "") for user in population.users], members)
    assert sorted(letter.sender for letter in letters) == list(range(len(population.users)))
    for letter in letters:
        group = population.groups[letter.to.split('"')[3]]
        assert population.users[letter.sender] in group
        assert letter.copies == len(group) - 1 == members - 1
