"""Under fire: a minute of faults breaks no promise, and a service that breaks one is found out (`tests.chaos`)."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.__main__ import run
from tests.chaos.network import Network
from tests.chaos.plan import GATEWAYS, ROUTERS, Fault
from tests.chaos.verdict import Verdict
from tests.support.load import tell

_DEADLINE_S: Final = 280.0
_SECONDS: Final = 60
_SEEDS: Final = (1,)

# What each promise is kept by is tried by a few faults that would break it.
_QUEUED_DIES: Final = [
    Fault(2.0, "store full", (), 7.0),
    Fault(5.0, "kill", ("r1",)),
    Fault(5.0, "kill", ("r2",)),
    Fault(5.0, "kill", ("r3",)),
]
# Two routers are about to save when they fall asleep, and wake up when a third has long said what they were to say.
_WAKES_UP_LATE: Final = [
    fault
    for start_s, sleepers in ((1.0, ("r1", "r2")), (11.0, ("r2", "r3")))
    for fault in (Fault(start_s, "store full", (), 1.2), Fault(start_s + 0.8, "pause two", sleepers, 7.0))
]
# A save that waits for its turn does not give up before its router sleeps.
_PATIENT: Final = {"STORE_PATIENCE_S": "10"}
_FALLS_BEHIND: Final = [
    *(Fault(2.0 + 5.0 * number, "pause", (gateway,), 4.0) for number, gateway in enumerate(GATEWAYS)),
]


@pytest.mark.timeout(_DEADLINE_S)
@pytest.mark.parametrize("seed", _SEEDS)
async def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path, seed: int) -> None:
    """Every kind of fault there is, a few at a time: the program that `make chaos` runs ends with 0."""
    out = tmp_path / "table.md"
    command = (sys.executable, "-m", "tests.chaos", "--seconds", str(_SECONDS), "--seed", str(seed))
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--out", str(out), "--keep", str(tmp_path / "cluster")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(os.environ),
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    tell(said.decode())
    assert process.returncode == 0, said.decode()
    assert "| lost | 0 |" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("faults", "mutant", "processes", "broken"),
    [
        (_QUEUED_DIES, "acknowledges_first", ROUTERS, {"lost", "doubled", "gaps", "went back"}),
        (_WAKES_UP_LATE, "no_fence", (*GATEWAYS, *ROUTERS), {"went back"}),
        (_FALLS_BEHIND, "trims_too_far", ROUTERS, {"stuck due"}),
    ],
    ids=["queued dies", "wakes up late", "falls behind"],
)
@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
async def test_a_promise_that_is_broken_is_found_out(
    tmp_path: Path, faults: list[Fault], mutant: str, processes: tuple[str, ...], broken: set[str], is_broken: bool
) -> None:
    """The same faults, with a service that breaks a promise and with none: the table turns red, or stays green."""
    found = await _run(tmp_path, faults, dict.fromkeys(processes, mutant) if is_broken else {})
    red = {name for name, those in found.promises.items() if those}
    if is_broken:
        assert red & broken, found.markdown()
    else:
        assert not red, "\n".join(found.findings())


async def _run(home: Path, faults: list[Fault], mutants: dict[str, str]) -> Verdict:
    """Run these faults on phones that stay where they are."""
    seconds = max(fault.over_at_s for fault in faults) + 1.0
    return await run(
        home,
        Network(),
        faults,
        seconds,
        1,
        0.5,
        mutants,
        are_calm=True,
        environment=_PATIENT,
        patience_s=10.0 if mutants else 30.0,
    )
