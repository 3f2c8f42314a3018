"""What a started process has is not looked through again and again."""

import gc
from collections.abc import Iterator

import pytest

from libs import lifecycle


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector as it was, afterwards."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_what_a_started_process_has_is_left_alone() -> None:
    """What came before is out of the collector's sight; what goes in a circle after is still found."""
    frozen = gc.get_freeze_count()
    lifecycle.settle_memory()
    assert gc.get_freeze_count() > frozen
    assert gc.get_threshold() > (700, 10, 10)
    circle: list[object] = []
    circle.append(circle)
    del circle
    assert gc.collect() > 0
