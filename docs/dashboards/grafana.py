"""The dashboards as Grafana takes them, by its own builders. `python -m docs.dashboards.grafana` writes them.

`grafana-foundation-sdk` knows what Grafana's JSON is made of. All that is ours is where a panel stands: two in a row,
numbers narrow. Panels have the ids of their places and dashboards the uids of their names, so that a link stays good.
"""

from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos, Threshold, ThresholdsMode

from docs.dashboards.board import Board, Panel
from docs.dashboards.boards import BOARDS

FOLDER: Final = Path(__file__).parents[2] / "k8s" / "components" / "grafana"
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH: Final = 24
_HEIGHT: Final = 8
_UNITS: Final = {"bool": "bool_yes_no"}
# Red begins at its value, an alert above it: of what is to be 0, it is one.
_NOT_NONE: Final = 0.5
_TAGS: Final = ["talowa"]


def written(board: Board) -> str:
    """A dashboard's file."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.what)
        .tags(_TAGS)
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(dashboard.DashboardLink("TALOWA").tags(_TAGS).as_dropdown(True).keep_time(True))
    )
    x = y = 0
    for number, panel in enumerate(board.panels, start=1):
        width = _WIDTH // 4 if panel.kind == "number" else _WIDTH // 2
        if x + width > _WIDTH:
            x, y = 0, y + _HEIGHT
        made = made.with_panel(_panel(panel).id(number).grid_pos(GridPos(h=_HEIGHT, w=width, x=x, y=y)))
        x += width
    return JSONEncoder(indent=2, sort_keys=True).encode(made.build()) + "\n"


def _panel(panel: Panel) -> Any:  # the two builders share their methods, and no type
    built: Any = stat.Panel() if panel.kind == "number" else _lines()
    built = (
        built.title(panel.question)
        .description(f"Good: {panel.good}")
        .unit(_UNITS.get(panel.unit, panel.unit))
        .datasource(_SOURCE)
    )
    if panel.fires_above is not None:
        steps = [Threshold(value=None, color="green"), Threshold(value=panel.fires_above or _NOT_NONE, color="red")]
        built = built.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    for letter, (legend, expression) in zip("ABCDEFGH", panel.answers.items(), strict=False):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter).datasource(_SOURCE)
        built = built.with_target(query)
    return built


def _lines() -> timeseries.Panel:
    return (
        timeseries.Panel()
        .min(0)
        .line_width(1)
        .fill_opacity(5)
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.LINE))
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )


def main() -> None:
    """Write all of them."""
    for board in BOARDS:
        (FOLDER / f"{board.name}.json").write_text(written(board), encoding="utf-8")


if __name__ == "__main__":
    main()
