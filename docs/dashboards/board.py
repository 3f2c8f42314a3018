"""What a dashboard is, whoever draws it: questions, and the expressions that answer them. Pure."""

from typing import Final, Literal

from msgspec import Struct

# Grafana puts its own in: four scrapes at least, more for long ranges.
WINDOW: Final = "$__rate_interval"

Unit = Literal["short", "s", "bytes", "percentunit", "ops", "currencyUSD", "bool"]


class Panel(Struct, frozen=True, kw_only=True):
    """A question, and its answer: expressions by their legends (`{{label}}` is filled in).

    `good` says what is to be seen when all is well. `main` panels are in the picture. `fires_above` draws the line of
    the alert.
    """

    question: str
    answers: dict[str, str]
    good: str
    unit: Unit = "short"
    kind: Literal["lines", "number"] = "lines"
    fires_above: float | None = None
    main: bool = False


class Board(Struct, frozen=True):
    """A dashboard. `name` is that of its file, and of its uid: `talowa-<name>`."""

    name: str
    title: str
    what: str
    panels: tuple[Panel, ...]

    @property
    def uid(self) -> str:
        """The same for ever: links lead to it."""
        return f"talowa-{self.name}"


def settled(expression: str, window: str = "1m") -> str:
    """An expression as Prometheus takes it, without what Grafana fills in."""
    return expression.replace(WINDOW, window)


def rate(series: str, *by: str, where: str = "") -> str:
    """How often a second, of all processes together, or by some labels."""
    return f"sum{_by(by)}(rate({series}{_where(where)}[{WINDOW}]))"


def quantile(part: float, series: str, *by: str, where: str = "") -> str:
    """What this part of all observations stayed under."""
    return f"histogram_quantile({part:g}, sum{_by(('le', *by))}(rate({series}_bucket{_where(where)}[{WINDOW}])))"


def total(series: str, *by: str, where: str = "") -> str:
    """The sum of a gauge."""
    return f"sum{_by(by)}({series}{_where(where)})"


def highest(series: str, *by: str, where: str = "") -> str:
    """The highest of a gauge: who exports it may be several, and say the same."""
    return f"max{_by(by)}({series}{_where(where)})"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


def _where(matchers: str) -> str:
    return f"{{{matchers}}}" if matchers else ""
