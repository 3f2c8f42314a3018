"""A picture of each dashboard's main panels, drawn from what a Prometheus has, by the panels' own expressions."""

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import aiohttp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from docs.dashboards.board import Board, Panel, Unit, settled
from docs.dashboards.boards import BOARDS

FOLDER: Final = Path(__file__).parents[1] / "pictures"
_STEP_S: Final = 5
# Scrapes are five seconds apart: three of them, and one to spare.
_WINDOW: Final = "20s"
_COLUMNS: Final = 2
# Lines that can be told apart; the highest are drawn.
_LINES_MAX: Final = 9
_SIZE_IN: Final = (5.6, 2.5)
_DPI: Final = 88
_SHADES: Final = 200
# Letters that a legend has room for beside each other.
_NAMES_IN_A_ROW: Final = 84
_COLORS: Final = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#c2185b", "#7f6000", "#17a2b8", "#555555", "#b0a000")
_BYTES: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1, "B"))
_BEFORE: Final[dict[Unit, str]] = {"currencyUSD": "$"}
_BEHIND: Final[dict[Unit, str]] = {"s": " s", "ops": "/s"}

# A line: its legend, and (seconds since the beginning, value) points.
Line = tuple[str, list[tuple[float, float]]]


async def draw(
    prometheus: str, begin_s: float, end_s: float, folder: Path = FOLDER, boards: Sequence[Board] = BOARDS
) -> list[Path]:
    """Draw them from a Prometheus at this address, over this time (since 1970); gives the files."""
    files = []
    async with aiohttp.ClientSession(prometheus) as session:
        for board in boards:
            panels = [panel for panel in board.panels if panel.main]
            lines = [await _lines(session, panel, begin_s, end_s) for panel in panels]
            files.append(folder / f"{board.name}.png")
            picture(board, panels, lines, end_s - begin_s, files[-1])
    return files


def picture(board: Board, panels: Sequence[Panel], lines: Sequence[Sequence[Line]], seconds: float, file: Path) -> None:
    """Draw one."""
    rows = -(-len(panels) // _COLUMNS)
    width, height = _SIZE_IN
    figure = Figure(figsize=(_COLUMNS * width, rows * height + 0.5), layout="constrained")
    figure.suptitle(board.title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    axes: list[Axes] = list(grid.flat)
    for axis, panel, of_panel in zip(axes, panels, lines, strict=False):
        _panel(axis, panel, of_panel, seconds)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    drawn = BytesIO()
    figure.savefig(drawn, dpi=_DPI)
    # A third of the size, and no difference that anybody sees.
    Image.open(drawn).convert("RGB").quantize(_SHADES).save(file, optimize=True)


def legend(pattern: str, labels: Mapping[str, str]) -> str:
    """A legend with its labels filled in."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), pattern).strip() or "all"


def told(value: float, unit: Unit) -> str:
    """A value, short enough for an axis."""
    if unit == "bytes":
        size, name = next((each for each in _BYTES if value >= each[0]), _BYTES[-1])
        return f"{value / size:g} {name}"
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s" and 0 < value < 1:
        return f"{value * 1000:g} ms"
    return f"{_BEFORE.get(unit, '')}{value:g}{_BEHIND.get(unit, '')}"


async def _lines(session: aiohttp.ClientSession, panel: Panel, begin_s: float, end_s: float) -> list[Line]:
    found: list[Line] = []
    for pattern, expression in panel.answers.items():
        asked: dict[str, str | float] = {
            "query": settled(expression, _WINDOW),
            "start": begin_s,
            "end": end_s,
            "step": _STEP_S,
        }
        async with session.get("/api/v1/query_range", params=asked) as response:
            answer: dict[str, Any] = await response.json()
        if answer["status"] != "success":
            raise ValueError(f"{panel.question}: {answer['error']}")
        for series in answer["data"]["result"]:
            points = [(at - begin_s, float(value)) for at, value in series["values"] if value != "NaN"]
            found.append((legend(pattern, series["metric"]), points))
    highest = sorted(found, key=lambda line: -max((value for _, value in line[1]), default=0))[:_LINES_MAX]
    return [line for line in found if line in highest]


def _panel(axis: Axes, panel: Panel, lines: Sequence[Line], seconds: float) -> None:
    axis.set_title(panel.question, fontsize=9.5, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlim(0, seconds)
    drawn = [line for line in lines if line[1]]
    if not drawn:
        axis.set_yticks([])
        axis.text(0.5, 0.5, "nothing of the kind here", transform=axis.transAxes, ha="center", fontsize=8)
    top = max((value for _, points in drawn for _, value in points), default=0)
    for (name, points), color in zip(drawn, _COLORS, strict=False):
        axis.plot(*zip(*points, strict=True), label=name, color=color, linewidth=1.3)
    if panel.fires_above is not None and top > panel.fires_above / 3:
        axis.axhline(panel.fires_above, color="#cc0000", linewidth=0.8, linestyle="--")
        top = max(top, panel.fires_above)
    axis.grid(visible=True, linewidth=0.4, color="#dddddd")
    axis.tick_params(labelsize=8)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:.0f} s"))
    if drawn:
        axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: told(round(value, 9), panel.unit)))
        # Room for the names above the lines.
        columns = max(1, min(3, _NAMES_IN_A_ROW // (6 + max(len(name) for name, _ in drawn))))
        axis.set_ylim(0, (1.12 + 0.11 * -(-len(drawn) // columns)) * top or 1)
        names = axis.legend(fontsize=7, loc="upper left", ncols=columns, frameon=False, handlelength=1.2)
        names.set_in_layout(False)
