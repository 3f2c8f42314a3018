"""`make load`'s program: people on phones, on a cluster of its own, by way of 4G, and what it leaves behind."""

import asyncio
import csv
import os
import re
import sys
from pathlib import Path
from typing import Final

import pytest

_USERS: Final = 30
_RATE: Final = 30
# Time to come, to write for a while, and to drop a few times.
_SECONDS: Final = 5
_DEADLINE_S: Final = 60.0


async def _load(out: Path, *arguments: str) -> tuple[int, str]:
    """Run it to its end: its exit code, and what it said. DATA_DIR, if it needs one, is below `out`."""
    command = [sys.executable, "-m", "loadtests.load", "--out", str(out), *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"DATA_DIR": str(out / "data")},
    )
    try:
        async with asyncio.timeout(_DEADLINE_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_load_test_ends_well_and_leaves_its_figures(tmp_path: Path) -> None:
    """Two workers, flaky phones, groups and a broadcast: all that was sent arrived, CSV, report and summary say so."""
    code, said = await _load(
        tmp_path,
        *("--users", str(_USERS), "--rate", str(_RATE), "--time", f"{_SECONDS}s", "--profile", "4g"),
        *("--workers", "2", "--spawn", str(_USERS), "--drop-every", "3", "--broadcast-every", "1.5"),
    )
    assert code == 0, said
    with (tmp_path / "load_stats.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}
    for name in ("direct", "group of 50", "broadcast"):
        assert int(rows["send", name]["Request Count"]) > 0, said
        assert int(rows["deliver", name]["Request Count"]) > 0, said
    # There by one phone's link, and on by another's.
    assert float(rows["deliver", "direct"]["Min Response Time"]) >= 2 * (85 - 15), said
    assert float(rows["send", "direct"]["Min Response Time"]) >= 2 * (85 - 15), said
    assert int(rows["sign-in", "with a token"]["Request Count"]) == _USERS, said
    assert int(rows["sign-in", "with a ticket"]["Request Count"]) > 0, said
    assert all(row["Failure Count"] == "0" for row in rows.values()), said

    assert "deliver" in (tmp_path / "report.html").read_text(encoding="utf-8")
    verdict = re.search(r"sent ([\d,]+) · owed to recipients ([\d,]+) · lost 0 ", said)
    assert verdict is not None, said
    sends = sum(int(row["Request Count"]) for (what, _), row in rows.items() if what == "send")
    assert int(verdict[1].replace(",", "")) == sends, said
    assert "nothing failed" in said
    # As often as was asked for, from the moment that everyone is here.
    assert sends == pytest.approx(_RATE * _SECONDS, rel=0.5), said


async def test_a_load_test_that_nobody_came_to_has_failed(tmp_path: Path) -> None:
    """What listens here hangs up on everyone."""

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        code, said = await _load(tmp_path, "--url", url, "--users", "2", "--time", "1s", "--settle", "1")
    assert code == 1, said
    assert "FAILED: nothing was sent" in said
    assert "people not here in the end 2" in said


async def test_a_load_test_goes_to_this_machine_only(tmp_path: Path) -> None:
    """Before anything is sent, and with a way out."""
    code, said = await _load(tmp_path, "--url", "http://192.0.2.1:3001")
    assert code == 2
    assert "this machine only" in said
