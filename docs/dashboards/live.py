"""`make dashboards`: Prometheus beside a cluster that `make up` runs, Grafana if it is there, and pictures.

    python -m docs.dashboards.live                              until Ctrl-C
    python -m docs.dashboards.live --seconds 180 --pictures     then docs/pictures/*.png, from what it has seen

Prometheus (Debian: `prometheus`) scrapes the internal ports that the cluster's state file names, every five seconds,
and what `python -m loadtests.load --url … --metrics-port 9646` serves; docs/alerts.yml are its rules. What it keeps is
in a folder that goes with it.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from docs.dashboards import grafana, pictures
from libs.lifecycle import Unstartable
from libs.settings import load
from services.local import state
from services.local.ports import free
from services.local.settings import LocalSettings
from services.local.state import State

_HOST: Final = "127.0.0.1"
_DOCS: Final = Path(__file__).parents[1]
LOCUST_PORT: Final = 9646
_SCRAPE_S: Final = 5
# Where packages put what it serves; others know it by themselves.
_GRAFANA_HOME: Final = Path("/usr/share/grafana")
_HAS_HOME: Final = _GRAFANA_HOME.is_dir()
_READY_S: Final = 30.0
_STOP_S: Final = 5.0
_NO_GRAFANA: Final = (
    "grafana   not here: no `grafana-server` on the PATH. Grafana's package (apt.grafana.com, about 200 MB to load and "
    "700 MB on the disk) would show k8s/components/grafana/*.json; --pictures draws their main panels without it."
)


def scraping(cluster: State, locust_port: int = LOCUST_PORT) -> dict[str, Any]:
    """Prometheus' configuration for a cluster: a job for each kind of process, instances by their names."""
    jobs = []
    for role in ("gateway", "router", "presence"):
        processes = [each for each in cluster.processes if each.role == role]
        targets = [
            {"targets": [f"{each.host}:{each.ports['internal']}"], "labels": {"instance": each.name}}
            for each in processes
        ]
        jobs.append({"job_name": role, "static_configs": targets})
    locust = {"targets": [f"{_HOST}:{locust_port}"], "labels": {"instance": "locust"}}
    jobs.append({"job_name": "locust", "static_configs": [locust]})
    return {
        "global": {"scrape_interval": f"{_SCRAPE_S}s", "evaluation_interval": f"{_SCRAPE_S}s"},
        "rule_files": [str(_DOCS / "alerts.yml")],
        "scrape_configs": jobs,
    }


async def run(seconds: float | None, *, draws: bool) -> None:
    """Run them until it is time. Raises `Unstartable` for what is missing."""
    program = shutil.which("prometheus")
    if program is None:
        raise Unstartable("prometheus is not installed (Debian: apt-get install prometheus): nothing would be kept.")
    home = load(LocalSettings).home
    cluster = state.read(home)
    if cluster is None:
        raise Unstartable(f"nothing runs on {home}. Start a cluster with `make up` in another terminal.")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="talowa-dashboards-")))
        port, grafana_port = free(2, _HOST, start=LOCUST_PORT + 1)
        url = f"http://{_HOST}:{port}"
        settings = folder / "prometheus.yml"
        settings.write_text(yaml.safe_dump(scraping(cluster)), encoding="utf-8")
        command = [program, f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address={_HOST}:{port}", "--log.level=warn"]
        stack.push_async_callback(_end, await _start(command, folder / "prometheus.log"))
        await _wait_ready(f"{url}/-/ready")
        _say(f"prometheus {url}")
        await _show_grafana(stack, folder, url, grafana_port)
        began = time.time()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
        if draws:
            pictures.FOLDER.mkdir(exist_ok=True)
            for file in await pictures.draw(url, began, time.time()):
                _say(f"{file.relative_to(_DOCS.parent)}  {file.stat().st_size / 1000:.0f} KB")


async def _show_grafana(stack: AsyncExitStack, folder: Path, prometheus: str, port: int) -> None:
    program = shutil.which("grafana-server")
    if program is None:
        _say(_NO_GRAFANA)
        return
    given = folder / "provisioning"
    source = {"name": "Prometheus", "type": "prometheus", "url": prometheus, "isDefault": True}
    boards = {"name": "TALOWA", "type": "file", "options": {"path": str(grafana.FOLDER)}}
    for kind, content in (("datasources", {"datasources": [source]}), ("dashboards", {"providers": [boards]})):
        (given / kind).mkdir(parents=True)
        (given / kind / "talowa.yml").write_text(yaml.safe_dump({"apiVersion": 1} | content), encoding="utf-8")
    settings = {
        "GF_SERVER_HTTP_ADDR": _HOST,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_DATA": str(folder / "grafana"),
        "GF_PATHS_PROVISIONING": str(given),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",  # on loopback, for as long as this runs
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    }
    home = ["--homepath", str(_GRAFANA_HOME)] if _HAS_HOME else []
    stack.push_async_callback(_end, await _start([program, *home], folder / "grafana.log", settings))
    await _wait_ready(f"http://{_HOST}:{port}/api/health")
    _say(f"grafana   http://{_HOST}:{port}/d/talowa-cluster")


async def _start(command: list[str], log: Path, more: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    with log.open("wb") as file:
        return await asyncio.create_subprocess_exec(
            *command, env=os.environ | (more or {}), stdout=file, stderr=file, start_new_session=True
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _wait_ready(url: str) -> None:
    async with asyncio.timeout(_READY_S), aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.2)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Read the arguments, run, exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="for how long (default: until Ctrl-C)")
    parser.add_argument("--pictures", action="store_true", help="draw docs/pictures/*.png in the end")
    given = parser.parse_args()
    try:
        asyncio.run(run(given.seconds, draws=given.pictures))
    except Unstartable as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
