"""As many sockets as this machine holds. `make scale` runs all of it, in about a quarter of an hour.

    python -m loadtests.scale                       all of it, and endure for two minutes
    python -m loadtests.scale endure --minutes 10   a part
    python -m loadtests.scale --quick               a look: hundreds of sockets; printed, not written

hold: 40,000 sockets on 4 gateways. growth: CPU of a message at 1 to 8 gateways and 500 to 20,000 sockets. failover: a
gateway with 10,000 sockets is killed. endure: 10,000 sockets on one gateway, for minutes. rolling: three gateways with
10,000 sockets are restarted, one after another. rebalance: a fourth is added to them. 500 messages a second in all.
Results go to `loadtests/results/<date>-scale.md` (`-rolling.md`) and `.json`, each part as it ends; a part that is run
again on the same day replaces what it found before.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from loadtests.compare import machine, systems
from loadtests.scale import plan, report, works
from loadtests.scale.plan import Size
from loadtests.scale.report import Part, Results
from loadtests.scale.stage import Stage
from services.local.claim import make_home

_RESULTS: Final = Path(__file__).parent.parent / "results"
# A token lives for an hour, and is made before anyone signs in.
_MOST_MINUTES: Final = 45.0


def _empty() -> Results:
    versions = {name: found for name, found in machine.versions().items() if name != "Node" and "(npm)" not in name}
    return Results(datetime.now(UTC).date().isoformat(), machine.machine(), versions, systems.RAISED, {})


def _write(results: Results, work: str) -> Path:
    """Add this part to those of the same page and day."""
    page, works_ = next((page, works_) for page, works_ in plan.PAGES.items() if work in works_)
    path = _RESULTS / f"{results.date}-{page}.json"
    parts = _before(path) | {work: results.parts[work]}
    ordered = {name: parts[name] for name in works_ if name in parts}
    whole = msgspec.structs.replace(results, parts=ordered)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
    path.with_suffix(".md").write_text(report.markdown(whole), encoding="utf-8")
    return path.with_suffix(".md")


def _before(path: Path) -> dict[str, Part]:
    """What was found before on the same day. What another version wrote is set aside, for nothing measured is lost."""
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results).parts
    except msgspec.DecodeError:
        aside = path.rename(path.with_suffix(".before.json"))
        sys.stderr.write(f"{path.name} is of another version, and is {aside.name} now\n")
        return {}


async def scale(chosen: Sequence[str], size: Size, home: Path, command: str, *, is_kept: bool) -> Results:
    """Do these works, one after another; with `is_kept`, what each found is written when it ends."""
    began, results = time.perf_counter(), _empty()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.perf_counter() - began:5.0f} s  {text}\n")

    stage = Stage(home, size, say)
    for name in chosen:
        say(f"{name}:")
        started = time.perf_counter()
        row = await works.WORKS[name](stage)
        part = Part(command, round(time.perf_counter() - started), row)
        results = msgspec.structs.replace(results, parts=results.parts | {name: part})
        if is_kept:
            say(f"written: {_write(results, name)}")
    return results


@contextmanager
def _home(keep: str | None) -> Iterator[Path]:
    if keep is not None:
        make_home(Path(keep))
        yield Path(keep).absolute()
    else:
        with tempfile.TemporaryDirectory(prefix="talowa-") as folder:
            yield Path(folder)


def main() -> None:
    """Read the arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"some of {', '.join(plan.WORKS)} (default: all)")
    parser.add_argument("--minutes", type=float, help="how long endure takes (default 2)")
    parser.add_argument("--quick", action="store_true", help="hundreds of sockets, a few seconds each")
    parser.add_argument("--keep", metavar="FOLDER", help="an empty folder where clusters leave their logs and stores")
    given = parser.parse_args()
    chosen = given.works or list(plan.WORKS)
    if unknown := sorted(set(chosen) - set(plan.WORKS)):
        parser.error(f"there is no {', '.join(unknown)}: choose of {', '.join(plan.WORKS)}")
    if given.minutes is not None and not 0 < given.minutes <= _MOST_MINUTES:
        parser.error(f"--minutes is more than 0, and at most {_MOST_MINUTES:g}: tokens live for an hour")
    size = plan.QUICK if given.quick else plan.WHOLE
    if given.minutes is not None:
        size = msgspec.structs.replace(size, endure_minutes=given.minutes)
    minutes = () if given.minutes is None else ("--minutes", f"{given.minutes:g}")
    command = " ".join(("python -m loadtests.scale", *given.works, *minutes, *(("--quick",) if given.quick else ())))
    with _home(given.keep) as home, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(scale(chosen, size, home, command, is_kept=not given.quick))
    sys.stdout.write(report.markdown(results))


if __name__ == "__main__":
    main()
