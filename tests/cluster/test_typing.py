"""Who types is shown to the others, at once, for as long as it is so."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from services.router.sqlite import UserRow
from tests.support.clients import Client, JsClients, PythonClient
from tests.support.cluster import LiveCluster, lasting_cluster
from tests.support.history import History

pytestmark = pytest.mark.asyncio(loop_scope="module")

_TYPING_S: Final = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """One cluster for all tests here; each has people of its own. Typing ends soon in it."""
    home: Path = tmp_path_factory.mktemp("cluster")
    environment = {"TYPING_S": str(_TYPING_S), "COUNTED_MEMBERS_MAX": "5"}
    async with lasting_cluster(home, routers=1, environment=environment) as running:
        yield running


async def test_typing_is_shown_to_the_other_participants_only(cluster: LiveCluster) -> None:
    """In a group and directly, to browsers and Python clients, by every name of the event."""
    people = ["a.asha", "a.bala", "a.chitra", "a.dina"]
    await cluster.people(people, {"a.team": people[:3]})
    history = History()
    async with JsClients(history) as js:
        asha, chitra, dina = [
            await _open(js, cluster, user, gateway) for user, gateway in (("a.asha", 0), ("a.chitra", 0), ("a.dina", 1))
        ]
        asha2 = await _open(js, cluster, "a.asha", 1, name="asha's tablet")
        token = {"token": cluster.token("a.bala")}
        async with await PythonClient.open(history, "a.bala", cluster.urls[1], token) as bala:
            await bala.wait_for("auth_success")
            began = time.time() * 1000
            assert await asha.emit("typing_start", {"conversationId": "group:a.team"}) == {"ok": True}
            for client in (bala, chitra):
                told = (await client.wait_for("typing_indicator")).data
                assert began - 1000 < told.pop("timestamp") < began + 5000
                assert told == {
                    "userId": "a.asha",
                    "userName": "A.Asha",
                    "conversationId": "group:a.team",
                    "isTyping": True,
                }
            assert (await asha.emit("typing_start", {"conversationId": "a.team"}))["ok"]
            assert (await asha.emit("typing_indicator", {"conversationId": "a.team", "isTyping": False}))["ok"]
            await _typing(bala, "group:a.team", [True, False])
            await _typing(chitra, "group:a.team", [True, False])
            assert (await bala.emit("typing_indicator", {"conversationId": "a.asha"}))["ok"]
            assert (await bala.emit("typing_stop", {"conversationId": "direct:a.asha:a.bala"}))["ok"]
            for device in (asha, asha2):
                await _typing(device, "direct:a.asha:a.bala", [True, False])
            outside = await dina.emit("typing_start", {"conversationId": "group:a.team"})
            nowhere = await dina.emit("typing_start", {"conversationId": "group:a.nowhere"})
            assert outside["error"] == nowhere["error"]
            assert outside["error"]["code"] == "access_denied"
            assert dina.events("typing_indicator") == []
            assert [event.data["conversationId"] for event in bala.events("typing_indicator")] == ["group:a.team"] * 2


async def test_typing_ends_by_itself_and_repeats_put_it_off(cluster: LiveCluster) -> None:
    """The others are told once of the start, however often it is said, and once of the end."""
    await cluster.people(["b.asha", "b.bala"])
    async with JsClients(History()) as js:
        asha, bala = await _open(js, cluster, "b.asha", 0), await _open(js, cluster, "b.bala", 1)
        for _ in range(3):
            await asha.emit("typing_start", {"conversationId": "b.bala"})
            await bala.wait_for("typing_indicator")
            last = time.monotonic()
            await asyncio.sleep(_TYPING_S * 0.4)
        assert len(bala.events("typing_indicator")) == 1
        await _typing(bala, "direct:b.asha:b.bala", [True, False])
        assert _TYPING_S - 0.2 < time.monotonic() - last < _TYPING_S + 1.5


async def test_typing_ends_with_its_socket(cluster: LiveCluster) -> None:
    """At once, when the socket goes: nobody waits until it would end by itself."""
    await cluster.people(["c.asha", "c.bala"])
    async with JsClients(History()) as js:
        asha, bala = await _open(js, cluster, "c.asha", 0), await _open(js, cluster, "c.bala", 1)
        await asha.emit("typing_start", {"conversationId": "c.bala"})
        await _typing(bala, "direct:c.asha:c.bala", [True])
        began = time.monotonic()
        await asha.close()
        await _typing(bala, "direct:c.asha:c.bala", [True, False])
        assert time.monotonic() - began < _TYPING_S * 0.8


async def test_a_large_group_and_a_pseudonym_are_told_nothing(cluster: LiveCluster) -> None:
    """The one is answered, the other refused; nobody is named, and nobody blocked is shown."""
    crowd = [f"d.user{number}" for number in range(6)]
    asha = UserRow(id="d.asha", name="Asha", blocked=frozenset({"d.user1"}))
    await cluster.people([asha, *crowd], {"d.crowd": crowd})
    async with JsClients(History()) as js:
        one, other = await _open(js, cluster, crowd[0], 0), await _open(js, cluster, crowd[1], 1)
        assert await one.emit("typing_start", {"conversationId": "d.crowd"}) == {"ok": True}
        for where, code in (
            ("direct:anon-0123456789abcdef0123:d.user1", "access_denied"),
            ("d.asha", "blocked"),
            ("no such thing", "invalid_payload"),
            ("direct:d.asha:d.user0", "access_denied"),
        ):
            assert (await other.emit("typing_start", {"conversationId": where}))["error"]["code"] == code
        assert (await one.emit("typing_start", {"conversationId": crowd[1]}))["ok"]
        await _typing(other, "direct:d.user0:d.user1", [True])
        assert len(other.events("typing_indicator")) == 1


async def test_typing_ends_though_the_typists_gateway_is_killed(cluster: LiveCluster) -> None:
    """With -9: whose sockets were told knows by itself."""
    await cluster.people(["f.asha", "f.bala"])
    async with JsClients(History()) as js:
        asha, bala = await _open(js, cluster, "f.asha", 0), await _open(js, cluster, "f.bala", 1)
        assert (await asha.emit("typing_start", {"conversationId": "f.bala"}))["ok"]
        await _typing(bala, "direct:f.asha:f.bala", [True])
        cluster.processes.kill("g1")
        await _typing(bala, "direct:f.asha:f.bala", [True, False])


async def _open(js: JsClients, cluster: LiveCluster, user: str, gateway: int, name: str | None = None) -> Client:
    client = await js.open(name or user, cluster.urls[gateway], {"token": cluster.token(user)}, user=user)
    await client.wait_for("auth_success")
    return client


async def _typing(client: Client, conversation_id: str, expected: list[bool]) -> None:
    """Wait until a client was told exactly this of the one who types there."""

    def told() -> list[bool]:
        said = [event.data for event in client.events("typing_indicator")]
        return [data["isTyping"] for data in said if data["conversationId"] == conversation_id]

    if len(told()) < len(expected):
        await client.wait_for("typing_indicator", lambda _: len(told()) >= len(expected), 10.0)
    assert told() == expected
