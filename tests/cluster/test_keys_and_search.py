"""The key directory, high-security messages, and search, on one cluster."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from services.router.sqlite import UserRow
from tests.support.clients import Client, JsClients, PythonClient, RawClient
from tests.support.cluster import LiveCluster, lasting_cluster
from tests.support.e2ee import Device
from tests.support.history import History
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SEALED_TEXT: Final = "tamarind-orchard-at-dawn"
_OPEN_TEXT: Final = "jasmine-garden-at-noon"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """One cluster for all tests here; each has people of its own."""
    home: Path = tmp_path_factory.mktemp("cluster")
    async with lasting_cluster(home, environment={"LOG_LEVEL": "debug"}) as running:
        yield running


# The key directory


async def test_one_time_keys_are_handed_out_once_whatever_happens_to_routers(cluster: LiveCluster) -> None:
    """People on two gateways ask for the same person's keys while a router is killed; the owner hears it is low."""
    await cluster.people(["k.asha", "k.bala", "k.chitra"])
    history = History()
    async with (
        JsClients(history) as js,
        await _open(cluster, history, "k.asha") as asha,
        await _open(cluster, history, "k.chitra", gateway=1) as chitra,
    ):
        bala = await js.open("bala", cluster.urls, {"token": cluster.token("k.bala")}, user="k.bala")
        published = await bala.emit("publish_keys", Device("k.bala", "k.phone").bundle(fresh=60))
        assert published == {"ok": True, "deviceId": "k.phone", "remaining": 60}
        first = [await _keys(client, "k.bala") for client in (asha, chitra)]
        cluster.processes.kill("r1", signal.SIGKILL)
        asking = [_keys(client, "k.bala") for client in (asha, chitra) for _ in range(25)]
        taken = [keys["devices"][0]["oneTimePreKey"]["keyId"] for keys in first + await asyncio.gather(*asking)]
        assert len(set(taken)) == len(taken) == 52
        low = await bala.wait_for("keys_low", lambda e: e.data["remaining"] <= 60 - len(taken))
        assert low.data["deviceId"] == "k.phone"
    await cluster.wait_ready("r1")


async def test_what_may_not_go_into_the_directory_or_out_is_refused(cluster: LiveCluster) -> None:
    """Each with its code; and what was published before stands as it was."""
    await cluster.people(["f.asha", "f.bala", UserRow(id="f.wall", name="Wall", blocked=frozenset({"f.asha"}))])
    good = Device("f.bala", "f.phone").bundle(fresh=1)
    key = good["oneTimePreKeys"][0]
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("publish_keys", Device("f.asha", "f.phone").bundle(), "device_taken"),
        ("publish_keys", good | {"deviceId": "my phone"}, "invalid_payload"),
        ("publish_keys", good | {"oneTimePreKeys": [key] * 101}, "too_many"),
        ("publish_keys", good | {"oneTimePreKeys": [key, key]}, "invalid_keys"),
        ("publish_keys", good | {"identityKey": key["publicKey"]}, "invalid_keys"),
        ("publish_keys", good | {"identityKey": "x"}, "invalid_keys"),
        ("publish_keys", {"deviceId": "f.phone"}, "invalid_payload"),
        ("get_keys", {"userId": "nobody"}, "recipient_not_found"),
        ("get_keys", {"userId": "two words"}, "invalid_payload"),
        ("get_keys", {"userId": "f.wall"}, "blocked"),
        ("get_keys", {}, "invalid_payload"),
    ]
    async with (
        await RawClient.connect(cluster.urls[0], {"token": cluster.token("f.asha")}) as asha,
        await RawClient.connect(cluster.urls[1], {"token": cluster.token("f.bala")}) as bala,
    ):
        await asha.expect_event("auth_success")
        await bala.expect_event("auth_success")
        await bala.send_event("publish_keys", good, ack=1)
        assert (await bala.expect_answer(1))["ok"]
        for number, (event, payload, code) in enumerate(cases):
            await asha.send_event(event, payload, ack=number)
            answer = await asha.expect_answer(number)
            assert answer["error"]["code"] == code, (event, payload, answer)
            assert not answer["error"]["retryable"]
            assert (await asha.expect_event("error"))["event"] == event
        await asha.send_event("get_keys", {"userId": "f.bala"})
        assert (await asha.expect_event("error"))["code"] == "invalid_payload"
        await asha.send_event("get_keys", {"userId": "f.bala"}, ack=1)
        (device,) = (await asha.expect_answer(1))["devices"]
        assert device["identityKey"] == good["identityKey"]
        assert device["oneTimePreKey"] == key


# High security


async def test_nothing_but_the_two_phones_can_read_a_high_security_message(cluster: LiveCluster) -> None:
    """Not the broker's log, which has all that was ever on a stream, nor the store's file, nor what services say."""
    file = cluster.database
    await cluster.people(["s.asha", "s.bala"])
    history = History()
    phones = {user: Device(user, f"{user}-phone") for user in ("s.asha", "s.bala")}
    async with (
        await _open(cluster, history, "s.asha") as asha,
        await _open(cluster, history, "s.bala", gateway=1) as bala,
    ):
        for client, user in ((asha, "s.asha"), (bala, "s.bala")):
            assert (await client.emit("publish_keys", phones[user].bundle()))["ok"]
        keys = (await _keys(asha, "s.bala"))["devices"]
        place = "direct:s.asha:s.bala"
        sealed = phones["s.asha"].seal(_SEALED_TEXT, place, "c1", keys)
        secret = {"clientId": "c1", "recipientId": "s.bala", "encryptionLevel": "high_security", "content": sealed}
        assert (await asha.send_message(secret))["status"] == "sent"
        assert (await asha.send_message({"clientId": "c2", "recipientId": "s.bala", "content": _OPEN_TEXT}))["ok"]
        message = (await bala.wait_for("new_message", lambda e: e.data["clientId"] == "c1")).data
        assert (message["isEncrypted"], message["encryptionLevel"]) == (True, "high_security")
        assert phones["s.bala"].open(message, (await _keys(bala, "s.asha"))["devices"]) == _SEALED_TEXT
        await bala.wait_for_messages(2)

    def kept(folder: str) -> bytes:
        return b"".join(path.read_bytes() for path in cluster.home.rglob(folder) if path.is_file())

    # The log is written behind, within the second; what it holds of the other message shows that it would tell.
    await until(lambda: _OPEN_TEXT.encode() in kept("broker/**/*"), 5, "the broker's log to have the open message")
    database = b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
    told = kept("broker/**/*") + database + cluster.logs().encode()
    assert sealed.encode() in told
    assert _OPEN_TEXT.encode() in database
    assert _SEALED_TEXT.encode() not in told


# Search


async def test_words_are_found_where_one_may_read_and_nowhere_else(cluster: LiveCluster) -> None:
    """In two scripts, from both gateways, newest first; not in sealed content, nor by outsiders, nor after leaving."""
    history = History()
    await cluster.people(["q.asha", "q.bala", "q.dora"], {"q.sangham": ["q.asha", "q.bala"]})
    async with (
        await _open(cluster, history, "q.asha") as asha,
        await _open(cluster, history, "q.bala", gateway=1) as bala,
        await _open(cluster, history, "q.dora") as dora,
    ):
        said = [
            {"recipientId": "q.bala", "content": "భూమి సర్వే సోమవారం"},
            {"groupId": "q.sangham", "content": "Survey: భూమి మాది"},
            {"recipientId": "q.bala", "content": "భూమి", "encryptionLevel": "high_security"},
            {"recipientId": "q.bala", "content": "Nothing of it"},
        ]
        ids = [(await asha.send_message(one | {"clientId": f"c{n}"}))["messageId"] for n, one in enumerate(said)]
        assert await _found(bala, "భూమి") == [ids[1], ids[0]]
        assert await _found(asha, "surv") == [ids[1]]
        assert await _found(asha, "భూమి సర్", conversationId="q.bala") == [ids[0]]
        assert await _found(bala, "భూమి", conversationId="q.sangham") == [ids[1]]
        assert await _found(bala, "భూమి", limit=1) == [ids[1]]
        assert await _found(dora, "భూమి") == []
        event = (await bala.wait_for("search_results")).data
        assert (event["query"], event["conversationId"], len(event["results"])) == ("భూమి", None, 2)
        message = (await bala.wait_for("new_message", lambda e: e.data["id"] == ids[1])).data
        assert event["results"][0] == message
        for place in ("q.sangham", "group:q.sangham", "direct:q.asha:q.bala", "group:nothing"):
            refused = await dora.emit("search_messages", {"query": "భూమి", "conversationId": place})
            assert refused["error"]["code"] == "access_denied", place
        await cluster.people([], {"q.sangham": ["q.asha"]})
        assert await _found(bala, "భూమి") == [ids[0]]


async def test_a_query_that_cannot_be_searched_for_is_refused(cluster: LiveCluster) -> None:
    """Each with its code; signs that are an operator somewhere are none here."""
    await cluster.people(["w.asha"])
    cases: list[tuple[dict[str, Any], str]] = [
        ({"query": "a"}, "query_too_short"),
        ({"query": '*** " -'}, "query_too_short"),
        ({"query": "x" * 201}, "invalid_payload"),
        ({"query": 5}, "invalid_payload"),
        ({}, "invalid_payload"),
        ({"query": "land", "limit": 0}, "invalid_payload"),
        ({"query": "land", "limit": 101}, "invalid_payload"),
        ({"query": "land", "conversationId": "two words"}, "invalid_payload"),
    ]
    async with await _open(cluster, History(), "w.asha") as asha:
        for payload, code in cases:
            answer = await asha.emit("search_messages", payload)
            assert answer["error"]["code"] == code, payload
        for query in ('la" OR "nd', "land*", "NEAR(la nd)", "(((land", "text:land", "land \0 right"):
            assert await _found(asha, query) == []


async def _found(client: Client, query: str, **asked: Any) -> list[str]:
    """The ids of the messages that a search finds, in its order."""
    answer = await client.emit("search_messages", {"query": query, **asked})
    assert answer["ok"], answer
    assert answer["query"] == query
    return [one["id"] for one in answer["results"]]


async def _open(cluster: LiveCluster, history: History, user: str, gateway: int = 0) -> PythonClient:
    """A phone that is signed in."""
    client = await PythonClient.open(
        history, user, cluster.urls[gateway], {"token": cluster.token(user)}, transports=["websocket"], user=user
    )
    await client.wait_for("auth_success")
    return client


async def _keys(client: Client, user_id: str) -> dict[str, Any]:
    """The keys of somebody's devices."""
    answer: dict[str, Any] = await client.emit("get_keys", {"userId": user_id}, timeout_s=15.0)
    assert answer["ok"], answer
    return answer
