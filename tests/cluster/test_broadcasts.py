"""Emergency broadcasts: to everyone who lives there, at once or at the next sign-in, once, before all else."""

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from libs.wire import names
from services.local.keyring import Keyring
from services.router.sqlite import UserRow
from tests.support.clients import Event, JsClient, JsClients, PythonClient, RawClient
from tests.support.cluster import LiveCluster, lasting_cluster
from tests.support.history import History
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_TELUGU: Final = "వరద హెచ్చరిక"
_HOST: Final = "127.0.0.1"
_SOON_S: Final = 20.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """One cluster for all tests here; each has villages of its own."""
    home: Path = tmp_path_factory.mktemp("cluster")
    async with lasting_cluster(home, environment={"PAGE_TIMEOUT_S": "1"}) as running:
        yield running


async def test_everyone_there_hears_it_at_once_on_every_device_and_is_counted(cluster: LiveCluster) -> None:
    """On both gateways, by socket and over HTTP, at every level; who lives elsewhere does not."""
    await _villagers(cluster, "a", "asha", "bala", "away")
    await cluster.people([UserRow("a.far", "Far", state_id="KA", village_id="a.other")])
    history = History()
    async with (
        JsClients(history) as js,
        await PythonClient.open(
            history, "phone", cluster.urls[0], {"token": cluster.token("a.bala")}, user="a.bala"
        ) as phone,
    ):
        asha = await _open(js, cluster, "a.asha")
        bala, far = await _open(js, cluster, "a.bala", gateway=1), await _open(js, cluster, "a.far", gateway=1)
        await phone.wait_for("auth_success")
        await _counted(cluster, "a.v", 2)
        said = _words("village", "a.v", "a.nobody")
        answer = await asha.emit("emergency_broadcast", said)
        assert answer == {
            "ok": True,
            "broadcastId": answer["broadcastId"],
            "status": "sent",
            "reach": {"online": 2, "offline": 1},
        }
        for client in (asha, bala, phone):
            heard = (await client.wait_for("emergency_broadcast")).data
            assert heard.pop("timestamp") > 0
            assert heard == {**said, "broadcastId": answer["broadcastId"], "type": "emergency_broadcast"}
        for level, place in (("mandal", "a.m"), ("district", "a.d"), ("state", "a.s")):
            posted = await _post(cluster, _words(level, place, title=level))
            assert set(posted) == {"broadcastId", "status", "reach"}
            assert posted["reach"] == {"online": 2, "offline": 1}
            for client in (asha, bala, phone):
                await client.wait_for("emergency_broadcast", _titled(level))
        tally = await _tallied(cluster, answer["broadcastId"], delivered=2)
        assert tally == {
            "broadcastId": answer["broadcastId"],
            "timestamp": tally["timestamp"],
            "locationLevel": "village",
            "priority": "critical",
            "recipients": 3,
            "delivered": 2,
            "due": 1,
            "locations": [
                {"locationId": "a.v", "recipients": 3, "delivered": 2, "due": 1},
                {"locationId": "a.nobody", "recipients": 0, "delivered": 0, "due": 0},
            ],
        }
        assert not far.events("emergency_broadcast")
        assert [len(client.events("emergency_broadcast")) for client in (asha, bala, phone)] == [4, 4, 4]


async def test_the_same_words_sent_again_are_the_same_broadcast(cluster: LiveCluster) -> None:
    """With the same clientId, or within minutes without one: nobody is warned twice of one thing."""
    await _villagers(cluster, "s", "asha", "bala")
    async with JsClients(History()) as js:
        asha, bala = await _open(js, cluster, "s.asha"), await _open(js, cluster, "s.bala", gateway=1)
        said = _words("village", "s.v")
        ids = [(await asha.emit("emergency_broadcast", said))["broadcastId"] for _ in range(2)]
        named = [{**said, "title": title, "clientId": "c1"} for title in ("one", "two")]
        ids += [(await asha.emit("emergency_broadcast", each))["broadcastId"] for each in named]
        ids.append((await asha.emit("emergency_broadcast", {**said, "title": "last"}))["broadcastId"])
        assert (ids[0], ids[2]) == (ids[1], ids[3])
        await bala.wait_for("emergency_broadcast", _titled("last"))
        assert [e.data["broadcastId"] for e in bala.events("emergency_broadcast")] == [ids[0], ids[2], ids[4]]
        # A device that comes back after it confirmed hears nothing of what is sent again.
        for broadcast_id in sorted(set(ids)):
            await _tallied(cluster, broadcast_id, delivered=2)
        again = await _open(js, cluster, "s.bala", "s.bala again", gateway=1)
        await asha.emit("emergency_broadcast", said)
        await asha.emit("emergency_broadcast", {**said, "title": "very last"})
        await again.wait_for("emergency_broadcast", _titled("very last"))
        assert len(again.events("emergency_broadcast")) == 1


async def test_who_is_away_hears_it_first_of_all_at_the_next_sign_in(cluster: LiveCluster) -> None:
    """Before messages, also emergencies; also who never was here; and once it is confirmed, not again."""
    await _villagers(cluster, "w", "asha", "bala")
    async with JsClients(History()) as js:
        asha = await _open(js, cluster, "w.asha")
        await asha.send_message({"clientId": "c1", "recipientId": "w.bala", "content": "x", "type": "emergency"})
        ids = [
            (await asha.emit("emergency_broadcast", _words("village", "w.v", title=title)))["broadcastId"]
            for title in ("one", "two")
        ]
        async with await _raw(cluster, "w.bala") as silent:
            first = await _next(silent)
            assert first[1][0] == "emergency_broadcast"
            second = await _next(silent)
            assert [first[1][1]["broadcastId"], second[1][1]["broadcastId"]] == ids
            await silent.send_text(f"43{first[0]}[]")
            await silent.send_text(f"43{second[0]}[]")
            ack, (name, page) = await _next(silent)
            assert (name, len(page["messages"])) == ("offline_messages", 1)
            await silent.send_text(f"43{ack}[]")
        bala = await _open(js, cluster, "w.bala", gateway=1)
        await asha.send_message({"clientId": "c2", "recipientId": "w.bala", "content": "x"})
        await bala.wait_for_messages(1)
        assert not bala.events("emergency_broadcast")


async def test_an_app_that_confirms_no_broadcast_gets_its_messages_all_the_same(cluster: LiveCluster) -> None:
    """They wait for a while; the broadcast stays due, and comes first again."""
    await _villagers(cluster, "u", "asha", "bala")
    async with JsClients(History()) as js:
        asha = await _open(js, cluster, "u.asha")
        await asha.send_message({"clientId": "c1", "recipientId": "u.bala", "content": "x"})
        await asha.emit("emergency_broadcast", _words("village", "u.v"))
        for _ in range(2):
            async with await _raw(cluster, "u.bala") as silent:
                assert [(await _next(silent))[1][0] for _ in range(2)] == ["emergency_broadcast", "offline_messages"]


async def test_who_moves_hears_what_is_for_the_new_village(cluster: LiveCluster) -> None:
    """What was broadcast there before the cluster noticed is due at once; then it comes live."""
    await _villagers(cluster, "m", "asha", "bala")
    await cluster.people([UserRow("m.chitra", "Chitra", village_id="m.new", role="coordinator")])
    async with JsClients(History()) as js:
        asha, bala = await _open(js, cluster, "m.asha"), await _open(js, cluster, "m.bala", gateway=1)
        await asha.emit("emergency_broadcast", _words("village", "m.new", title="before"))
        await cluster.people([UserRow("m.bala", "Bala", village_id="m.new")])
        await asha.emit("emergency_broadcast", _words("village", "m.new", title="meanwhile"))
        await bala.wait_for("emergency_broadcast", _titled("meanwhile"))
        await _counted(cluster, "m.new", 1)
        for place, title in (("m.v", "old place"), ("m.new", "new place")):
            await asha.emit("emergency_broadcast", _words("village", place, title=title))
        await bala.wait_for("emergency_broadcast", _titled("new place"))
        assert [e.data["title"] for e in bala.events("emergency_broadcast")] == ["meanwhile", "new place"]
        # It is in the mandal still, and hears that once, though its home was indexed anew.
        await asha.emit("emergency_broadcast", _words("mandal", "m.m"))
        await bala.wait_for("emergency_broadcast", lambda e: e.data["locationLevel"] == "mandal")


async def test_who_renews_a_sign_in_after_moving_misses_nothing(cluster: LiveCluster) -> None:
    """It may know of the move before the cluster tells of it: what was broadcast meanwhile is due all the same."""
    await _villagers(cluster, "n", "asha", "bala")
    async with JsClients(History()) as js:
        asha, bala = await _open(js, cluster, "n.asha"), await _open(js, cluster, "n.bala", gateway=1)
        await _counted(cluster, "n.v", 2)
        await cluster.people([UserRow("n.bala", "Bala", village_id="n.new")])
        await asha.emit("emergency_broadcast", _words("village", "n.new", title="meanwhile"))
        assert (await bala.emit("authenticate", {"token": cluster.token("n.bala")}))["ok"]
        await bala.wait_for("emergency_broadcast", _titled("meanwhile"))


async def test_who_may_not_is_refused(cluster: LiveCluster) -> None:
    """A member on a socket; over HTTP all but admins and founders, and who has the operators' token."""
    await _villagers(cluster, "r", "asha")
    await cluster.people([UserRow("r.bala", "Bala", village_id="r.v"), UserRow("r.admin", "Admin", role="admin")])
    async with JsClients(History()) as js:
        bala = await _open(js, cluster, "r.bala")
        answer = await bala.emit("emergency_broadcast", _words("village", "r.v"))
        assert answer["error"]["code"] == "role_required"
        error = (await bala.wait_for("error")).data
        assert (error["code"], error["event"]) == ("role_required", "emergency_broadcast")
        for token, status in ((None, 401), (cluster.token("r.bala"), 403), (cluster.token("r.asha"), 403)):
            assert (await _ask(cluster, "POST", "/emergency-broadcast", _words("village", "r.v"), token))[0] == status
        assert (await _ask(cluster, "GET", f"/broadcasts/{'0' * 32}", token=None))[0] == 401
        admin = cluster.token("r.admin")
        assert (await _ask(cluster, "POST", "/emergency-broadcast", _words("village", "r.other"), admin))[0] == 200
        assert not bala.events("emergency_broadcast")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"locationLevel": "street"}, "unknown_level"),
        ({"locationIds": []}, "no_places"),
        ({"locationIds": ["v"] * 10_001}, "too_many"),
        ({"locationIds": ["a b"]}, "invalid_payload"),
        ({"locationIds": "v1"}, "invalid_payload"),
        ({"title": " "}, "empty_content"),
        ({"content": ""}, "empty_content"),
        ({"content": "x" * 16_385}, "content_too_large"),
        ({"priority": "extreme"}, "invalid_payload"),
        ({"clientId": "c" * 129}, "client_id_too_long"),
    ],
)
async def test_bad_input_is_refused_with_its_code(cluster: LiveCluster, wrong: dict[str, Any], code: str) -> None:
    """The same over HTTP as on a socket, with a status that is no server's error."""
    said = {**_words("village", "b.v"), **wrong}
    await cluster.people([UserRow("b.asha", "Asha", role="admin")])
    async with await _raw(cluster, "b.asha") as asha:
        await asha.send_event("emergency_broadcast", said, 7)
        assert (await asha.expect_answer(7))["error"]["code"] == code
    status, body = await _ask(cluster, "POST", "/emergency-broadcast", said)
    assert (status, body["error"]["code"]) == (413 if code == "content_too_large" else 400, code)


async def test_what_is_no_broadcast_is_refused_over_http(cluster: LiveCluster) -> None:
    """No JSON, far too much of it, and a tally of nothing."""
    assert (await _ask(cluster, "POST", "/emergency-broadcast", "no object"))[0] == 400
    status, body = await _ask(cluster, "POST", "/emergency-broadcast", {"title": "x" * (1 << 20)})
    assert (status, body["error"]["code"]) == (413, "content_too_large")
    for unknown in ("0" * 32, "x", "0" * 36):
        status, body = await _ask(cluster, "GET", f"/broadcasts/{unknown}")
        assert (status, body["error"]["code"]) == (404, "not_found")


async def test_a_broadcast_to_ten_thousand_villages_is_taken(cluster: LiveCluster) -> None:
    """Over HTTP, where it fits; phones are not sent the ids of all the others."""
    await _villagers(cluster, "t", "asha")
    async with JsClients(History()) as js:
        asha = await _open(js, cluster, "t.asha", gateway=1)
        await _counted(cluster, "t.v", 1)
        posted = await _post(cluster, _words("village", "t.v", *(f"t.v{number}" for number in range(9_999))))
        assert posted["reach"] == {"online": 1, "offline": 0}
        assert (await asha.wait_for("emergency_broadcast")).data["locationIds"] == []
        tally = await _tallied(cluster, posted["broadcastId"], delivered=1)
        assert (tally["recipients"], len(tally["locations"])) == (1, 10_000)


async def test_the_command_line_warns_and_tells_how_far_it_came(cluster: LiveCluster) -> None:
    """`talowa broadcast` on the folder of a running cluster."""
    await _villagers(cluster, "c", "asha")
    sent = await _talowa(cluster, "broadcast", "--village", "c.v", "Flood", "Go to the school.")
    assert sent[1] == "0 are online; 1 will get it when they sign in"
    status, broadcast_id = sent[0].split(": ")
    assert status == "sent"
    tally = await _talowa(cluster, "broadcast", "--tally", broadcast_id)
    assert tally == ["all: for 1, reached 0, still due to 1", "c.v: for 1, reached 0, still due to 1"]


async def test_while_the_store_is_away_it_is_heard_at_once_and_stored_later(cluster: LiveCluster) -> None:
    """It is answered `queued`; who was away then has it due once the store is back, and nobody hears it twice."""
    await _villagers(cluster, "q", "asha", "bala", "away")
    async with JsClients(History()) as js:
        asha, bala = await _open(js, cluster, "q.asha"), await _open(js, cluster, "q.bala", gateway=1)
        await _counted(cluster, "q.v", 2)
        with cluster.store_away():
            answer = await asha.emit("emergency_broadcast", _words("village", "q.v"))
            assert (answer["status"], answer["reach"]["online"]) == ("queued", 2)
            for client in (asha, bala):
                await client.wait_for("emergency_broadcast")
            await until(lambda: _is_told_away(cluster), 10, "the status to say that the store is away")
        tally = await _tallied(cluster, answer["broadcastId"], delivered=2)
        assert (tally["recipients"], tally["due"]) == (3, 1)
        away = await _open(js, cluster, "q.away")
        await away.wait_for("emergency_broadcast")
        assert [len(client.events("emergency_broadcast")) for client in (asha, bala, away)] == [1, 1, 1]


async def test_a_router_that_dies_with_a_broadcast_loses_it_for_nobody(cluster: LiveCluster) -> None:
    """Whoever takes over sounds what it finds; a socket that heard it already does not hear it again."""
    await _villagers(cluster, "k", "asha", "bala", "chitra", "away")
    async with JsClients(History()) as js:
        clients = [
            await _open(js, cluster, f"k.{name}", gateway=n % 2) for n, name in enumerate(("asha", "bala", "chitra"))
        ]
        owner = (await cluster.status())["partitions"][names.alarm_partition(16)]["owner"].partition("-")[0]
        titles = [f"{number}" for number in range(5)]
        for title in titles:
            await clients[0].emit_nowait("emergency_broadcast", _words("village", "k.v", title=title))
        await clients[1].wait_for("emergency_broadcast")
        cluster.processes.kill(owner, signal.SIGKILL)
        clients.append(await _open(js, cluster, "k.away", gateway=1))
        for client in clients:
            for title in titles:
                await client.wait_for("emergency_broadcast", _titled(title), timeout_s=_SOON_S)
        for client in clients:
            assert sorted(e.data["title"] for e in client.events("emergency_broadcast")) == titles
        await cluster.wait_ready()


# --- how tests ask -----------------------------------------------------------------------------------


def _words(level: str, *places: str, title: str = _TELUGU) -> dict[str, Any]:
    content = "గోదావరి పొంగింది. ఎత్తైన చోటికి వెళ్ళండి."
    return {
        "title": title,
        "content": content,
        "locationLevel": level,
        "locationIds": list(places),
        "priority": "critical",
    }


def _titled(title: str) -> Callable[[Event], bool]:
    return lambda event: event.data["title"] == title


async def _villagers(cluster: LiveCluster, here: str, *users: str) -> None:
    """People of the village `<here>.v`, and of its mandal, district and state; the first is its coordinator."""
    await cluster.people(
        [
            UserRow(
                f"{here}.{user}",
                user.title(),
                role="member" if number else "coordinator",
                state_id=f"{here}.s",
                district_id=f"{here}.d",
                mandal_id=f"{here}.m",
                village_id=f"{here}.v",
            )
            for number, user in enumerate(users)
        ]
    )


async def _open(
    js: JsClients, cluster: LiveCluster, user: str, name: str | None = None, *, gateway: int = 0
) -> JsClient:
    """A device of a user, signed in."""
    client = await js.open(name or user, cluster.urls[gateway], {"token": cluster.token(user)}, user=user)
    await client.wait_for("auth_success")
    return client


async def _raw(cluster: LiveCluster, user: str) -> RawClient:
    """A device that acknowledges nothing by itself, signed in."""
    raw = await RawClient.connect(cluster.urls[0], {"token": cluster.token(user)})
    await raw.expect_event("auth_success")
    return raw


async def _next(raw: RawClient) -> tuple[str, Any]:
    """The next event: the acknowledgement it waits for, and its array."""
    frame = await raw.expect("42")
    start = frame.index("[")
    return frame[2:start], json.loads(frame[start:])


async def _ask(
    cluster: LiveCluster, method: str, path: str, body: Any = None, token: str | None = ""
) -> tuple[int, Any]:
    """A call to the internal port of the second gateway: status and answer. As the operator unless told otherwise."""
    token = Keyring(cluster.home).admin_token() if token == "" else token
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    port = next(each.ports["internal"] for each in cluster.processes.state().processes if each.name == "g2")
    data = None if body is None else io.BytesIO(json.dumps(body).encode())
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{_HOST}:{port}{path}", data=data, headers=headers) as response,
    ):
        return response.status, await response.json()


async def _talowa(cluster: LiveCluster, *arguments: str) -> list[str]:
    """What the command prints."""
    environment = {**os.environ, "DATA_DIR": str(cluster.home)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.local", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode().splitlines()


async def _post(cluster: LiveCluster, said: dict[str, Any]) -> dict[str, Any]:
    status, body = await _ask(cluster, "POST", "/emergency-broadcast", said)
    assert status == 200, body
    answer: dict[str, Any] = body
    return answer


async def _tallied(cluster: LiveCluster, broadcast_id: str, *, delivered: int) -> dict[str, Any]:
    """The tally, once so many have it."""

    async def tally() -> Any:
        status, body = await _ask(cluster, "GET", f"/broadcasts/{broadcast_id}")
        return body if status == 200 and body["delivered"] == delivered else None

    found: dict[str, Any] = await until(tally, _SOON_S, f"{delivered} who have it")
    return found


async def _counted(cluster: LiveCluster, village: str, online: int) -> None:
    """Wait until the cluster knows how many of a village are online, which follows a sign-in by milliseconds."""

    async def is_counted() -> bool:
        keys = [f"talowa:{{d{shard}}}:residents" for shard in range(8)]
        counts = await cluster.broker.batch([("HGET", key, f"village:{village}") for key in keys])
        return sum(int(count or 0) for count in counts) == online

    await until(is_counted, _SOON_S, f"{online} of {village} online")


async def _is_told_away(cluster: LiveCluster) -> bool:
    routers = (await cluster.status())["routers"]
    return any(one["storeAway"] and one["parkedFrames"] == 1 for one in routers)
