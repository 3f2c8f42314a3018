"""What decides in `loadtests.scale`: what is lost, what fits, what memory does, and that misses are told."""

import json

import msgspec
import pytest

from loadtests.letters import pairs
from loadtests.phone import Person
from loadtests.scale import plan, report
from loadtests.scale.complaints import said
from loadtests.scale.figures import (
    Cell,
    Endure,
    Entry,
    Failover,
    Flow,
    Growth,
    Hold,
    Rebalanced,
    Restart,
    Rolling,
    Row,
    Sample,
    Spread,
    per_second,
    trend,
)
from loadtests.tallies import lost

_CPU = {"broker": 60.0, "gateway": 140.0}


def _people(count: int) -> list[Person]:
    return [Person(f"u{number}", f"http://g{number % 2 + 1}", "{}") for number in range(count)]


def _entry(wanted: int) -> Entry:
    return Entry(
        asked=wanted, wanted=wanted, signed_in=wanted, failed={}, took_s=5.0, cpu_ms={"gateway": 0.5}, client_cpu_ms=0.1
    )


def _flow(p99_ms: float = 50.0, missing: int = 0, lost: int = 0) -> Flow:
    return Flow(
        rate=500,
        sent=1000,
        answered=1000 - missing + lost,
        refused={"overloaded": missing - lost} if missing > lost else {},
        due=1000,
        arrived=1000 - missing,
        missing=missing,
        lost=lost,
        doubled=2,
        p50_ms=5.0,
        p99_ms=p99_ms,
        max_ms=200.0,
        cpu_us=_CPU,
        client_us=30.0,
        client_late_ms=1.0,
    )


def _samples(*gateway_mb: int) -> list[Sample]:
    return [Sample(10.0 * number, {"gateway": mb * 1024, "broker": 1024}) for number, mb in enumerate(gateway_mb)]


def _rows(*, is_well: bool) -> list[Row]:
    return [
        Hold(
            gateways=4,
            entry=_entry(40_000),
            kb={"gateway": 9.0},
            kb_after={"gateway": 9.5},
            idle_percent={"gateway": 3.0},
            flow=_flow() if is_well else _flow(missing=4, lost=1),
            signed_in_after=40_000 if is_well else 39_999,
            closed={} if is_well else {0: 1},
            complaints={},
        ),
        Growth(
            writers=500,
            cells=[
                Cell(
                    gateways=gateways,
                    entry=_entry(500),
                    idle_percent=4.0,
                    some=_flow(),
                    everyone=_flow() if is_well else _flow(missing=7),
                    complaints={"router warning: behind": 3},
                )
                for gateways in (1, 2)
            ],
        ),
        Failover(
            gateways=2,
            entry=_entry(12_000),
            on_it=10_000,
            back=10_000 if is_well else 9_990,
            back_p50_s=2.0,
            back_p99_s=9.0,
            all_back_s=12.5 if is_well else None,
            per_second=[0, 5000, 5000],
            turned_away={"timeout": 3},
            closed={0: 10_000},
            cpu_s={"g2": 6.0},
            client_cpu_s=1.0,
            flow=_flow(),
            complaints={"presence warning: gateway reaped": 1},
        ),
        Endure(
            minutes=10,
            entry=_entry(10_000),
            flow=_flow(99.0 if is_well else 101.0),
            samples=_samples(100, 100, 100, 100, 101, 101) if is_well else _samples(100, 100, 103, 103, 105, 105),
            signed_in_after=10_000,
            closed={},
            complaints={},
        ),
        Rolling(
            gateways=3,
            entry=_entry(10_000),
            heeds=0.5,
            bound_per_s=500,
            restarts=[Restart("g1", 3333, 8.5, 10.1)],
            took_s=70.0,
            back=15_000,
            signed_in_after=10_000 if is_well else 9_999,
            per_second=[0, 480, 500 if is_well else 501],
            turned_away={},
            closed={1012: 15_000},
            before=_flow(),
            flow=_flow(1500.0),
            complaints={},
        ),
        Rebalanced(
            gateways=4,
            entry=_entry(10_000),
            heeds=0.5,
            bound_per_s=100,
            rest_s=20.0,
            target=2500,
            excess=[834, 833, 833, 0],
            moved=9_000,
            even_s=90.0 if is_well else None,
            samples=[Spread(0.0, [3334, 3333, 3333, 0]), Spread(90.0, [2580, 2580, 2580, 2260 if is_well else 2249])],
            per_second=[0, 95],
            turned_away={},
            closed={1012: 9_000},
            before=_flow(),
            flow=_flow(),
            complaints={},
        ),
    ]


def test_what_was_answered_and_did_not_come_is_lost() -> None:
    """What nobody was told of is missing only; what came twice makes up for nothing."""
    owed, answered = [0, 1, 1, -1, 3], [1, 1, 0, 1, 1]
    assert lost(owed, answered) == 4
    assert lost([], []) == 0


def test_goals_that_are_missed_are_told() -> None:
    """All are met, or each is named with what was found."""
    well = report.outcomes(_rows(is_well=True))
    assert well
    assert all(each.is_met for each in well)
    ill = report.outcomes(_rows(is_well=False))
    missed = {each.what: each.value for each in ill if not each.is_met}
    assert not any(each.is_met for each in ill[: len(missed)]), "misses come first"
    assert list(missed.values()) == [
        "39,999",
        "1 lost; 4 missing, 3 refused, of 1,000",
        "9,990 of 10,000 back",
        "101.00 ms",
        "1.05",
        "501",
        "9,999",
        "2,580 · 2,580 · 2,580 · 2,249",
    ]


@pytest.mark.parametrize("is_well", [True, False])
def test_the_page_has_a_line_for_everything(is_well: bool) -> None:
    """Of every work, whatever it found; and the file beside it brings the same page."""
    parts = {
        type(row).__name__.lower(): report.Part("python -m loadtests.scale", 60, row) for row in _rows(is_well=is_well)
    }
    results = report.Results("2026-12-01", {"CPU": "a"}, {"Python": "3"}, {"TEXT_PER_MINUTE": "1"}, parts)
    page = report.markdown(results)
    assert ("**no**" in page) is not is_well
    for told in (
        "40,000 of 40,000 signed in with tokens in 5 s, 8,000 a second",
        "| 500 | 2 | 200 | 1.00 | broker 60 · gateway 140 | 200 |",
        "6 router warning: behind",
        "3 timeout | 10,000 without a code",
        "0 · 5,000 · 5,000",
        "| g1 | 3,333 | 8.5 | 10.1 |",
        "| 0 | 3,334 | 3,333 | 3,333 | 0 |",
    ):
        assert told in page
    assert report.markdown(msgspec.json.decode(msgspec.json.encode(results), type=report.Results)) == page
    moves = msgspec.structs.replace(results, parts={name: parts[name] for name in ("rolling", "rebalanced")})
    assert report.markdown(moves).startswith("# Gateways that go and come")
    for part in page.split("\n\n"):
        assert len({line.count("|") for line in part.splitlines() if line.startswith("|")}) <= 1, part


def test_sockets_that_do_not_fit_are_no_success() -> None:
    """The goal stays what was asked for, and a line says why it was missed."""
    (row, *_) = _rows(is_well=True)
    assert isinstance(row, Hold)
    row = msgspec.structs.replace(row, entry=msgspec.structs.replace(row.entry, wanted=9_600), signed_in_after=9_600)
    row = msgspec.structs.replace(row, entry=msgspec.structs.replace(row.entry, signed_in=9_600))
    assert [each.is_met for each in report.outcomes([row])] == [False, False, True]
    page = report.markdown(report.Results("2026-12-01", {}, {}, {}, {"hold": report.Part("", 1, row)}))
    assert "9,600 of 40,000 sockets fit" in page


def test_memory_is_compared_by_thirds() -> None:
    """The first with the last, whatever the middle did; the hour is reckoned from the time between them."""
    found = trend(_samples(100, 100, 300, 10, 104, 106), "gateway")
    assert (found.first_mb, found.last_mb) == (100, 105)
    assert found.mb_an_hour == pytest.approx(5 / 40 * 3600)
    assert found.ratio == pytest.approx(1.05)
    with pytest.raises(ValueError, match="2 samples"):
        trend(_samples(100, 101), "gateway")


def test_returns_are_counted_by_the_second() -> None:
    """Those after the last one are not made up."""
    assert per_second(0.0, [0.5, 1.0, 1.9, 3.2]) == [1, 2, 0, 1]
    assert per_second(0.0, []) == []


def test_no_gateway_gets_more_than_it_may_open() -> None:
    """Nor does a client process."""
    assert plan.fit(40_000, 4, 20_000) == 40_000
    assert plan.fit(20_000, 1, 20_000) == 19_600
    assert plan.client_processes(40_000, 20_000) == 4
    assert plan.client_processes(40_000, 4096) == 11
    assert plan.client_processes(100, 20_000) == 1


def test_writers_are_pairs_from_all_over() -> None:
    """As many as were asked for, and each is answered by the other; everyone, where there are no more."""
    people = _people(100)
    letters = plan.some_letters(people, 20)
    senders = [each.sender for each in letters]
    assert len(letters) == 20
    assert max(senders) >= 80
    assert {sender ^ 1 for sender in senders} == set(senders)
    assert plan.some_letters(people, 500) == pairs(people)


def test_the_crowded_gateway_has_pairs_of_both_kinds() -> None:
    """All others are paired with someone on it."""
    seated = plan.seat(_people(120), "http://g1", 100)
    assert sum(person.url == "http://g1" for person in seated) == 100
    assert all(seated[number ^ 1].url == "http://g1" for number in range(120) if seated[number].url == "http://g2")
    assert [person.uid for person in seated] == [person.uid for person in _people(120)]


def test_warnings_and_stack_traces_are_complaints() -> None:
    """What is told of is level and event, and no more of the line."""
    lines = [json.dumps({"level": level, "event": "e", "user": "u"}).encode() for level in ("info", "warning", "error")]
    assert list(said([*lines, b"Traceback\n"])) == ["warning: e", "error: e", "error: no line of JSON"]
