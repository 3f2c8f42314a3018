"""What tests of several kinds share, and start once."""

from collections.abc import Iterator

import pytest

from tests.support.firestore import Emulator, running_emulator


@pytest.fixture(scope="session")
def firestore_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One for all tests: it takes seconds to start."""
    with running_emulator(tmp_path_factory.mktemp("firestore")) as emulator:
        yield emulator
