"""What a log tells of a mistake: where it was and what kind, never what the exception says."""

import json
import subprocess
import sys
from typing import Final

from libs.telemetry import health, logs  # noqa: F401 - it says what is told of requests

_SAID: Final = "quince"
_SCRIPT: Final = f"""
import logging, structlog
from libs.telemetry import health, logs

logs.configure("gateway", "g1", "debug")

def fail():
    try:
        int("{_SAID}")
    except ValueError as error:
        found = KeyError("{_SAID}")
        found.add_note("{_SAID}")
        raise ExceptionGroup("{_SAID}", [found]) from error

try:
    fail()
except ExceptionGroup as error:
    structlog.get_logger().error("a frame could not be taken", error=type(error).__name__, exc_info=error)
    logging.getLogger("asyncio").error("never retrieved", exc_info=error)
    logging.getLogger("aiohttp.server").exception("Error handling request from %s", "{_SAID}")
"""


def test_a_stack_trace_tells_where_and_what_kind_and_nothing_that_was_said() -> None:
    """Of its causes, its notes and those it groups as well; in our lines and in those of libraries."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(lines) == 3
    assert _SAID not in done.stderr
    for line in lines:
        assert "in fail" in line["exception"]
        for kind in ("ExceptionGroup", "KeyError", "ValueError"):
            assert f"{kind}: …" in line["exception"]
    assert lines[2]["event"] == "a request could not be answered"


def test_a_trace_of_one_exception_is_as_python_writes_it() -> None:
    """But for its words."""
    try:
        raise LookupError(_SAID)
    except LookupError as error:
        told = logs.trace((type(error), error, error.__traceback__))
    assert told.startswith("Traceback (most recent call last):\n")
    assert told.endswith("\nLookupError: …")
