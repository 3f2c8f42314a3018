"""The dashboards: every panel asks something, and answers it by series that exist; the files are what is described."""

import json
import re
from typing import Final

import pytest

from docs.dashboards import grafana
from docs.dashboards.board import Board, Panel
from docs.dashboards.boards import BOARDS
from tests.support.promql import grouped_by, misnamed

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
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped_by(expression)


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
