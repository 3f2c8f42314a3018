"""What operators rely on: health, metrics and status, leaving politely, refusing wrong settings, JSON logs.

One cluster serves the whole module.
"""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from libs.lifecycle import EXIT_CONFIG
from services.local.keyring import Keyring
from tests.support.clients import JsClients, RawClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SERVICES: Final = ("g1", "g2", "r1", "presence")
_SECRET: Final = "s" * 32  # no secret: long enough to pass for one
_REFUSAL_TIMEOUT_S: Final = 20.0

# service, variable, value, and what else must be said: the remedy. Every other variable is the unit tests' matter.
_WRONG_SETTINGS: Final = (
    ("gateway", "TICKET_SECRET", "", "At least 32 characters"),
    ("gateway", "WEBSOCKET_PORT", "99999", "0 (any) to 65535"),
    ("gateway", "FIREBASE_AUTH_EMULATOR_HOST", "localhost:9099", "Unset it"),
    ("gateway", "PARTITIONS", "17", "PARTITIONS=16"),
    ("gateway", "DRAIN_WINDOW_S", "26", "DRAIN_DEADLINE_S=25"),
    ("router", "STORE", "paper", "sqlite"),
    ("router", "STORE", "firestore", "FIREBASE_PROJECT_ID"),
    ("presence", "FIRESTORE_EMULATOR_HOST", "localhost:8080", "Unset it"),
    ("router", "PARTITIONS", "17", "PARTITIONS=16"),
    ("presence", "REDIS_URL", "", "redis://127.0.0.1:6379"),
    ("presence", "INTERNAL_PORT", "-1", "0 (any) to 65535"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """Two gateways, of which one will leave."""
    home = tmp_path_factory.mktemp("cluster")
    async with live_cluster(home, gateways=2, routers=1, environment={"DRAIN_WINDOW_S": "2"}) as cluster:
        await cluster.people(["asha", "bala"])
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """For asking without a token."""
    async with aiohttp.ClientSession() as session:
        yield session


# --- what is open to the cluster, and what is not ------------------------------------------------------


@pytest.mark.parametrize("name", _SERVICES)
async def test_every_service_says_how_it_is(cluster: LiveCluster, http: aiohttp.ClientSession, name: str) -> None:
    """`/healthz`, `/readyz` and `/metrics` on the internal port, for anybody in the cluster."""
    assert await _ask(http, cluster, name, "/healthz") == (200, {"ok": True})
    assert await _ask(http, cluster, name, "/readyz") == (200, {"ready": True, "missing": {}})
    status, page = await _ask(http, cluster, name, "/metrics")
    assert status == 200
    series = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE talowa_")]
    helped = [line.split()[2] for line in page.splitlines() if line.startswith("# HELP talowa_") and line.split()[3:]]
    assert series
    assert series == helped


async def test_status_needs_the_admin_token(cluster: LiveCluster, http: aiohttp.ClientSession) -> None:
    """Without it, with another, or with the wrong scheme: 401; services that have no status have none for anybody."""
    token = Keyring(cluster.home).admin_token()
    for headers in ({}, _bearer("x" * len(token)), _bearer(""), {"Authorization": f"Basic {token}"}, _bearer("ని")):
        status, body = await _ask(http, cluster, "g1", "/status", headers)
        assert (status, body["ok"]) == (401, False)
        assert body["error"]["code"] in ("not_authenticated", "token_invalid")
    for name in ("r1", "presence"):
        assert (await _ask(http, cluster, name, "/status", _bearer(token)))[0] == 404


async def test_status_tells_of_the_whole_cluster(cluster: LiveCluster, http: aiohttp.ClientSession) -> None:
    """Any gateway tells of all: connections, users online, and who owns which partition."""
    async with await RawClient.connect(cluster.urls[0], {"token": cluster.token("asha")}) as client:
        await client.expect_event("auth_success")

        async def told() -> Any:
            status, body = await _ask(http, cluster, "g2", "/status", _bearer(Keyring(cluster.home).admin_token()))
            return body if status == 200 and body["authenticated"] == 1 else None

        body = await until(told, 10, "a status that has heard of the session")
    assert (body["connections"], body["usersOnline"]) == (1, 1)
    assert len(body["gateways"]) == 2
    assert {gateway["pid"] for gateway in body["gateways"]} == {
        cluster.processes.pid("g1"),
        cluster.processes.pid("g2"),
    }
    assert len(body["partitions"]) == 16 + 1  # the last one is of broadcasts
    assert all(partition["owner"].startswith("r1-") for partition in body["partitions"])


# --- wrong settings --------------------------------------------------------------------------------------


async def test_wrong_settings_are_refused_by_name_value_and_remedy(cluster: LiveCluster) -> None:
    """With exit code 78, so that a supervisor knows better than to try again; nothing was started."""
    refusals = await _start_all(cluster, [(service, {name: value}) for service, name, value, _ in _WRONG_SETTINGS])
    for (service, variable, value, remedy), (code, said) in zip(_WRONG_SETTINGS, refusals, strict=True):
        case = f"{service} with {variable}={value!r}: {said}"
        assert code == EXIT_CONFIG, case
        assert variable in said, case
        assert value in said, case
        assert remedy in said, case
        assert "Traceback" not in said, case


async def test_a_port_that_is_taken_is_named(cluster: LiveCluster) -> None:
    """The socket port and the internal one, of each service."""
    socket, internal = cluster.urls[0].rpartition(":")[2], cluster.internal_url("g1", "").rpartition(":")[2]
    cases = [
        ("gateway", {"WEBSOCKET_PORT": socket}),
        ("gateway", {"INTERNAL_PORT": internal}),
        ("router", {"INTERNAL_PORT": internal}),
        ("presence", {"INTERNAL_PORT": internal}),
    ]
    for (_, changed), (code, said) in zip(cases, await _start_all(cluster, cases), strict=True):
        ((variable, port),) = changed.items()
        assert code == EXIT_CONFIG, said
        assert f"{variable}={port}" in said
        assert "choose another" in said


async def test_what_is_secret_is_not_shown_when_it_is_wrong(cluster: LiveCluster) -> None:
    """A short secret, a short token and a broker's password are refused unseen; all problems are told at once."""
    short = {"TICKET_SECRET": "hush-ticket", "ADMIN_TOKEN": "hush-admin"}
    wrong = {"WEBSOCKET_PORT": "x", "PING_TIMEOUT_S": "x", "REDIS_URL": "redis://:hush@127.0.0.1:1"}
    (one_code, one), (other_code, other) = await _start_all(cluster, [("gateway", short), ("gateway", wrong)])
    assert (one_code, other_code) == (EXIT_CONFIG, EXIT_CONFIG)
    assert "TICKET_SECRET" in one
    assert "ADMIN_TOKEN" in one
    assert "WEBSOCKET_PORT" in other
    assert "PING_TIMEOUT_S" in other
    assert "hush" not in one + other


# --- leaving ---------------------------------------------------------------------------------------------


async def test_a_gateway_that_is_told_to_leave_says_so_and_takes_nobody_new(
    cluster: LiveCluster, http: aiohttp.ClientSession
) -> None:
    """While draining: alive, not ready, 503 to who connects; its clients come back elsewhere; it exits with 0."""
    async with JsClients(History()) as js:
        auth = {"token": cluster.token("bala")}
        bala = await js.open("bala1", cluster.urls[::-1], auth, transports=["websocket"])
        await bala.wait_for("auth_success")
        others = [await js.open(f"other{number}", cluster.urls[::-1], auth) for number in range(10)]
        mark = bala.mark
        cluster.processes.set_restarts("g2", False)
        cluster.processes.kill("g2", signal.SIGTERM)

        async def is_draining() -> bool:
            status, body = await _ask(http, cluster, "g2", "/readyz")
            return status == 503 and "draining" in body["missing"]

        await until(is_draining, 5, "a gateway that says that it drains")
        assert (await _ask(http, cluster, "g2", "/healthz"))[0] == 200
        async with http.get(f"{cluster.urls[1]}/readyz") as response:
            assert response.status == 503
        async with http.get(f"{cluster.urls[1]}/socket.io/?EIO=4&transport=polling") as response:
            assert response.status == 503
            assert response.headers["Retry-After"]
        assert await cluster.processes.wait_exit("g2", 15) == 0
        left = (await bala.wait_for("disconnect", since=mark)).data
        assert (left["code"], left["final"]) == (1012, False)
        again = await bala.wait_for("connect", since=mark)
        assert again.data["url"] == cluster.urls[0]
        for other in others:
            await other.wait_for("connect", lambda event: event.data["url"] == cluster.urls[0])


async def test_routers_and_presence_leave_with_0(cluster: LiveCluster) -> None:
    """On SIGTERM, within seconds."""
    for name in ("r1", "presence"):
        cluster.processes.set_restarts(name, False)
        cluster.processes.kill(name, signal.SIGTERM)
    for name in ("r1", "presence"):
        assert await cluster.processes.wait_exit(name, 15) == 0


# --- logs: last, for they tell of all of the above ---------------------------------------------------------


async def test_every_line_that_a_service_says_is_one_json_object(
    cluster: LiveCluster, http: aiohttp.ClientSession
) -> None:
    """With the service, its instance, the level, the time and the event; nothing at all was an error."""
    async with http.get(f"{cluster.urls[0]}/socket.io/?EIO=4&transport=polling&sid=nobody") as response:
        assert response.status == 400
    for name, service in {"g1": "gateway", "g2": "gateway", "r1": "router", "presence": "presence"}.items():
        lines = [json.loads(line) for line in cluster.processes.log(name).read_text().splitlines()]
        assert {"started", "stopped"} - {line["event"] for line in lines} <= ({"stopped"} if name == "g1" else set())
        for line in lines:
            assert line["service"] == service
            assert line["instance"].startswith(f"{name}-")
            assert line["level"] in ("debug", "info", "warning")
            assert datetime.fromisoformat(line["at"]).tzinfo is not None
            assert line["event"]


# --- the means -------------------------------------------------------------------------------------------


async def _ask(
    http: aiohttp.ClientSession, cluster: LiveCluster, name: str, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    async with http.get(cluster.internal_url(name, path), headers=headers) as response:
        is_json = response.content_type == "application/json"
        return response.status, await (response.json() if is_json else response.text())


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _start_all(cluster: LiveCluster, cases: list[tuple[str, dict[str, str]]]) -> list[tuple[int | None, str]]:
    """Start services that should refuse to; how each ended, and what it said. Two at a time, for they are heavy."""
    gate = asyncio.Semaphore(2)
    async with asyncio.TaskGroup() as tasks:
        starts = [tasks.create_task(_start(gate, cluster, *case)) for case in cases]
    return [start.result() for start in starts]


async def _start(
    gate: asyncio.Semaphore, cluster: LiveCluster, service: str, changed: dict[str, str]
) -> tuple[int | None, str]:
    right = {
        "REDIS_URL": cluster.redis_url,
        "TOKEN_KEY_FILE": str(Keyring(cluster.home).public_key_file()),
        "TICKET_SECRET": _SECRET,
        "SQLITE_PATH": str(cluster.database),
        "INTERNAL_HOST": "127.0.0.1",
        "INTERNAL_PORT": "0",
        "WEBSOCKET_HOST": "127.0.0.1",
        "WEBSOCKET_PORT": "0",
    }
    async with gate:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"services.{service}",
            env=right | changed,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_REFUSAL_TIMEOUT_S):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
    return process.returncode, (out + err).decode()
