"""The cluster suite on every broker and in every topology: `python -m tests.support.matrix [PYTEST_ARGUMENTS]`.

`BROKER` and `TOPOLOGY` in the environment name a part (several by commas). Each cell runs by itself, one after the
other, so that they do not take each other's time. With STORE=firestore the record is on Google's emulator, and unless
they are named the broker is Valkey, alone. The table goes to docs/results, one file a day for each store: cells that
were not run this time keep their row. Exit 1 if a test failed, or a server is missing.
"""

import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final, NamedTuple

from tests.support import topologies

_RESULTS: Final = Path("docs/results")
_IS_ON_FIRESTORE: Final = os.environ.get("STORE") == "firestore"
_COMMAND: Final = "make topologies STORE=firestore" if _IS_ON_FIRESTORE else "make topologies"
_WHERE: Final = "on Google's Firestore emulator" if _IS_ON_FIRESTORE else "on each broker and topology"
# These have clusters of their own, on SQLite.
_OTHERS: Final = ("chaos", "load", "scale") if _IS_ON_FIRESTORE else ()
_TESTS: Final = ["tests/cluster", *(f"--ignore=tests/cluster/test_{name}.py" for name in _OTHERS)]
_HEAD: Final = "| broker | topology | passed | failed | skipped | minutes | at | tests | failures |"


class Cell(NamedTuple):
    """How the suite went on one server in one topology."""

    broker: str
    topology: str
    passed: int
    failures: list[str]
    skipped: int
    minutes: float
    tests: str
    at: str
    skips: dict[str, list[str]]

    @property
    def row(self) -> str:
        """As a line of the table."""
        failed = ", ".join(f"`{name}`" for name in self.failures) or "none"
        return (
            f"| {self.broker} | {self.topology} | {self.passed} | {len(self.failures)} | {self.skipped} "
            f"| {self.minutes:.1f} | {self.at} | {self.tests} | {failed} |"
        )


def main(arguments: list[str]) -> int:
    """Run the cells asked for; whether all went well."""
    kinds = topologies.servers()
    cells = []
    for name in _wanted("BROKER", list(kinds)):
        if kinds[name]() is None:
            print(f"{name}: there is no such server on this machine")  # noqa: T201 - a command prints
            return 1
        for topology in _wanted("TOPOLOGY", list(topologies.TOPOLOGIES)):
            cell = _run(name, topology, arguments)
            print(cell.row, flush=True)  # noqa: T201
            cells.append(cell)
            _write(cells)
    return int(any(cell.failures for cell in cells))


def _wanted(variable: str, every: list[str]) -> list[str]:
    asked = [word for word in os.environ.get(variable, "").split(",") if word]
    for word in asked:
        if word not in every:
            sys.exit(f"{variable}={word} is none of {', '.join(every)}.")
    return asked or (every[:1] if _IS_ON_FIRESTORE else every)


def _run(name: str, topology: str, arguments: list[str]) -> Cell:
    """Run a cell. What its processes wrote is kept if a test failed."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="talowa-cell-"))
    report = folder / "report.xml"
    files = [f"--junitxml={report}", f"--basetemp={folder / 'tests'}"]
    command = [sys.executable, "-m", "pytest", "-q", *files, *(arguments or _TESTS)]
    chosen = {"TALOWA_TEST_BROKER": name, "TALOWA_TEST_TOPOLOGY": topology}
    code = subprocess.run(command, env=os.environ | chosen, check=False).returncode
    minutes = (time.monotonic() - began) / 60
    if report.exists():
        cell = read(report, name, topology, minutes, " ".join(arguments) or "tests/cluster")
    else:
        cell = Cell(name, topology, 0, [f"pytest ended with {code}"], 0, minutes, "", _now(), {})
    if cell.failures:
        print(f"logs: {folder}")  # noqa: T201 - a command prints
    else:
        shutil.rmtree(folder)
    return cell


def read(report: Path, name: str, topology: str, minutes: float, tests: str) -> Cell:
    """A cell from what pytest wrote."""
    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - our own file
    failures = [_name(case) for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(failures) - skipped
    return Cell(name, topology, passed, failures, skipped, minutes, tests, _now(), _skips(cases))


def _skips(cases: list[ET.Element]) -> dict[str, list[str]]:
    """Which tests were skipped, by why."""
    found: dict[str, list[str]] = {}
    for case in cases:
        if (skipped := case.find("skipped")) is not None:
            found.setdefault(skipped.get("message") or "no reason", []).append(_name(case))
    return found


def _name(case: ET.Element) -> str:
    return f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"


def _now() -> str:
    return datetime.datetime.now().astimezone().strftime("%H:%M")


def _write(cells: list[Cell]) -> None:
    today = datetime.datetime.now().astimezone().date().isoformat()
    file = _RESULTS / f"{today}-{'firestore' if _IS_ON_FIRESTORE else 'topologies'}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = {(cell.broker, cell.topology): cell.row for cell in cells}
    for line in file.read_text().splitlines() if file.exists() else ():
        words = [word.strip() for word in line.strip("|").split("|")]
        if len(words) > 2 and words[0] in topologies.servers():
            rows.setdefault((words[0], words[1]), line)
    versions = [f"- {name}: {_version(path)}" for name, find in topologies.servers().items() if (path := find())]
    file.write_text(
        "\n".join(
            [
                f"# The cluster suite {_WHERE}, {today}",
                "",
                f"`{_COMMAND}`, on {os.cpu_count()} cores, shared with other work.",
                "A cell that is not in the table was not run.",
                "",
                *versions,
                "",
                _HEAD,
                "|---" * 9 + "|",
                *(rows[key] for key in sorted(rows)),
                "",
                *(
                    f"- skipped, for {why}: {', '.join(f'`{name}`' for name in tests)}"
                    for cell in cells
                    for why, tests in (cell.skips.items() if _IS_ON_FIRESTORE else ())
                ),
                *([""] if _IS_ON_FIRESTORE else []),
            ]
        )
    )


def _version(server: Path) -> str:
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout
    return said.partition(" sha=")[0].strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
