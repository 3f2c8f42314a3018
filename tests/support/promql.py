"""What an expression of PromQL reads: series and labels that exist, or do not."""

from collections.abc import Iterator
from typing import Final

import promql_parser

from docs import metrics
from docs.dashboards.board import settled
from loadtests.people.metrics import SERIES as LOCUST

_NAMES: Final = metrics.names() | LOCUST
# What Prometheus adds to all that it scrapes.
_TARGET: Final = {"instance", "job"}


def series(text: str) -> set[str]:
    """The names of all series that an expression reads. Raises `ValueError` for what is no PromQL."""
    return {selector.name or "" for selector in _selectors(promql_parser.parse(settled(text)))}


def grouped_by(text: str) -> set[str]:
    """All labels that something in it is summed by, or the like."""
    return {label for each in _aggregations(promql_parser.parse(settled(text))) for label in _by(each)}


def misnamed(text: str) -> list[str]:
    """Series and labels in an expression that nobody exports. Raises `ValueError` for what is no PromQL."""
    found = []
    expression = promql_parser.parse(settled(text))
    for selector in _selectors(expression):
        name = selector.name or ""
        labels = {*_NAMES.get(name, ()), *_TARGET}
        found += [] if name in _NAMES else [name]
        found += [matcher.name for matcher in selector.matchers.matchers if matcher.name not in labels]
    for aggregation in _aggregations(expression):
        read = [selector.name or "" for selector in _selectors(aggregation.expr)]
        labels = _TARGET.union(*(_NAMES.get(name, ()) for name in read))
        found += [label for label in _by(aggregation) if label not in labels]
    return found


def _selectors(expression: promql_parser.Expr) -> Iterator[promql_parser.VectorSelector]:
    """Every series that an expression reads."""
    match expression:
        case promql_parser.VectorSelector():
            yield expression
        case promql_parser.MatrixSelector():
            yield expression.vector_selector
        case promql_parser.BinaryExpr():
            yield from _selectors(expression.lhs)
            yield from _selectors(expression.rhs)
        case (
            promql_parser.AggregateExpr()
            | promql_parser.ParenExpr()
            | promql_parser.UnaryExpr()
            | promql_parser.SubqueryExpr()
        ):
            yield from _selectors(expression.expr)
        case promql_parser.Call():
            for argument in expression.args:
                yield from _selectors(argument)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:
            raise AssertionError(f"nobody has looked at {type(expression).__name__} yet")


def _aggregations(expression: promql_parser.Expr) -> Iterator[promql_parser.AggregateExpr]:
    """Every sum and the like in it."""
    match expression:
        case promql_parser.BinaryExpr():
            yield from _aggregations(expression.lhs)
            yield from _aggregations(expression.rhs)
        case promql_parser.AggregateExpr():
            yield expression
            yield from _aggregations(expression.expr)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            yield from _aggregations(expression.expr)
        case promql_parser.Call():
            for argument in expression.args:
                yield from _aggregations(argument)


def _by(aggregation: promql_parser.AggregateExpr) -> list[str]:
    return [] if aggregation.modifier is None else list(aggregation.modifier.labels)
