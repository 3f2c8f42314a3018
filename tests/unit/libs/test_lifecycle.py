"""What a started process has is not looked through again and again; what hangs leaves, and says why."""

import asyncio
import faulthandler
import gc
import resource
import sys
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


async def test_who_surrenders_leaves_as_if_told_to_and_fails_at_the_end() -> None:
    """Whoever is told to leave by a signal does not."""
    stop = asyncio.Event()
    surrender = lifecycle.Surrender(stop, 60.0)
    surrender.complete()
    assert not surrender.is_stopping
    try:
        surrender.begin("the reader hangs")
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert stop.is_set()
    with pytest.raises(lifecycle.GaveUp, match="the reader hangs"):
        surrender.complete()


async def test_who_surrenders_and_hangs_even_then_is_gone_in_time() -> None:
    """With the place where each thread was, and a code that has it started again."""
    script = """
import asyncio
from libs import lifecycle

async def main(stop):
    lifecycle.Surrender(stop, 0.2).begin("it hangs")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

lifecycle.run(main)
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"Timeout" in said


def test_the_soft_limit_of_open_files_is_lifted_to_the_hard_one() -> None:
    """As in a pod, where containerd gives 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        assert lifecycle.raise_file_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
