"""`make load`: a cluster, links, people, locust, and what came of it.

    python -m loadtests.load --users 2000 --rate 20 --time 5m --profile 3g

Starts a cluster of its own on free ports, in a folder that it removes: embedded broker, SQLite store with fsync, 2
gateways, 2 routers, presence. With --url it loads one that runs already, on this DATA_DIR: people and their tokens are
made there. Then locust plays the people in worker processes (`loadtests/locustfile.py`), by way of slow links
if a profile is named (`loadtests/links.py`). Load only ever goes to this machine. Exits with 1 if something that was
answered as sent did not arrive.
"""

import argparse
import asyncio
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import uvloop
from msgspec import Struct

from libs import lifecycle
from libs.lifecycle import Unstartable
from libs.settings import load
from loadtests.links import PROFILES, Address, open_lines
from loadtests.people.village import Village, village_for
from services.local import people
from services.local.claim import make_home, taking_turns
from services.local.cluster import Cluster, open_cluster
from services.local.issuer import Issuer
from services.local.keyring import Keyring
from services.local.plan import make_plan
from services.local.ports import free
from services.local.settings import LocalSettings
from services.router.sqlite import open_store

_HOST: Final = "127.0.0.1"
_ROOT: Final = Path(__file__).resolve().parent.parent
_READY_S: Final = 60.0
_STORE_PATIENCE_S: Final = 30.0
# Tokens outlive the test, ramp, settling and all.
_TOKEN_SPARE_S: Final = 3600
# All people come within this, or within a quarter of the test.
_RAMP_S: Final = 30
# Locust sums up and ends its workers within seconds.
_STOP_S: Final = 15.0
_INTERRUPTED: Final = 130  # what a shell reports for Ctrl-C
_TICKS: Final = os.sysconf("SC_CLK_TCK")
# All phones have one address here, and write as often as RATE says; both are counted as in production. The environment
# may set limits again.
_LIMITS: Final = {
    "CONNECTS_PER_MINUTE": "0",
    "SIGN_INS_PER_MINUTE": "0",
    "TEXT_PER_MINUTE": "100000",
    "TYPING_PER_MINUTE": "10000",
    "EMERGENCY_PER_MINUTE": "100000",
}


class Target(Struct, frozen=True):
    """Where the people connect, and where their tokens and the store are."""

    gateways: list[Address]
    settings: LocalSettings
    cluster: Cluster | None = None


async def run(given: argparse.Namespace) -> int:
    """Load, and tell; the exit code."""
    # Ctrl-C is the runner's; either way everything that was started is stopped.
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="talowa-load-")))
        target = (
            await _running(given.url) if given.url else await stack.enter_async_context(_cluster(private / "cluster"))
        )
        village = village_for(given.users, given.workers)
        await _settle(village, target.settings)
        tokens = private / "tokens"
        _write_tokens(tokens, village, target.settings, given.seconds)
        addresses = target.gateways
        if given.profile:
            lifecycle.raise_file_limit()
            addresses = await stack.enter_async_context(open_lines(PROFILES[given.profile], addresses))
        out = _folder(given)
        cpu_from, own_from, began = _cpu_s(target.cluster), time.process_time(), time.monotonic()
        code = await _locust(given, addresses, tokens, out)
        took, cpu = time.monotonic() - began, _cpu_s(target.cluster)
        cpu.subtract(cpu_from)
        shares = [f"{role} {seconds / took:.0%}" for role, seconds in sorted(cpu.items())]
        if given.profile:
            shares.append(f"the links {(time.process_time() - own_from) / took:.0%}")
    if shares:
        sys.stdout.write(f"server, of a core: {' · '.join(shares)}\n")
    sys.stdout.write(f"report: {out / 'report.html'}\n")
    return code


@asynccontextmanager
async def _cluster(home: Path) -> AsyncIterator[Target]:
    """A cluster that is ready."""
    settings = LocalSettings(data_dir=str(home), websocket_port=free(2, _HOST, start=26_000)[0])
    plan = make_plan(settings, _LIMITS | dict(os.environ) | {"STORE": "sqlite"}, first_port=26_100)
    async with open_cluster(home, plan.processes) as cluster:
        for name in cluster.names:
            await cluster.start(name)
        for name in cluster.names:
            await cluster.wait_ready(name, _READY_S)
        yield Target([(_HOST, port) for port in settings.websocket_ports], settings, cluster)


async def _running(urls: str) -> Target:
    """The cluster at these URLs. Raises `Unstartable` if one is not of this machine, or nobody is there."""
    gateways = []
    for url in urls.split(","):
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        if parts.scheme != "http" or not _is_this_machine(host):
            raise Unstartable(
                f"URL={url}: load goes to this machine only. Name http://127.0.0.1:PORT, or several with commas."
            )
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            raise Unstartable(f"URL={url}: nothing listens there. Start a cluster with `make up`.") from error
        writer.close()
        gateways.append((host, port))
    return Target(gateways, load(LocalSettings))


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def _settle(village: Village, settings: LocalSettings) -> None:
    """Users and groups, in the store."""
    file = people.parse(msgspec.json.encode(village.document()))
    make_home(settings.home)
    with taking_turns(settings.home):
        async with open_store(settings.database, patience_s=_STORE_PATIENCE_S) as store:
            await people.put_users(store, file.users)
            await people.put_groups(store, file.groups)


def _write_tokens(path: Path, village: Village, settings: LocalSettings, seconds: int) -> None:
    """One a line, for its owner only."""
    issuer = Issuer(Keyring(settings.home).signing_key())
    users = (village.person(number) for number in range(1, village.size + 1))
    path.touch(mode=0o600)
    path.write_text("\n".join(issuer.token(user, ttl_s=seconds + _TOKEN_SPARE_S) for user in users), encoding="ascii")


async def _locust(given: argparse.Namespace, gateways: Sequence[Address], tokens: Path, out: Path) -> int:
    """Master and workers, until they are done."""
    port = str(free(1, _HOST, start=26_300)[0])
    command = [
        *(sys.executable, "-m", "locust", "-f", str(_ROOT / "loadtests" / "locustfile.py")),
        *("--headless", "--only-summary", "--loglevel", "WARNING", "--processes", str(given.workers)),
        *("--master-bind-host", _HOST, "--master-bind-port", port, "--master-port", port),
        *(
            "--users",
            str(given.users),
            "--spawn-rate",
            str(given.spawn or given.users / min(_RAMP_S, given.seconds / 4)),
        ),
        *("--run-time", f"{given.seconds}s", "--rate", str(given.rate), "--settle", str(given.settle)),
        *("--drop-every", str(given.drop_every), "--broadcast-every", str(given.broadcast_every)),
        *("--host", ",".join(f"http://{host}:{port}" for host, port in gateways), "--tokens", str(tokens)),
        *("--metrics-port", str(given.metrics_port)),
        *("--csv", str(out / "load"), "--csv-full-history", "--html", str(out / "report.html")),
        *("--json-file", str(out / "load")),
    ]
    # In a session of its own: Ctrl-C reaches only us, and the master hears of it once, as it can take it.
    process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, start_new_session=True)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), _STOP_S)
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)


def _cpu_s(cluster: Cluster | None) -> Counter[str]:
    """CPU seconds, user and system, of the processes of the cluster so far, by role."""
    used: Counter[str] = Counter()
    for running in cluster.state().processes if cluster is not None else ():
        if running.pid is None:  # somebody has killed it just now
            continue
        stat = Path(f"/proc/{running.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        used[running.role] += (int(fields[11]) + int(fields[12])) / _TICKS  # type: ignore[assignment]
    return used


def _folder(given: argparse.Namespace) -> Path:
    """Where the report goes: as told, or a folder named for the test."""
    now = datetime.now().astimezone()
    name = f"{now:%Y-%m-%d-%H%M%S}-{given.users}-users-{given.rate:g}-a-second{given.profile and f'-{given.profile}'}"
    out = Path(given.out or _ROOT / "loadtests" / "results" / "load" / name).absolute()
    out.mkdir(parents=True, exist_ok=True)
    return out


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)([smh]?)", text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time, such as 90s, 5m or 1h.")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def main() -> None:
    """Read the arguments, load, exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=300, help="how many people (default 300)")
    parser.add_argument("--rate", type=float, default=20, help="messages a second, of all together (default 20)")
    parser.add_argument("--time", dest="seconds", type=_seconds, default=60, help="how long, as 90s or 5m (default 1m)")
    parser.add_argument(
        "--profile", choices=sorted(PROFILES), default="", help="their links (default: this machine's own)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that play people (default 2)")
    parser.add_argument("--spawn", type=float, help="people who come a second (default: all in 30 s)")
    parser.add_argument("--url", help="gateways of a cluster that runs, with ',' between (default: one of its own)")
    parser.add_argument("--settle", type=float, default=30, help="seconds to wait for what is on its way in the end")
    parser.add_argument("--drop-every", type=float, default=60, help="seconds between two drops of a flaky phone")
    parser.add_argument("--broadcast-every", type=float, default=30, help="seconds between two emergency broadcasts")
    parser.add_argument("--metrics-port", type=int, default=0, help="serve what locust counts to Prometheus, there")
    parser.add_argument("--out", help="folder for CSV and report (default: a dated one in loadtests/results/load)")
    given = parser.parse_args()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sys.exit(runner.run(run(given)))
    except Unstartable as error:
        parser.error(str(error))
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
