"""Operators' calls on a running cluster: stop and start a gateway, revoke a user, status, retention.

One cluster serves the whole module.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from io import BytesIO, StringIO
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio
from rich.console import Console

from services.local import operators
from services.local.keyring import Keyring
from services.local.status import show_status, watch_status
from services.router.sqlite import UserRow
from tests.support.clients import JsClients, RawClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.load import Lane, arrived, steady_traffic, tell
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SOON_S: Final = 15.0
_REVOKED_WITHIN_S: Final = 2.0
_RACES: Final = 50
_RACERS: Final = tuple(f"racer-{number}" for number in range(_RACES))
_ENVIRONMENT: Final = {"DRAIN_WINDOW_S": "1", "RETENTION_DAYS": "0", "RETENTION_EVERY_S": "1"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """Two gateways that drain in a second, two routers that retire at once."""
    home = tmp_path_factory.mktemp("cluster")
    async with live_cluster(home, gateways=2, routers=2, environment=_ENVIRONMENT) as cluster:
        await cluster.people(["asha", "bala", "devi", UserRow(id="meena", name="Meena", role="admin"), *_RACERS])
        yield cluster


# --- stop and start --------------------------------------------------------------------------------------


async def test_a_stopped_gateway_sends_its_clients_to_the_other_and_loses_nothing(cluster: LiveCluster) -> None:
    """Under traffic: answered at once, 503 to who connects, 1012 in stages; started again, it takes sockets again."""
    history = History()
    async with JsClients(history) as js, aiohttp.ClientSession() as http:
        asha, bala = [
            await js.open(f"{user}1", cluster.urls, {"token": cluster.token(user)}, user=user, transports=["websocket"])
            for user in ("asha", "bala")
        ]
        marks = [asha.mark, bala.mark]
        lanes = [Lane(asha, {"recipientId": "bala"}), Lane(bala, {"recipientId": "asha"})]
        async with steady_traffic(lanes) as traffic:
            began = time.monotonic()
            assert await _post(cluster, "g1", "/stop") == (200, {"draining": 2, "windowS": 1.0})
            assert time.monotonic() - began < 0.5
            status, again = await _post(cluster, "g1", "/stop", json={"windowS": 600})
            assert status == 200
            assert again["windowS"] <= 1.0, "asking again put it off"
            async with http.get(f"{cluster.urls[0]}/socket.io/?EIO=4&transport=polling") as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "1")
                assert (await response.json())["error"]["code"] == "unavailable"
            async with http.get(f"{cluster.urls[0]}/readyz") as response:
                assert response.status == 503
                assert "draining" in (await response.json())["missing"]
            for client, mark in zip((asha, bala), marks, strict=True):
                left = await client.wait_for("disconnect", since=mark)
                assert (left.data["code"], left.data["final"]) == (1012, False)
                await client.wait_for("connect", lambda e: bool(e.data["url"] == cluster.urls[1]), since=mark)
                await client.wait_for("auth_success", since=mark)
            await traffic.wait_flows()
            await until(lambda: _state(cluster, "g1", "drained"), 5, "a gateway that is drained")
            assert await _post(cluster, "g1", "/start") == (200, {"connections": 0})
            await cluster.wait_ready("g1")
            async with await RawClient.connect(cluster.urls[0], {"token": cluster.token("devi")}) as devi:
                await devi.expect_event("auth_success")
        expected = {"direct:asha:bala": ("asha1", "bala1")}
        report = await arrived(history, expected)
        assert report.ok, report
        assert not report.refused
        assert not report.unanswered


async def test_a_start_while_it_drains_keeps_those_that_were_not_closed(cluster: LiveCluster) -> None:
    """The most idle go first; who is left stays, and can write; the gateway is ready again."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(await RawClient.connect(cluster.urls[0], {"token": cluster.token("devi")}))
            for _ in range(4)
        ]
        for client in clients:
            await client.expect_event("auth_success")
        for client in (clients[2], clients[0], clients[3], clients[1]):
            await client.send_event("heartbeat", {"clientTime": 1}, ack=5)
            await client.expect_answer(5)
        assert await _post(cluster, "g1", "/stop?windowS=2") == (200, {"draining": 4, "windowS": 2.0})
        assert await clients[2].wait_closed() == 1012
        assert (await _post(cluster, "g1", "/start"))[0] == 200
        await cluster.wait_ready("g1")
        for client in (clients[3], clients[1]):
            await client.send_event("heartbeat", {"clientTime": 1}, ack=6)
            assert (await client.expect_answer(6))["ok"]


@pytest.mark.parametrize("window", ["-1", "601", "nan", "soon", ""])
async def test_a_window_out_of_bounds_is_refused_and_stops_nothing(cluster: LiveCluster, window: str) -> None:
    """In the query or in the body: 400, and the gateway is as ready as before."""
    answers = [
        await _post(cluster, "g1", f"/stop?windowS={window}"),
        await _post(cluster, "g1", "/stop", data=f'{{"windowS": {window}}}'),
        await _post(cluster, "g1", "/stop", data=b"\xff["),
    ]
    assert [(status, body["error"]["code"]) for status, body in answers] == [(400, "invalid_payload")] * 3
    await cluster.wait_ready("g1")


async def test_only_operators_may(cluster: LiveCluster) -> None:
    """No token: 401. A member's ID token: 403. An admin's: yes."""
    for path in ("/stop", "/start", "/users/asha/revoke"):
        assert (await _post(cluster, "g1", path, token=""))[0] == 401
        status, body = await _post(cluster, "g1", path, token=cluster.token("asha"))
        assert (status, body["error"]["code"]) == (403, "role_required")
    assert (await _post(cluster, "g1", "/start", token=cluster.token("meena")))[0] == 200


async def test_a_token_that_is_no_good_is_401_whatever_it_is(cluster: LiveCluster) -> None:
    """Bytes that are no text, someone who is not there, someone who is disabled: said of who asks, with a code."""
    await cluster.people([UserRow(id="gone", name="Gone", role="admin", disabled=True)])
    nobody, gone = (cluster.token(user, role="admin") for user in ("nobody", "gone"))
    for token, code in (("\udcff\udcfe", "token_invalid"), (nobody, "token_invalid"), (gone, "user_disabled")):
        status, body = await _post(cluster, "g1", "/start", token=token)
        assert (status, body["error"]["code"]) == (401, code)


async def test_a_body_that_is_too_large_is_refused_with_its_code(cluster: LiveCluster) -> None:
    """By every call that reads one."""
    status, body = await _post(cluster, "g1", "/stop", data=BytesIO(b" " * (2 << 20)))
    assert (status, body["error"]["code"]) == (413, "content_too_large")
    await cluster.wait_ready("g1")


# --- revoke ----------------------------------------------------------------------------------------------


async def test_a_revoked_user_is_closed_on_every_gateway_and_signs_in_with_a_new_token_only(
    cluster: LiveCluster,
) -> None:
    """Within 2 s, and for good; resume tickets die with the token; others notice nothing."""
    old = cluster.token("devi")
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(await RawClient.connect(url, {"token": old})) for url in cluster.urls * 2
        ]
        other = await stack.enter_async_context(
            await RawClient.connect(cluster.urls[0], {"token": cluster.token("asha")})
        )
        tickets = [(await client.expect_event("auth_success"))["resumeTicket"] for client in clients]
        began = time.monotonic()
        status, body = await _post(cluster, "g1", "/users/devi/revoke")
        assert (status, body["userId"], body["gateways"]) == (200, "devi", 2)
        for client in clients:
            failed = await client.expect_event("auth_failed")
            assert (failed["code"], failed["retryable"]) == ("token_revoked", False)
            await client.expect("41")
            await client.wait_closed()
        took_s = time.monotonic() - began
        tell(f"every socket of a revoked user is closed after {took_s * 1000:.0f} ms")
        assert took_s < _REVOKED_WITHIN_S
        for auth in ({"token": old}, *({"resumeTicket": ticket} for ticket in tickets)):
            for url in cluster.urls:
                assert await _refused(url, auth) == "token_revoked"
        await until(lambda: _signs_in(cluster, "devi"), 5, "a sign-in with a new token")
        await other.send_event("heartbeat", {"clientTime": 1}, ack=5)
        assert (await other.expect_answer(5))["ok"]


@pytest.mark.parametrize("user", ["nobody", "no%20id", "a:b", "x" * 200])
async def test_a_user_who_does_not_exist_is_not_revoked(cluster: LiveCluster, user: str) -> None:
    """404, with the code."""
    status, body = await _post(cluster, "g2", f"/users/{user}/revoke")
    assert (status, body["error"]["code"]) == (404, "user_not_found")


async def test_nothing_is_claimed_while_the_store_is_away(cluster: LiveCluster) -> None:
    """503; the socket stays, the token is good; asked again later, it is done."""
    async with await RawClient.connect(cluster.urls[0], {"token": cluster.token("bala")}) as bala:
        await bala.expect_event("auth_success")
        with cluster.store_away():
            status, body = await _post(cluster, "g1", "/users/bala/revoke")
            assert (status, body["error"]["code"], body["error"]["retryable"]) == (503, "unavailable", True)
            await bala.send_event("heartbeat", {"clientTime": 1}, ack=5)
            assert (await bala.expect_answer(5))["ok"]

        async def revoked() -> bool:
            return (await _post(cluster, "g1", "/users/bala/revoke"))[0] == 200

        await until(revoked, 5, "the revocation")
        assert (await bala.expect_event("auth_failed"))["code"] == "token_revoked"


async def test_a_sign_in_that_races_with_a_revocation_does_not_survive_it(cluster: LiveCluster) -> None:
    """Fifty users: whoever signed in with an old token, before, during or after, is not connected 2 s later."""
    tokens = {user: cluster.token(user) for user in _RACERS}
    outcomes: list[str] = []

    async def race(user: str, url: str) -> None:
        async with asyncio.TaskGroup() as tasks:
            socket = tasks.create_task(RawClient.connect(url, {"token": tokens[user]}))
            await asyncio.sleep(random.uniform(0, 0.02))  # the race's own: how far the sign-in has come
            assert (await _post(cluster, "g1", f"/users/{user}/revoke"))[0] == 200
        async with socket.result() as client:
            # Refused in its handshake, a socket has no session; its client closes it.
            said = await client.expect("44", "41", timeout_s=_REVOKED_WITHIN_S)
            if said == "41":
                await client.wait_closed(_REVOKED_WITHIN_S)
            heard = [str(frame) for frame in client.frames]
            assert any("token_revoked" in frame for frame in heard), heard
            outcomes.append("signed in first" if any("auth_success" in frame for frame in heard) else "refused")

    for start in range(0, _RACES, 5):
        async with asyncio.TaskGroup() as tasks:
            for number, user in enumerate(_RACERS[start : start + 5]):
                tasks.create_task(race(user, cluster.urls[number % 2]))
    tell(f"{outcomes.count('signed in first')} signed in first, {outcomes.count('refused')} were refused")
    assert len(outcomes) == _RACES


# --- status ----------------------------------------------------------------------------------------------


async def test_status_tells_how_every_process_is(cluster: LiveCluster) -> None:
    """Gateways, routers and presence, each with its figures; sums of rates and counts; after real traffic."""
    async with AsyncExitStack() as stack:
        asha, devi = [
            await stack.enter_async_context(await RawClient.connect(url, {"token": cluster.token(user, "admin")}))
            for url, user in zip(cluster.urls, ("asha", "meena"), strict=True)
        ]
        for client in (asha, devi):
            await client.expect_event("auth_success")
        await asha.send_event("send_message", {"clientId": "s1", "recipientId": "meena", "content": "one"}, ack=3)
        assert (await asha.expect_answer(3))["ok"]
        await asha.send_event("send_message", {"clientId": "s2", "recipientId": "nobody", "content": "two"}, ack=4)
        assert not (await asha.expect_answer(4))["ok"]

        async def told() -> Any:
            status = await cluster.status("g2")
            rates = ("messagesInPerSecond", "messagesPerSecond", "messagesOutPerSecond", "refusals")
            counts = [status[count] for count in ("connections", "authenticated", "usersOnline")]
            users = [one["users"] for one in status["gateways"]]
            is_told = counts == [2, 2, 2] and users == [1, 1] and all(status[rate] > 0 for rate in rates)
            return status if is_told else None

        status = await until(told, 10, "a status that has heard of all")
    assert status["errors"] == 0
    for kind, names in (("gateways", ["g1", "g2"]), ("routers", ["r1", "r2"]), ("presence", ["presence"])):
        said = {one["id"].rpartition("-")[0]: one for one in status[kind]}
        assert list(said) == names
        for name, one in said.items():
            assert one["pid"] == cluster.processes.pid(name)
            assert 10 << 20 < one["memoryBytes"] < 1 << 30
            assert 0 < one["uptimeSeconds"] < 300
    assert sum(one["partitions"] for one in status["routers"]) == 16 + 1  # the last one is of broadcasts
    assert not any(one["storeAway"] or one["parkedFrames"] for one in status["routers"])


async def test_the_terminal_shows_the_status_and_makes_the_calls(cluster: LiveCluster) -> None:
    """Once, and live until it is interrupted; `stop`, `start` and `revoke` say what came of it, or why not."""
    state, admin_token = cluster.processes.state(), Keyring(cluster.home).admin_token()
    said = StringIO()
    assert await show_status(state, admin_token, Console(file=said, width=160))
    for word in ("users online", "messages a second", "accepting", "entries wait", "r1-"):
        assert word in said.getvalue()
    live = StringIO()
    screen = Console(file=live, width=160, height=80, force_terminal=True)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch_status(cluster.processes.state, admin_token, screen))
        await until(lambda: live.getvalue().count("users online") >= 2, _SOON_S, "the status to be shown again")
        watching.cancel()
    assert "draining" in await operators.call(state, admin_token, "POST", "/stop?windowS=0", gateway="g2")
    assert "connections" in await operators.call(state, admin_token, "POST", "/start", gateway="g2")
    with pytest.raises(operators.CannotOperate, match="no such user"):
        await operators.call(state, admin_token, "POST", operators.revoke_path("no/body?"))
    with pytest.raises(operators.CannotOperate, match="there are g1, g2"):
        await operators.call(state, admin_token, "POST", "/stop", gateway="g9")
    with pytest.raises(operators.CannotOperate, match="401"):
        await operators.call(state, "x" * 32, "POST", "/start", gateway="g1")


# --- retention -------------------------------------------------------------------------------------------


async def test_what_all_confirmed_leaves_the_hot_log_and_stays_in_the_history(cluster: LiveCluster) -> None:
    """A `sync` from nothing gets what nobody confirmed yet, the history has everything."""
    await cluster.people(["kiran", "lata"])
    async with (
        await RawClient.connect(cluster.urls[0], {"token": cluster.token("kiran")}) as kiran,
        await RawClient.connect(cluster.urls[1], {"token": cluster.token("lata")}) as lata,
    ):
        for client in (kiran, lata):
            await client.expect_event("auth_success")
        before = await _retired(cluster)
        for number in (1, 2):
            await kiran.send_event("send_message", _to("lata", f"r{number}"), ack=number)
            assert (await kiran.expect_answer(number))["ok"]
        await lata.send_event("message_delivered", {"conversationId": "kiran", "seq": 1}, ack=3)
        assert (await lata.expect_answer(3))["ok"]

        async def retired() -> bool:
            return await _retired(cluster) > before

        await until(retired, 10, "the first message to leave the hot log")
        conversation_id = "direct:kiran:lata"
        await lata.send_event("sync", {"cursors": {conversation_id: 0}}, ack=4)
        page = await lata.expect_event("offline_messages")
        assert [message["seq"] for message in page["messages"]] == [2]
        await lata.send_event("get_conversation_history", {"conversationId": conversation_id}, ack=5)
        history = await lata.expect_answer(5)
        assert [message["seq"] for message in history["messages"]] == [1, 2]
    ran = [await cluster.metric(name, "talowa_router_retention_run_timestamp_seconds") for name in ("r1", "r2")]
    assert any(at > 0 for at in ran)


# --- the means -------------------------------------------------------------------------------------------


async def _post(
    cluster: LiveCluster, name: str, path: str, *, token: str | None = None, **sent: Any
) -> tuple[int, dict[str, Any]]:
    token = Keyring(cluster.home).admin_token() if token is None else token
    headers = {"Authorization": f"Bearer {token}".encode(errors="surrogateescape").decode("latin-1")} if token else {}
    url = cluster.internal_url(name, path)
    async with aiohttp.ClientSession() as http, http.post(url, headers=headers, **sent) as response:
        return response.status, await response.json()


async def _state(cluster: LiveCluster, name: str, state: str) -> bool:
    """Whether `/status` of the other gateway says so."""
    return any(
        one["state"] == state for one in (await cluster.status("g2"))["gateways"] if one["id"].startswith(f"{name}-")
    )


async def _retired(cluster: LiveCluster) -> float:
    return sum([await cluster.metric(name, "talowa_router_retired_messages_total") for name in ("r1", "r2")])


def _to(user: str, client_id: str) -> dict[str, str]:
    return {"clientId": client_id, "recipientId": user, "content": "the survey"}


async def _refused(url: str, auth: dict[str, str]) -> str:
    """The code that a handshake is refused with."""
    async with await RawClient.connect(url, auth) as client:
        frame = await client.expect("40", "44")
        assert frame.startswith("44"), frame
        return next(code for code in ("token_revoked", "unavailable") if code in frame)


async def _signs_in(cluster: LiveCluster, user: str) -> bool:
    async with await RawClient.connect(cluster.urls[0], {"token": cluster.token(user)}) as client:
        return (await client.expect("40", "44")).startswith("40")
