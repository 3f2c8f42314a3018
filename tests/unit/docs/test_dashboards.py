"""The dashboards: every panel asks something, and answers it by series that exist; the files are what is described."""

import json
import re
from collections.abc import Iterator
from typing import Final

import promql_parser
import pytest

from docs import metrics
from docs.dashboards import grafana
from docs.dashboards.board import Board, Panel, settled
from docs.dashboards.boards import BOARDS
from loadtests.people.metrics import SERIES as LOCUST

_NAMES: Final = metrics.names() | LOCUST
# What Prometheus adds to all that it scrapes.
_TARGET: Final = {"instance", "job"}
_PANELS: Final = [(board, panel) for board in BOARDS for panel in board.panels]
_TITLES: Final = {
    "Cluster at a glance",
    "A message's way",
    "Gateways",
    "Routers and streams",
    "Presence",
    "Cost of Google",
    "Load run",
}


def selectors(expression: promql_parser.Expr) -> Iterator[promql_parser.VectorSelector]:
    """Every series that an expression reads."""
    match expression:
        case promql_parser.VectorSelector():
            yield expression
        case promql_parser.MatrixSelector():
            yield expression.vector_selector
        case promql_parser.BinaryExpr():
            yield from selectors(expression.lhs)
            yield from selectors(expression.rhs)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from selectors(expression.expr)
        case promql_parser.Call():
            for argument in expression.args:
                yield from selectors(argument)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:
            raise AssertionError(f"nobody has looked at {type(expression).__name__} yet")


def aggregations(expression: promql_parser.Expr) -> Iterator[promql_parser.AggregateExpr]:
    """Every sum and the like in it."""
    match expression:
        case promql_parser.BinaryExpr():
            yield from aggregations(expression.lhs)
            yield from aggregations(expression.rhs)
        case promql_parser.AggregateExpr():
            yield expression
            yield from aggregations(expression.expr)
        case promql_parser.ParenExpr():
            yield from aggregations(expression.expr)
        case promql_parser.Call():
            for argument in expression.args:
                yield from aggregations(argument)


def misnamed(text: str) -> list[str]:
    """Series and labels in an expression that nobody exports. Raises `ValueError` for what is no PromQL."""
    found = []
    expression = promql_parser.parse(settled(text))
    for selector in selectors(expression):
        name = selector.name or ""
        labels = {*_NAMES.get(name, ()), *_TARGET}
        found += [] if name in _NAMES else [name]
        found += [matcher.name for matcher in selector.matchers.matchers if matcher.name not in labels]
    for aggregation in aggregations(expression):
        read = [selector.name or "" for selector in selectors(aggregation.expr)]
        labels = _TARGET.union(*(_NAMES.get(name, ()) for name in read))
        grouped = [] if aggregation.modifier is None else aggregation.modifier.labels
        found += [label for label in grouped if label not in labels]
    return found


def test_there_are_seven() -> None:
    """By their titles; files and uids by their names."""
    assert {board.title for board in BOARDS} == _TITLES
    assert len({board.uid for board in BOARDS}) == len(BOARDS)
    assert {file.stem for file in grafana.FOLDER.glob("*.json")} == {board.name for board in BOARDS}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_the_files_are_what_is_described(board: Board) -> None:
    """After a change of a panel: `make docs`."""
    assert (grafana.FOLDER / f"{board.name}.json").read_text(encoding="utf-8") == grafana.written(board)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_dashboard_works_with_any_prometheus(board: Board) -> None:
    """Its source is a variable, and every query asks that; panels do not lie on each other, and nothing is cut off."""
    made = json.loads(grafana.written(board))
    assert (made["uid"], made["title"]) == (board.uid, board.title)
    assert [(v["name"], v["type"], v["query"]) for v in made["templating"]["list"]] == [
        ("datasource", "datasource", "prometheus")
    ]
    taken: set[tuple[int, int]] = set()
    for panel, described in zip(made["panels"], board.panels, strict=True):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["expr"] for target in panel["targets"]] == list(described.answers.values())
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert taken.isdisjoint(cells)
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize(("board", "panel"), _PANELS, ids=[f"{b.name}: {p.question}" for b, p in _PANELS])
def test_a_panel_asks_and_is_answered_by_what_exists(board: Board, panel: Panel) -> None:
    """Its title is a question, it says what is good, every expression parses and names series and labels there are."""
    assert panel.question.endswith("?")
    assert panel.good.endswith(".")
    assert 1 <= len(panel.answers) <= 8
    for legend, expression in panel.answers.items():
        assert misnamed(expression) == [], board.name
        grouped = {label for each in aggregations(promql_parser.parse(settled(expression))) for label in _by(each)}
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped


def _by(aggregation: promql_parser.AggregateExpr) -> list[str]:
    return [] if aggregation.modifier is None else aggregation.modifier.labels


@pytest.mark.parametrize(
    "expression",
    [
        "sum(talowa_gateway_sokets)",
        'sum(talowa_gateway_sessions{user="asha"})',
        "sum by (code) (rate(talowa_gateway_events_total[1m]))",
        "histogram_quantile(0.9, sum by (le) (rate(talowa_redis_seconds[1m])))",
    ],
)
def test_what_does_not_exist_is_found(expression: str) -> None:
    """A series, a label that is asked for, one that is grouped by, a histogram without its buckets."""
    assert misnamed(expression)
