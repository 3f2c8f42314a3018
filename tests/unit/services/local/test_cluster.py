"""Processes come back when they die, stay down when that is asked, and leave nothing behind."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from libs.lifecycle import Unstartable
from services.local import state
from services.local.cluster import Cluster, NotReady, open_cluster
from tests.support.waiting import until
from tests.unit.services.local import fake_supervisor
from tests.unit.services.local.fakes import fake, free_port, say_nothing

READY_S = 10.0


class Watched:
    """A cluster of two, and what it said."""

    def __init__(self, cluster: Cluster, said: list[str]) -> None:
        self.cluster = cluster
        self.said = said


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    """A gateway that is started again and a router that is not, both ready."""
    said: list[str] = []
    processes = [fake("r1", free_port(), role="router", restarts=False), fake("g1", free_port())]
    async with open_cluster(tmp_path, processes, said.append) as cluster:
        for name in cluster.names:
            await cluster.start(name)
        for name in cluster.names:
            await cluster.wait_ready(name, READY_S)
        yield Watched(cluster, said)


async def test_a_process_that_dies_is_started_again_and_one_line_says_so(watched: Watched) -> None:
    """What died, of what, and when it comes back."""
    cluster = watched.cluster
    before = cluster.pid("g1")
    cluster.kill("g1", signal.SIGKILL)
    assert await cluster.wait_exit("g1", 5) == -signal.SIGKILL
    await cluster.wait_ready("g1", READY_S)
    assert cluster.pid("g1") not in (None, before)
    assert len(watched.said) == 1
    assert watched.said[0].startswith("g1 died (SIGKILL); it is started again in 0.5 s.")


async def test_one_that_is_not_to_come_back_stays_down_until_it_is_started(watched: Watched) -> None:
    """Tests decide themselves when a router returns."""
    cluster = watched.cluster
    cluster.kill("r1")
    await cluster.wait_exit("r1", 5)
    with pytest.raises(NotReady, match=r"r1 died \(SIGKILL\) before it was ready"):
        await cluster.wait_ready("r1", READY_S)
    assert cluster.pid("r1") is None
    assert await cluster.lacks("r1") == "it is down"
    await cluster.start("r1")
    await cluster.wait_ready("r1", READY_S)


async def test_starting_what_waits_to_be_started_again_starts_it_once(watched: Watched) -> None:
    """The wait is cut short, not doubled."""
    cluster = watched.cluster
    cluster.kill("g1")
    await until(lambda: watched.said, 5, "the line that says so")
    pid = await cluster.start("g1")
    await cluster.wait_ready("g1", READY_S)
    assert cluster.pid("g1") == pid
    with pytest.raises(ValueError, match="runs already"):
        await cluster.start("g1")


async def test_what_was_stopped_on_purpose_is_not_started_again(watched: Watched) -> None:
    """SIGTERM, and a clean exit."""
    await watched.cluster.stop("g1")
    assert await watched.cluster.wait_exit("g1", 1) == 0
    assert watched.cluster.pid("g1") is None
    assert watched.said == []


async def test_a_paused_process_can_be_stopped(watched: Watched) -> None:
    """It is woken, so that it hears of it."""
    watched.cluster.kill("g1", signal.SIGSTOP)
    await watched.cluster.stop("g1", within_s=READY_S)
    assert watched.said == []


async def test_the_state_file_says_what_runs_where(watched: Watched, tmp_path: Path) -> None:
    """For `talowa status`."""
    found = state.read(tmp_path)
    assert found is not None
    assert found.supervisor == os.getpid()
    assert {running.name: running.pid for running in found.processes} == {
        "r1": watched.cluster.pid("r1"),
        "g1": watched.cluster.pid("g1"),
    }


async def test_nothing_is_left_when_the_block_ends(tmp_path: Path) -> None:
    """No process, no state file."""
    async with open_cluster(tmp_path, [fake("g1", free_port())]) as cluster:
        pid = await cluster.start("g1")
    assert not _is_alive(pid)
    assert state.read(tmp_path) is None


async def test_what_does_not_listen_to_sigterm_is_killed(tmp_path: Path) -> None:
    """A second for good manners, then SIGKILL."""
    said: list[str] = []
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(open_cluster(tmp_path, [fake("g1", free_port())], said.append))
        pid = await cluster.start("g1")
        await cluster.wait_ready("g1", READY_S)
        await cluster.stop("g1", within_s=0)
        assert not _is_alive(pid)
    assert said == [f"g1 did not stop in time and was killed. Its log: {cluster.log('g1')}"]


async def test_a_wrong_setting_ends_the_cluster_with_the_services_own_words(tmp_path: Path) -> None:
    """Starting it again would not help."""
    pids: list[int] = []
    with pytest.raises(ExceptionGroup) as ended:
        await _run_with_a_wrong_setting(tmp_path, pids)
    assert ended.group_contains(Unstartable, match=r"g2 refused, .*: PORT=7 is no good")
    assert len(pids) == 2
    assert not any(_is_alive(pid) for pid in pids)


async def _run_with_a_wrong_setting(home: Path, pids: list[int]) -> None:
    async with open_cluster(home, [fake("g1", free_port()), fake("g2", 7, code=78)]) as cluster:
        pids += [await cluster.start(name) for name in cluster.names]
        await asyncio.Event().wait()


async def test_one_that_is_never_ready_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    """And where its log is."""
    async with open_cluster(tmp_path, [fake("g1", free_port(), code=3)], say_nothing) as cluster:
        await cluster.start("g1")
        with pytest.raises(NotReady, match=r"g1 was not ready after 0.3 s: .*logs/g1\.log"):
            await cluster.wait_ready("g1", 0.3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_processes_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL gives it no chance to stop anyone."""
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-m", fake_supervisor.__name__, str(tmp_path), str(free_port())
    )
    try:
        pid = await until(partial(_pid_in, tmp_path), READY_S, "the fake service")
    finally:
        supervisor.kill()
        await supervisor.wait()
    await until(lambda: not _is_alive(pid), 5, "the service's death")


def _pid_in(home: Path) -> int:
    found = state.read(home)
    return 0 if found is None else found.processes[0].pid or 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
