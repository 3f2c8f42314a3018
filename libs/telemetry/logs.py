"""Structured logs: one JSON line an event, on standard error.

Lines carry ids (message, session, request), never content, tokens or names.
"""

import logging
import sys
from typing import Literal

import structlog

Level = Literal["debug", "info", "warning", "error"]


class ErrorCount:
    """How many lines at error level this process has said."""

    def __init__(self) -> None:
        self.lines = 0

    def __call__(
        self, _: structlog.types.WrappedLogger, __: str, line: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        """See a line pass."""
        self.lines += line.get("level") in ("error", "critical")
        return line


def configure(service: str, instance: str, level: Level = "info") -> ErrorCount:
    """Set logging up for this process; `service` and `instance` stand in every line. Gives what counts the errors."""
    errors = ErrorCount()
    numeric = getattr(logging, level.upper())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        errors,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.EventRenamer("event"),
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)
    # Libraries log through the standard module; their warnings become JSON lines as well.
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
        foreign_pre_chain=shared,
    )
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(formatter)
    logging.basicConfig(handlers=[stream], level=max(numeric, logging.WARNING), force=True)
    return errors
