"""What tests on a real port share."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

import pytest
import structlog.testing
import uvloop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A gateway runs on uvloop where there is one: what depends on transports is tested on both."""
    if item.path.name == "test_websocket.py":
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged that anybody would have to look at: what a client does wrong is no error of ours."""
    with structlog.testing.capture_logs() as logs:
        yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING] == []
    assert logs == []
