"""What tests of several kinds share, and start once."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.firestore import Emulator, running_emulator

# Nothing is asserted of time: the first text that is drawn on a machine takes a second, for the table of Unicode.
settings.register_profile("timeless", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("timeless")


@pytest.fixture(scope="session")
def firestore_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One for all tests: it takes seconds to start."""
    with running_emulator(tmp_path_factory.mktemp("firestore")) as emulator:
        yield emulator
