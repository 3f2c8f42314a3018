"""Others' messages while somebody attacks; `make hostile` runs all of it, in about four minutes.

    python -m loadtests.hostile                    every attack
    python -m loadtests.hostile events pings       some of them; printed, not written

The page goes to `docs/results/<date>-hostile.md`.
"""

import argparse
import asyncio
import inspect
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from libs.lifecycle import raise_file_limit
from loadtests.compare import machine, systems
from loadtests.compare.plan import sitters
from loadtests.fleet import Fleet, open_fleet
from loadtests.hostile import report
from loadtests.hostile.attacks import ATTACKS
from loadtests.hostile.report import Row
from loadtests.letters import pairs
from loadtests.phone import Person
from loadtests.processes import cpu_s, process_cpu_s, set_nice
from services.local.cluster import Cluster, open_cluster

_RESULTS: Final = Path(__file__).parent.parent.parent / "docs" / "results"
_READY_S: Final = 60.0
_OTHERS: Final = 200
_ATTACKERS: Final = [f"m{number}" for number in range(10)]
_RATE: Final = 200.0
_SECONDS: Final = 5.0
# The attack is under way by then.
_LEAD_S: Final = 1.5
_REST_S: Final = 0.5
_PATIENCE_S: Final = 30.0
# Other work on this machine is not to be taken for the attack: this is what is measured, where it may be said.
_NICE: Final = -10
_LOWEST: Final = 19
_A_BASELINE: Final = 2
# What the comparison raises for its own ends, as it is by default; and an origin that is the app's.
_LIMITS: Final = {
    "FRAMES_PER_S": "50",
    "FRAMES_BURST": "200",
    "CONNECTS_PER_MINUTE": "600",
    "SIGN_INS_PER_MINUTE": "300",
    "ALLOWED_ORIGINS": "https://app.talowa.example",
}


class Site:
    """A cluster, others' phones, and the attackers' tokens."""

    def __init__(self, cluster: Cluster, fleet: Fleet, people: list[Person], tokens: list[str]) -> None:
        # Of all but attackers; and theirs, which is lower.
        self.nice = max(set_nice(pid, _NICE) for pid in _own(cluster))
        self.attacker_nice = self.nice - _NICE if self.nice < 0 else _LOWEST
        self._cluster = cluster
        self._fleet = fleet
        self._letters = pairs(people)
        self._urls = list(dict.fromkeys(person.url for person in people))
        self._tokens = tokens
        self._gateways = {
            running.name: running.pid
            for running in cluster.state().processes
            if running.role == "gateway" and running.pid
        }

    async def alone(self) -> Row:
        """Others' messages, and nobody attacks."""
        return await self._measure("", "", None)

    async def beside(self, name: str) -> Row:
        """Others' messages during an attack."""
        what = " ".join((inspect.getdoc(ATTACKS[name]) or "").split())
        attacker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtests.hostile.attacks", name, ",".join(self._urls)),
            f"{_LEAD_S + _SECONDS + _REST_S:g}",
            str(self.attacker_nice),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert attacker.stdin is not None  # noqa: S101 - for the types
        attacker.stdin.write("\n".join(self._tokens).encode())
        attacker.stdin.close()
        before = {gateway: _begin_peak(pid) for gateway, pid in self._gateways.items()}
        did = b'{"given up on": 1}'
        try:
            await asyncio.sleep(_LEAD_S)
            row = await self._measure(name, what, attacker.pid)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    did, _ = await attacker.communicate()
        finally:
            with suppress(ProcessLookupError):
                attacker.kill()
        grown = max(_peak_kb(pid) - before[gateway] for gateway, pid in self._gateways.items())
        await asyncio.sleep(_REST_S)
        return msgspec.structs.replace(row, did=json.loads(did), grown_kb=grown)

    async def _measure(self, name: str, what: str, attacker: int | None) -> Row:
        cpu, began = cpu_s(self._cluster), time.perf_counter()
        attacked = process_cpu_s(attacker) if attacker else 0.0
        sending = asyncio.ensure_future(  # noqa: TID251 - looked at while it runs
            self._fleet.send(self._letters, _RATE, _SECONDS)
        )
        await asyncio.sleep(_SECONDS)
        took_s, used = time.perf_counter() - began, cpu_s(self._cluster)
        attacker_s = process_cpu_s(attacker) - attacked if attacker else 0.0
        return Row.of(
            name,
            what,
            await sending,
            gateway_percent=sum(used[each] - cpu[each] for each in self._gateways) / took_s * 100,
            attacker_percent=attacker_s / took_s * 100,
            grown_kb=0,
            seconds=_SECONDS,
        )


def _begin_peak(pid: int) -> int:
    """From now on the kernel notes the most memory it has in RAM (proc(5), clear_refs); what it has now, in KB."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return _peak_kb(pid)


def _peak_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])


async def measure(chosen: Sequence[str], home: Path) -> tuple[list[Row], tuple[int, int]]:
    """Each of these attacks, and the same messages alone before every few; the cluster's priority, and attackers'."""
    rows: list[Row] = []
    os.environ.update(_LIMITS)
    population = sitters(_OTHERS)
    population = msgspec.structs.replace(population, users=[*population.users, *_ATTACKERS])
    tokens = systems.Tokens(home / "keys")
    system = await systems.ours(home / "cluster", 2, population, tokens)
    async with open_cluster(home / "cluster", system.processes, _say) as cluster:
        for each in cluster.names:
            await cluster.start(each)
        for each in cluster.names:
            await cluster.wait_ready(each, _READY_S)
        async with open_fleet(1) as fleet:
            others = system.people[:_OTHERS]
            _say((await fleet.connect(others)).summary)
            site = Site(cluster, fleet, others, [tokens.of(name) for name in _ATTACKERS])
            await site.alone()  # what is done for the first time takes longer
            for number, name in enumerate(chosen):
                if number % _A_BASELINE == 0:
                    rows.append(await site.alone())
                    _tell(rows[-1])
                rows.append(await site.beside(name))
                _tell(rows[-1])
    return rows, (site.nice, site.attacker_nice)


def _own(cluster: Cluster) -> list[int]:
    """The cluster's processes, this one and its other children."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return [*(running.pid for running in cluster.state().processes if running.pid), os.getpid(), *map(int, children)]


def _tell(row: Row) -> None:
    _say(
        f"{row.name or 'nobody':20} p50 {row.p50_ms:g}, p99 {row.p99_ms:g} ms, {row.missing} missing, gateways "
        f"{row.gateway_percent:g} %, attacker {row.attacker_percent:g} %, grew {row.grown_kb} KB; {row.did}"
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> None:
    """Read the arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"some of {', '.join(ATTACKS)} (default: all)")
    given = parser.parse_args()
    if unknown := sorted(set(given.attacks) - set(ATTACKS)):
        parser.error(f"there is no {', '.join(unknown)}: choose of {', '.join(ATTACKS)}")
    raise_file_limit()
    load = os.getloadavg()[0]
    loop = uvloop.new_event_loop
    with tempfile.TemporaryDirectory(prefix="talowa-") as home, asyncio.Runner(loop_factory=loop) as runner:
        rows, nice = runner.run(measure(given.attacks or list(ATTACKS), Path(home)))
    facts = machine.machine()
    date = datetime.now(UTC).date().isoformat()
    versions = {name: found for name, found in machine.versions().items() if name != "Node" and "(npm)" not in name}
    command = " ".join(("python -m loadtests.hostile", *given.attacks))
    page = report.markdown(
        rows, date=date, command=command, machine=facts, versions=versions, rate=_RATE, nice=nice, load=load
    )
    if not given.attacks:
        _RESULTS.mkdir(exist_ok=True)
        (_RESULTS / f"{date}-hostile.md").write_text(page, encoding="utf-8")
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
