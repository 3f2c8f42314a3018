"""What was ever found, and a seed of every kind of input, again."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, watched

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_in_the_corpus_breaks_anything(name: str) -> None:
    """Each target has seeds, and holds on all of them, within its memory."""
    seeds = sorted((CORPUS / name).iterdir())
    assert seeds
    for seed in seeds:
        try:
            watched(TARGETS[name], seed.read_bytes())
        except Exception as error:  # noqa: BLE001 - which one of many is what matters
            pytest.fail(f"{seed.relative_to(CORPUS.parents[2])}: {error!r}")


def test_the_corpus_is_of_targets_that_there_are() -> None:
    """A folder without a target would be replayed by nobody."""
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
