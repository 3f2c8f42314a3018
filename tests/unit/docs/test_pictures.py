"""Pictures of the dashboards, and what Prometheus is told to look at."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from docs.dashboards import live, pictures
from docs.dashboards.board import Unit
from docs.dashboards.boards import BOARDS
from services.local.state import Running, State

_DOCS = pictures.FOLDER.parent
_PNG = b"\x89PNG\r\n\x1a\n"


def test_every_dashboard_has_its_picture_and_the_page_shows_it() -> None:
    """Small enough for a page that is read on a phone."""
    page = (_DOCS / "dashboards.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[([^]]+)\]\(pictures/(\w+)\.png\)", page)
    assert shown == [(board.title, board.name) for board in BOARDS]
    for board in BOARDS:
        file = pictures.FOLDER / f"{board.name}.png"
        assert file.read_bytes().startswith(_PNG)
        assert file.stat().st_size < 100_000
        assert board.uid in page


def test_every_dashboard_has_main_panels() -> None:
    """Some, and not so many that nobody sees any."""
    assert all(4 <= sum(panel.main for panel in board.panels) <= 8 for board in BOARDS)


def test_the_jobs_are_those_that_expressions_name() -> None:
    """A job for each kind of process, instances by their names; the broker has no port that Prometheus could read."""
    cluster = State(
        1,
        [
            Running("broker", "broker", "127.0.0.1", 2, {"redis": 6379}, "log"),
            Running("g1", "gateway", "127.0.0.1", 3, {"socket": 3001, "internal": 9101}, "log"),
            Running("r1", "router", "127.0.0.1", 4, {"internal": 9102}, "log"),
        ],
    )
    jobs = {job["job_name"]: job["static_configs"] for job in live.scraping(cluster)["scrape_configs"]}
    assert jobs == {
        "gateway": [{"targets": ["127.0.0.1:9101"], "labels": {"instance": "g1"}}],
        "router": [{"targets": ["127.0.0.1:9102"], "labels": {"instance": "r1"}}],
        "presence": [],
        "locust": [{"targets": ["127.0.0.1:9646"], "labels": {"instance": "locust"}}],
    }


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.025, "s", "25 ms"),
        (0, "s", "0 s"),
        (2.5, "s", "2.5 s"),
        (0.8, "percentunit", "80%"),
        (40, "ops", "40/s"),
        (1_500_000, "bytes", "1.5 MB"),
        (0, "bytes", "0 B"),
        (0.5, "currencyUSD", "$0.5"),
        (17, "short", "17"),
    ],
)
def test_values_are_short(value: float, unit: Unit, expected: str) -> None:
    """As on an axis."""
    assert pictures.told(value, unit) == expected


async def test_pictures_are_drawn_by_the_panels_own_expressions(tmp_path: Path) -> None:
    """Each main panel asks its own; a series without values, or a question without an answer, is drawn as nothing."""
    asked: list[str] = []
    some = (BOARDS[0], BOARDS[-1])

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.query["query"])
        values = [[1000 + 5 * n, str(n % 7)] for n in range(30)]
        series: list[Any] = [
            {"metric": {"instance": "g1"}, "values": values},
            {"metric": {}, "values": [[1000, "NaN"]]},
        ]
        return web.json_response({"status": "success", "data": {"result": series if len(asked) % 3 else []}})

    app = web.Application()
    app.router.add_get("/api/v1/query_range", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        files = await pictures.draw(f"http://127.0.0.1:{port}", 1000, 1150, tmp_path, some)
    finally:
        server.close()
        await runner.cleanup()
    assert [file.stem for file in files] == [board.name for board in some]
    assert all(file.read_bytes().startswith(_PNG) for file in files)
    main = [panel for board in some for panel in board.panels if panel.main]
    assert len(asked) == sum(len(panel.answers) for panel in main)
    assert not [query for query in asked if "$" in query]
