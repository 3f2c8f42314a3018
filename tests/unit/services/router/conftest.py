"""A real broker for what leans on its scripts, and a store in memory."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.broker import Broker, connect
from tests.support.broker import RunningBroker, live_broker
from tests.unit.services.router.fakes import FakeStore


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    """The embedded broker."""
    async with live_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest_asyncio.fixture
async def broker(server: RunningBroker) -> AsyncIterator[Broker]:
    """A client of an empty broker."""
    server.empty()
    async with connect(server.url) as commands:
        yield commands


@pytest.fixture
def store() -> FakeStore:
    """A store with some people in it."""
    return FakeStore()
