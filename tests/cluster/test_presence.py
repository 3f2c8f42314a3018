"""Who is here, as others see it: watched, asked for, by socket and over HTTP, whoever dies meanwhile.

One cluster serves the whole module.
"""

import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from libs import keys, membership
from libs.directory import Directory, Seat
from services.local.keyring import Keyring
from services.router.sqlite import UserRow
from tests.support.clients import Client, JsClient, JsClients, PythonClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.load import tell
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What ARCHITECTURE promises.
_CLOSED_S: Final = 1.0
_GHOSTS_GONE_S: Final = 15.0
_UPDATE: Final = "presence_update"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """Three gateways, of which one will die, and two copies of presence, of which one will."""
    async with live_cluster(tmp_path_factory.mktemp("cluster"), gateways=3, routers=1, presences=2) as cluster:
        await cluster.people(["asha", "bala", "chitra", "devi", "eswar", "farid"])
        await cluster.people([UserRow(id="gopal", name="Gopal", disabled=True)])
        yield cluster


class People:
    """Clients of a test, closed when it ends."""

    def __init__(self, cluster: LiveCluster, js: JsClients, stack: AsyncExitStack) -> None:
        self._cluster = cluster
        self._js = js
        self._stack = stack

    async def js(self, name: str, gateways: Sequence[int] = (1,), device: int = 1) -> JsClient:
        urls = [self._cluster.urls[number - 1] for number in gateways]
        auth = {"token": self._cluster.token(name)}
        client = await self._js.open(f"{name}{device}", urls, auth, transports=["websocket"])
        await client.wait_for("auth_success")
        return client

    async def python(self, name: str, gateway: int = 2, device: int = 1) -> PythonClient:
        auth = {"token": self._cluster.token(name)}
        client = await PythonClient.open(
            History(), f"{name}{device}", self._cluster.urls[gateway - 1], auth, transports=["websocket"]
        )
        await self._stack.enter_async_context(client)
        await client.wait_for("auth_success")
        return client

    async def refused(self, name: str) -> str:
        """Somebody who is not let in; the code they are refused with."""
        auth = {"token": self._cluster.token(name)}
        client = await self._js.open(f"{name}1", self._cluster.urls[0], auth, wait=False)
        return str((await client.wait_for("connect_error")).data["data"]["code"])


@pytest_asyncio.fixture(loop_scope="module")
async def people(cluster: LiveCluster) -> AsyncIterator[People]:
    """Nobody yet, nor anybody of the test before."""
    await until(lambda: _is_deserted(cluster), 10, "everybody to be gone")
    async with AsyncExitStack() as stack, JsClients(History()) as js:
        yield People(cluster, js, stack)


async def _is_deserted(cluster: LiveCluster) -> bool:
    asked = [
        ("HLEN", name) for shard in range(keys.DIRECTORY_SHARDS) for name in (keys.seats(shard), keys.chosen(shard))
    ]
    return not any(await cluster.broker.batch(asked))


async def watch(client: Client, *users: str, status: str) -> int:
    """Subscribe, and wait until each is seen with this status; the mark after it, for what is told from then on."""
    assert await client.emit("subscribe_presence", {"userIds": list(users)}) == {"ok": True}
    for user in users:
        await told(client, user, status)
    return client.mark


async def told(client: Client, user: str, status: str, since: int = 0, timeout_s: float = 10.0) -> Mapping[str, Any]:
    """The first update of a user to a status after `since`."""
    event = await client.wait_for(
        _UPDATE, lambda e: (e.data["userId"], e.data["status"]) == (user, status), timeout_s, since
    )
    data: Mapping[str, Any] = event.data
    return data


def statuses(client: Client, user: str, since: int = 0) -> list[str]:
    """All a client was told of a user, in order."""
    return [event.data["status"] for event in client.events(_UPDATE, since) if event.data["userId"] == user]


async def ask(cluster: LiveCluster, path: str, token: str | None = None, name: str = "presence") -> tuple[int, Any]:
    """A call of an operator; with the admin token unless another is given."""
    headers = {"Authorization": f"Bearer {token or Keyring(cluster.home).admin_token()}"} if token != "" else {}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{cluster._internal[name]}{path}", headers=headers) as response,
    ):
        return response.status, await response.json()


async def test_a_closed_socket_shows_within_a_second_once_it_was_the_last(cluster: LiveCluster, people: People) -> None:
    """A phone and a computer, on two gateways, are one person: only the last to go is told."""
    asha, bala = await people.js("asha", [1]), await people.python("bala", 2)
    phone, computer = await people.js("chitra", [1]), await people.js("chitra", [2], device=2)
    marks = [(watcher, await watch(watcher, "chitra", status="online")) for watcher in (asha, bala)]
    await phone.close()
    await until(lambda: _is_on(cluster, "chitra", ["g2"]), 5, "the phone to be gone")
    began = time.monotonic()
    await computer.close()
    for watcher, mark in marks:
        await told(watcher, "chitra", "offline", mark)
    took_s = time.monotonic() - began
    tell(f"a closed socket shows after {took_s:.2f} s")
    assert took_s < _CLOSED_S
    assert [statuses(watcher, "chitra", mark) for watcher, mark in marks] == [["offline"], ["offline"]]


async def test_who_comes_back_within_the_grace_period_was_never_gone(people: People) -> None:
    """Closed and opened again, at the other gateway: what they chose while away holds, and nobody heard of it."""
    asha = await people.python("asha", 2)
    chitra = await people.js("chitra", [1])
    await chitra.emit("update_presence", {"status": "busy"})
    mark = await watch(asha, "chitra", status="busy")
    await chitra.close()
    again = await people.js("chitra", [2], device=2)
    await again.emit("update_presence", {"status": "away"})
    await told(asha, "chitra", "away")
    assert statuses(asha, "chitra", mark) == ["away"]


async def test_who_watches_is_told_now_and_of_every_change(people: People) -> None:
    """From the other gateway and from the same, with a JavaScript and a Python client; who stops is told no more."""
    asha, bala = await people.js("asha", [1]), await people.python("bala", 2)
    watchers: list[Client] = [asha, bala]
    for watcher in watchers:
        await watch(watcher, "chitra", "devi", "gopal", status="offline")
    assert await people.refused("gopal") == "user_disabled"
    before_ms = time.time() * 1000
    chitra = await people.js("chitra", [2])
    for watcher in watchers:
        await told(watcher, "chitra", "online")
    for status in ("away", "busy", "online"):
        marks = [watcher.mark for watcher in watchers]
        assert await chitra.emit("update_presence", {"status": status}) == {"ok": True}
        for watcher, mark in zip(watchers, marks, strict=True):
            update = await told(watcher, "chitra", status, mark)
            assert set(update) == {"userId", "status", "lastSeen"}
            assert before_ms - 1000 < update["lastSeen"] < time.time() * 1000 + 1000
    assert await bala.emit("unsubscribe_presence", {"userIds": ["chitra"]}) == {"ok": True}
    mark = asha.mark
    await chitra.close()
    await told(asha, "chitra", "offline", mark)
    assert statuses(asha, "chitra") == ["offline", "online", "away", "busy", "online", "offline"]
    assert statuses(bala, "chitra") == ["offline", "online", "away", "busy", "online"]
    # Nor of who was not let in.
    for absent in ("devi", "gopal"):
        assert statuses(asha, absent) == statuses(bala, absent) == ["offline"]


async def test_whoever_asks_is_told_of_who_is_here_who_was_and_who_never_was(
    cluster: LiveCluster, people: People
) -> None:
    """Whether or not they are watched; over HTTP the same."""
    asha, bala = await people.js("asha", [1]), await people.python("bala", 2)
    chitra = await people.js("chitra", [2])
    eswar = await people.js("eswar", [1])
    await chitra.emit("update_presence", {"status": "busy"})
    mark = await watch(asha, "eswar", status="online")
    left_ms = time.time() * 1000
    await eswar.close()
    await told(asha, "eswar", "offline", mark)
    users = ["chitra", "eswar", "asha", "stranger"]
    for client in (asha, bala):
        answer = await client.emit("get_presence", {"userIds": users})
        assert answer["ok"]
        seen = answer["presence"]
        assert [seen[user]["status"] for user in users] == ["busy", "offline", "online", "offline"]
        assert abs(seen["eswar"]["lastSeen"] - left_ms) < 1000
        assert abs(seen["asha"]["lastSeen"] - time.time() * 1000) < 1000
        assert seen["stranger"] == {"status": "offline", "lastSeen": None}
    status, body = await ask(cluster, f"/presence?ids={','.join(users)}")
    assert status == 200
    assert {user: shown["status"] for user, shown in body["presence"].items()} == {
        user: shown["status"] for user, shown in seen.items()
    }
    assert body["presence"]["eswar"] == seen["eswar"]
    assert body["presence"]["stranger"]["lastSeen"] is None


async def test_statistics_count_people_by_status_and_gateway(cluster: LiveCluster, people: People) -> None:
    """Somebody on two gateways is one person online, and counts on both."""
    await people.js("asha", [1])
    await people.js("bala", [2])
    chitra = await people.js("chitra", [1])
    await people.js("chitra", [2], device=2)
    await chitra.emit("update_presence", {"status": "away"})

    async def counted() -> bool:
        status, body = await ask(cluster, "/presence/statistics", name="presence2")
        on = {name.partition("-")[0]: count for name, count in body["gateways"].items()}
        return (status, body["usersOnline"], body["statuses"], on) == (
            200,
            3,
            {"online": 2, "away": 1, "busy": 0},
            {"g1": 2, "g2": 2, "g3": 0},
        )

    await until(counted, 5, "three people on two gateways")


async def test_operators_are_let_in_and_what_they_ask_wrong_is_refused(cluster: LiveCluster) -> None:
    """The admin token, or an ID token that says admin or founder; each refusal has its status and code."""
    many = ",".join(f"u{number}" for number in range(1001))
    cases: list[tuple[str, str | None, int, str | None]] = [
        ("/presence?ids=asha", cluster.token("asha", "admin"), 200, None),
        ("/presence/statistics", cluster.token("asha", "founder"), 200, None),
        ("/presence?ids=asha", cluster.token("asha", "coordinator"), 403, "role_required"),
        ("/presence?ids=asha", cluster.token("asha"), 403, "role_required"),
        ("/presence?ids=asha", "", 401, "not_authenticated"),
        ("/presence?ids=asha", "wrong", 401, "token_invalid"),
        ("/presence", None, 400, "invalid_payload"),
        ("/presence?ids=two%20words", None, 400, "invalid_payload"),
        (f"/presence?ids={many}", None, 400, "too_many"),
        (f"/presence?ids={many.rpartition(',')[0]}", None, 200, None),
    ]
    for path, token, expected, code in cases:
        status, body = await ask(cluster, path, token)
        assert (status, body.get("error", {}).get("code")) == (expected, code), path[:40]


async def test_what_is_asked_wrong_is_refused_with_a_code(people: People) -> None:
    """Too many ids, ids that are none, a status that is none; and one socket watches only so many people."""
    asha = await people.python("asha", 1)
    ids = [f"u{number}" for number in range(501)]
    cases: list[tuple[str, dict[str, Any], str]] = [
        (event, {"userIds": wrong}, code)
        for event in ("get_presence", "subscribe_presence", "unsubscribe_presence")
        for wrong, code in ((ids, "too_many"), (["two words"], "invalid_payload"), ("asha", "invalid_payload"))
    ]
    cases += [("update_presence", {"status": status}, "invalid_payload") for status in ("offline", "", None)]
    for event, payload, code in cases:
        answer = await asha.emit(event, payload)
        assert (answer["ok"], answer["error"]["code"]) == (False, code), (event, payload)
    for start in range(4):
        part = [f"u{start}-{number}" for number in range(500)]
        assert await asha.emit("subscribe_presence", {"userIds": part}) == {"ok": True}
    assert await asha.emit("subscribe_presence", {"userIds": part}) == {"ok": True}
    refused = await asha.emit("subscribe_presence", {"userIds": ["one more"[:3]]})
    assert (refused["error"]["code"], refused["error"]["retryable"]) == ("too_many", False)
    assert await asha.emit("unsubscribe_presence", {"userIds": part}) == {"ok": True}
    assert await asha.emit("subscribe_presence", {"userIds": ["one"]}) == {"ok": True}


async def test_last_seen_outlives_the_broker(cluster: LiveCluster, people: People) -> None:
    """Wiped, it knows nobody; the store says when who is away was here. Who is here is never seen to go."""
    asha = await people.js("asha", [1])
    eswar = await people.js("eswar", [2])
    await people.js("chitra", [2])
    mark = await watch(asha, "eswar", "chitra", status="online")
    await eswar.close()
    left_ms = (await told(asha, "eswar", "offline", mark))["lastSeen"]
    await until(lambda: _is_saved(cluster), 5, "all to be saved")
    revived = [await cluster.metric(name, "talowa_gateway_revivals_total") for name in ("g1", "g2")]
    mark = asha.mark
    await cluster.servers.wipe()

    async def known_again() -> bool:
        now = [await cluster.metric(name, "talowa_gateway_revivals_total") for name in ("g1", "g2")]
        return all(after > before for after, before in zip(now, revived, strict=True))

    await until(known_again, 10, "both gateways to be back")
    bala = await people.python("bala", 2)

    async def remembered() -> bool:
        answer = await bala.emit("get_presence", {"userIds": ["eswar", "chitra"]})
        seen = answer["presence"]
        return bool(seen["eswar"]["lastSeen"] == left_ms and seen["chitra"]["status"] == "online")

    await until(remembered, 10, "what the store knows")
    assert statuses(asha, "chitra", mark) == []
    assert statuses(asha, "eswar", mark) == []


async def test_a_gateway_and_a_copy_of_presence_die_and_no_ghost_stays_and_no_change_is_lost_or_told_twice(
    cluster: LiveCluster, people: People
) -> None:
    """Both with -9, while 200 people come and go: each watcher hears of each once, and of the dead within 15 s.

    Who comes back at another gateway was never gone.
    """
    watchers = [await people.js("asha", [1]), await people.python("bala", 2)]
    await people.js("chitra", [3])
    farid = await people.js("farid", [3, 2])
    crowd = [f"crowd{number}" for number in range(200)]
    for watcher in watchers:
        await watch(watcher, *crowd, status="offline")
    heard = [await watch(watcher, "chitra", "farid", status="online") for watcher in watchers]
    # Seats of a gateway that a test keeps alive: 200 sockets would measure something else.
    await cluster.broker.script(membership.beat(keys.gateways(), "test", 60_000))
    directory = Directory(cluster.broker)
    holder = "presence" if await cluster.metric("presence", "talowa_presence_shards") else "presence2"
    cluster.processes.set_restarts("g3", False)
    mark, killed_ms = farid.mark, time.time() * 1000
    cluster.processes.kill("g3", signal.SIGKILL)
    for is_here in (True, False):
        for start in range(0, len(crowd), 10):
            if is_here and start == len(crowd) // 2:
                cluster.processes.kill(holder, signal.SIGKILL)
            await directory.change(
                "test", dict.fromkeys(crowd[start : start + 10], Seat.SHOWN if is_here else Seat.DROPPED)
            )
            await _passes(time.monotonic() + 0.02)
        for watcher, since in zip(watchers, heard, strict=True):
            for user in crowd:
                await told(watcher, user, "online" if is_here else "offline", since)
    for watcher in watchers:
        assert all(statuses(watcher, user) == ["offline", "online", "offline"] for user in crowd)
    await farid.wait_for("auth_success", since=mark)
    for watcher, since in zip(watchers, heard, strict=True):
        event = await watcher.wait_for(_UPDATE, lambda e: e.data["userId"] == "chitra", _GHOSTS_GONE_S, since)
        assert event.data["status"] == "offline"
        assert -3000 < event.data["lastSeen"] - killed_ms < 1000
        assert event.at_ms < killed_ms + _GHOSTS_GONE_S * 1000
        tell(f"offline for {watcher.name} {(event.at_ms - killed_ms) / 1000:.1f} s after the gateway was killed")
        assert statuses(watcher, "farid", since) == []
    status, body = await ask(cluster, "/presence?ids=chitra,farid", name=holder)
    assert (status, [body["presence"][user]["status"] for user in ("chitra", "farid")]) == (200, ["offline", "online"])


async def _is_on(cluster: LiveCluster, user: str, gateways: list[str]) -> bool:
    located = await Directory(cluster.broker).locate([user])
    return [name.partition("-")[0] for name in located.get(user, ())] == gateways


async def _is_saved(cluster: LiveCluster) -> bool:
    shards = range(keys.DIRECTORY_SHARDS)
    return not any(await cluster.broker.batch([("EXISTS", keys.unsaved(shard)) for shard in shards]))


async def _passes(moment: float) -> None:
    """Wait for a moment of the monotonic clock: changes are spread over the time in which a process dies."""
    await until(lambda: time.monotonic() >= moment, 10.0, "time to pass")
