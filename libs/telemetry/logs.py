"""Structured logs: one JSON line an event, on standard error.

Lines carry ids (message, session, request), never content, tokens or names. An exception's words may be made of what
somebody said (`KeyError: …`, `invalid literal …`): a stack trace tells its type and where it was, and no more.
"""

import logging
import sys
import traceback
from types import TracebackType
from typing import Final, Literal

import structlog

# In the place of what an exception says.
_UNSAID: Final = "…"
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


_Info = tuple[type[BaseException], BaseException, TracebackType | None]


def trace(exc_info: _Info) -> str:
    """A stack trace without what its exceptions say."""
    told = traceback.TracebackException(*exc_info)
    _hush(told)
    return "".join(told.format()).rstrip("\n")


def _hush(told: traceback.TracebackException) -> None:
    told._str = _UNSAID  # type: ignore[attr-defined] # noqa: SLF001 - the standard library has no other way in
    told.__notes__ = None
    for further in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if further is not None:
            _hush(further)


def configure(service: str, instance: str, level: Level = "info") -> ErrorCount:
    """Set logging up for this process; `service` and `instance` stand in every line. Gives what counts the errors."""
    errors = ErrorCount()
    numeric = getattr(logging, level.upper())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        errors,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.ExceptionRenderer(trace),
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
