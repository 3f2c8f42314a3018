"""A cluster whose record is in Firestore: on Google's emulator, over a line that can be cut."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from libs.storage.firestore.client import Client as Firestore
from libs.storage.firestore.client import open_client
from libs.storage.firestore.query import Query
from libs.storage.firestore.settings import Limits, Place
from libs.storage.firestore.values import Stamp
from libs.wire import names
from services.router import firestore
from services.router.store import Group, UserRow
from tests.support.clients import Client, PythonClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.firestore import Emulator, Line, cuttable, running_emulator, stored_in, told_of
from tests.support.history import History, check
from tests.support.load import Lane, Traffic, arrived, steady_traffic, tell
from tests.support.waiting import until

_SOON_S: Final = 60.0
_PEOPLE: Final = ("asha", "bala", "chitra")
_LIMITS: Final = Limits(patience_s=30.0, writes_per_s=0)


class Scene(NamedTuple):
    """A cluster on the emulator, and three people of whom nobody is here yet."""

    cluster: LiveCluster
    history: History
    line: Line
    place: Place

    async def open(self, person: str, gateway: int = 0) -> PythonClient:
        """Sign somebody in."""
        token = {"token": self.cluster.token(person)}
        client = await PythonClient.open(self.history, f"{person}1", self.cluster.urls[gateway], token, user=person)
        await client.wait_for("auth_success", timeout_s=_SOON_S)
        return client


@asynccontextmanager
async def _scene(home: Path, emulator: Emulator) -> AsyncIterator[Scene]:
    project = f"demo-{secrets.token_hex(6)}"
    place = Place(project, emulator=emulator.address)
    async with firestore.open_store(place, _LIMITS) as store:
        await store.put_users([UserRow(person, person.title()) for person in _PEOPLE])
        await store.put_groups([Group("sangham", "Sangham", frozenset(_PEOPLE))])
    with cuttable(emulator.address) as line:
        environment = told_of(Place(project, emulator=line.address))
        # One router, so that no partition goes to another that does not know of it yet what it knows.
        async with live_cluster(home, routers=1, environment=environment) as cluster:
            yield Scene(cluster, History(), line, place)


async def test_messages_are_kept_as_the_app_has_them_and_due_to_who_is_away(
    tmp_path: Path, firestore_emulator: Emulator
) -> None:
    """Direct and to a group; who comes later is sent what is owed; the documents have the app's fields."""
    async with _scene(tmp_path, firestore_emulator) as scene:
        async with await scene.open("asha") as asha, await scene.open("bala", 1) as bala:
            for number in range(3):
                sent = await asha.send_message({"clientId": f"d{number}", "recipientId": "bala", "content": "భూమి"})
                assert sent["status"] == "sent"
                await asha.send_message({"clientId": f"g{number}", "groupId": "sangham", "content": "మనది"})
            await bala.wait_for_messages(6, _SOON_S)
            await _told(asha, sent["messageId"], "delivered")
            async with await scene.open("chitra") as chitra:
                await chitra.wait_for_messages(3, _SOON_S)
        report = check(scene.history, {"direct:asha:bala": ("asha1", "bala1"), "group:sangham": ("bala1", "chitra1")})
        assert report.ok, report
        async with open_client(scene.place, _LIMITS) as client:
            key = names.key_of(sent["messageId"]) or ""
            (document,) = (await client.get([client.name("messages", key)])).values()
            (there,) = await _read(client, "conversations", "conversationId", "direct:asha:bala")
            await until(lambda: _read(client, "user_presence", "userId", "asha"), _SOON_S, "when asha was last seen")
        written = await scene.cluster.metric("r1", 'talowa_router_store_documents_total{how="written"}')
        assert written >= 6 + 2  # six messages, a document each, and their conversations
        await until(
            lambda: _is_audited(scene.cluster, 6), _SOON_S, "the ledger of six messages compared with the record"
        )
        assert await scene.cluster.metric("r1", "talowa_unaccounted_messages") == 0
        fields = document.fields
        assert isinstance(fields.pop("timestamp"), Stamp)
        assert isinstance(fields.pop("createdAt"), Stamp)
        assert fields.pop("serverTimeMs") > 0
        assert fields == {
            "conversationId": "direct:asha:bala",
            "seq": 3,
            "senderId": "asha",
            "senderName": "Asha",
            "senderRole": "member",
            "recipientId": "bala",
            "type": "text",
            "content": "భూమి",
            "clientMessageId": "d2",
            "encryptionLevel": "standard",
            "isEncrypted": False,
            "isAnonymous": False,
            "deliveryStatus": "sent",
            "rank": 1,
            "words": ["భూమ", "భ"],
        }
        assert there["participantIds"] == ["asha", "bala"]


async def test_while_firestore_is_away_delivery_goes_on_and_nothing_is_lost(
    tmp_path: Path, firestore_emulator: Emulator
) -> None:
    """Refused or silent: `queued` is the answer and the recipient has it; `sent` follows when it is back."""
    async with (
        _scene(tmp_path, firestore_emulator) as scene,
        await scene.open("asha") as asha,
        await scene.open("bala", 1) as bala,
    ):
        assert (await asha.send_message(_to("bala", "before")))["status"] == "sent"
        # Known to the routers: somebody new could not be judged while the store is away.
        assert (await asha.send_message(_group("before-g")))["status"] == "sent"
        for how, (cut, mend) in {
            "refused": (scene.line.cut, scene.line.mend),
            "silent": (firestore_emulator.pause, firestore_emulator.resume),
        }.items():
            queued: list[str] = []
            cut()
            try:
                for number in range(5):
                    name = f"{how}{number}"
                    answer = await asha.send_message(_to("bala", name) if number % 2 else _group(name), _SOON_S, 10.0)
                    assert answer["status"] == "queued", answer
                    queued.append(answer["messageId"])
                    await bala.wait_for("new_message", _is(answer["messageId"]), _SOON_S)
            finally:
                mend()
            for message_id in queued:
                await _told(asha, message_id, "sent")
        report = check(scene.history, {"direct:asha:bala": ("asha1", "bala1"), "group:sangham": ("asha1", "bala1")})
        assert report.ok, report
        async with open_client(scene.place, _LIMITS) as client:
            for where, count in (("direct:asha:bala", 5), ("group:sangham", 7)):
                kept = await _read(client, "messages", "conversationId", where)
                assert sorted(fields["seq"] for fields in kept) == list(range(1, count + 1))


async def test_a_killed_firestore_comes_back_with_all_that_it_confirmed_and_gets_the_rest(tmp_path: Path) -> None:
    """People write all the time; it stands still for a while, then it is killed in mid-write and started again.

    What it had confirmed stands for its disk: it is written down when nothing gets through any more.
    """
    with running_emulator(tmp_path) as emulator:
        async with (
            _scene(tmp_path / "cluster", emulator) as scene,
            await scene.open("asha") as asha,
            await scene.open("bala", 1) as bala,
        ):
            lanes = [Lane(asha, {"recipientId": "bala"}), Lane(bala, {"groupId": "sangham"})]
            waited: list[dict[str, Any]] = []
            async with steady_traffic(lanes) as traffic:
                emulator.pause()
                waited += await _goes_on(traffic, asha, bala)
                emulator.resume()
                await _is_confirmed_again(traffic)
                confirmed = [answer for answer in traffic.answers if answer["status"] == "sent"]
                scene.line.cut()
                waited += await _goes_on(traffic, asha, bala)
                kept = emulator.export(scene.place.project_id)
                emulator.kill()
                waited += await _goes_on(traffic, asha, bala)
                await asyncio.to_thread(emulator.start, kept)  # seconds, in which people write on
                assert _places(confirmed).items() <= (await stored_in(scene.place)).items()
                scene.line.mend()
                await _is_confirmed_again(traffic)
            for answer in waited:
                await _told(bala if "group" in answer["conversationId"] else asha, answer["messageId"], "sent")
            expected = {"direct:asha:bala": ("asha1", "bala1"), "group:sangham": ("asha1", "bala1")}
            report = await arrived(scene.history, expected)
            assert report.ok, report
            stored = await stored_in(scene.place)
            assert stored == _places(traffic.answers)
            for where in expected:
                assert sorted(seq for of, seq in stored if of == where) == list(range(1, traffic.sent // 2 + 1))
            await until(lambda: _is_audited(scene.cluster, len(stored)), _SOON_S, "all of it to be compared")
            assert await scene.cluster.metric("r1", "talowa_unaccounted_messages") == 0
            tell(f"{len(stored)} messages, of which {len(waited)} were looked at while it was away")


async def _goes_on(traffic: Traffic, asha: Client, bala: Client) -> list[dict[str, Any]]:
    """Some of what was written while Firestore is away: it is queued, and the other has it all the same."""
    await until(lambda: traffic.answers[-1]["status"] == "queued", _SOON_S, "messages to be queued")
    already = traffic.answered
    await traffic.wait_flows()
    queued = traffic.answers[already:]
    assert {answer["status"] for answer in queued} == {"queued"}
    for answer in queued:
        reader = asha if "group" in answer["conversationId"] else bala
        await reader.wait_for("new_message", _is(answer["messageId"]), _SOON_S)
    return queued


async def _is_confirmed_again(traffic: Traffic) -> None:
    await until(lambda: traffic.answers[-1]["status"] == "sent", _SOON_S, "messages to be saved again")


def _places(answers: list[dict[str, Any]]) -> dict[tuple[str, int], str]:
    return {(answer["conversationId"], answer["seq"]): answer["messageId"] for answer in answers}


async def _is_audited(cluster: LiveCluster, messages: int) -> bool:
    return await cluster.metric("r1", "talowa_audited_messages_total") >= messages


async def _read(client: Firestore, collection: str, field: str, value: str) -> list[dict[str, Any]]:
    found = await client.query(Query(collection=collection, where=((field, "==", value),)))
    return [one.fields for one in found]


def _to(person: str, client_id: str) -> dict[str, str]:
    return {"clientId": client_id, "recipientId": person, "content": client_id}


def _group(client_id: str) -> dict[str, str]:
    return {"clientId": client_id, "groupId": "sangham", "content": client_id}


def _is(message_id: str) -> Any:
    return lambda event: event.data["id"] == message_id


async def _told(client: Client, message_id: str, status: str) -> None:
    """Wait until a sender was told this status of a message."""
    await client.wait_for(
        "message_delivery_status", lambda e: e.data["messageId"] == message_id and e.data["status"] == status, _SOON_S
    )
