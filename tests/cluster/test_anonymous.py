"""Anonymous messages: what others see of their sender, what the sender sees, and what is written anywhere."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio

from libs.wire import codec, names
from libs.wire.frames import Confirm, Confirms, Emit, SealedFrame, SealedReply
from services.local.keyring import Keyring
from services.router.sqlite import UserRow
from tests.support.clients import Client, JsClient, JsClients, PythonClient
from tests.support.cluster import LiveCluster, lasting_cluster
from tests.support.history import History, check
from tests.support.topologies import HOST
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SAID: Final = "The sarpanch took the deeds"
_NEW_KEY: Final = "a-newer-key-of-thirty-two-letters"
_ARGUMENT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(rb'\\(x[0-9a-f]{2}|["\\nrtab])')
_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """One cluster for all tests here; each has people of its own."""
    home: Path = tmp_path_factory.mktemp("cluster")
    async with lasting_cluster(home, environment={"LOG_LEVEL": "debug"}) as running:
        yield running


async def test_a_direct_message_is_a_pseudonyms(cluster: LiveCluster) -> None:
    """To its recipient; the sender hears on both devices how far it came, by their own ids."""
    await cluster.people(["d.asha", "d.ravi", "d.lata"])
    async with (
        JsClients(History()) as js,
        await _python(cluster, "d.asha", "tablet", gateway=1) as tablet,
    ):
        phone, ravi = await _js(js, cluster, "d.asha", "phone"), await _js(js, cluster, "d.ravi", gateway=1)
        lata = await _js(js, cluster, "d.lata")
        first = await phone.send_message(_anonymous("d.asha-1", recipientId="d.ravi"))
        assert (first["ok"], first["status"], first["clientId"], first["seq"]) == (True, "sent", "d.asha-1", 1)
        message = (await ravi.wait_for("new_message")).data
        pseudonym = message["senderId"]
        assert names.is_pseudonym(pseudonym)
        assert message["conversationId"] == first["conversationId"] == names.direct(pseudonym, "d.ravi")
        assert (message["id"], message["clientId"]) == (first["messageId"], first["messageId"])
        assert (message["senderName"], message["senderRole"], message["isAnonymous"]) == ("Anonymous", "member", True)
        assert (message["content"], message["recipientId"]) == (_SAID, "d.ravi")
        own = (await tablet.wait_for("new_message")).data
        assert own == message
        await ravi.emit("mark_as_read", {"conversationId": message["conversationId"], "seq": 1})
        for device in (phone, tablet):
            told = await _told(device, first["messageId"], "read")
            assert (told["clientId"], told["clientMessageId"]) == ("d.asha-1", "m-d.asha-1")
            assert (await device.wait_for("message_read")).data["readBy"] == "d.ravi"
        assert not phone.events("new_message")

        second = await tablet.send_message(_anonymous("d.asha-2", recipientId="d.ravi"))
        third = await phone.send_message(_anonymous("d.asha-3", conversationId=first["conversationId"]))
        assert [second["seq"], third["seq"]] == [2, 3]
        to_lata = await phone.send_message(_anonymous("d.asha-4", conversationId="d.lata"))
        await ravi.wait_for_messages(3)
        assert {event.data["senderId"] for event in ravi.events("new_message")} == {pseudonym}
        other = (await lata.wait_for("new_message")).data
        assert other["conversationId"] == to_lata["conversationId"]
        assert other["senderId"] != pseudonym
        assert pseudonym not in str([event.data for event in lata.events("new_message")])
        for whose in (phone, ravi):
            found = await whose.emit("search_messages", {"query": "deeds", "conversationId": first["conversationId"]})
            assert [one["seq"] for one in found["results"]] == [3, 2, 1]
        named = await phone.send_message({"clientId": "d.asha-1", "recipientId": "d.ravi", "content": "It is me"})
        assert named["conversationId"] == "direct:d.asha:d.ravi", "a named one is another message, elsewhere"


async def test_a_group_sees_a_member_of_it_and_not_which(cluster: LiveCluster) -> None:
    """The sender has the message like everyone else; counts are of the others; each group sees another name."""
    history = History()
    members = ["g.asha", "g.bala", "g.chitra"]
    await cluster.people([UserRow(id="g.asha", name="Asha", role="coordinator"), *members[1:]])
    await cluster.people([], {"g.one": members, "g.two": members})
    async with JsClients(history) as js, await _python(cluster, "g.asha", "tablet", gateway=1, history=history) as tab:
        phone, bala = await _js(js, cluster, "g.asha", "phone"), await _js(js, cluster, "g.bala")
        seen: list[str] = []
        for kind, group in (("text", "g.one"), ("emergency", "g.one"), ("text", "g.two")):
            answer = await phone.send_message(_anonymous(f"g.asha-{len(seen)}", groupId=group, type=kind))
            assert answer["conversationId"] == f"group:{group}"
            for device in (phone, tab, bala):
                event = await device.wait_for("new_message", _is_about(answer["messageId"], "id"))
                assert event.data["senderName"] == "Anonymous"
                assert event.data["senderRole"] == "member"
                assert event.data["type"] == kind
            seen.append(event.data["senderId"])
        assert seen[0] == seen[1] != seen[2]
        told = await _told(tab, answer["messageId"], "delivered")
        assert told["recipients"] == {"total": 2, "delivered": 1, "read": 0}
        assert told["clientId"] == "g.asha-2"
        chitra = await _js(js, cluster, "g.chitra", gateway=1)
        page = (await chitra.wait_for("offline_messages")).data["messages"]
        assert sorted(m["senderId"] for m in page) == sorted(seen), "what is due is a pseudonym's as well"
        await chitra.emit("mark_as_read", {"conversationId": "group:g.two", "seq": 1})
        counts = {"total": 2, "delivered": 2, "read": 1}
        for device in (phone, tab):
            await device.wait_for("message_delivery_status", lambda e: e.data.get("recipients") == counts)
        own = await phone.emit("get_conversation_history", {"conversationId": "group:g.two"})
        theirs = await bala.emit("get_conversation_history", {"conversationId": "group:g.two"})
        assert [m["status"] for m in own["messages"]] == ["read"]
        assert [{**m, "status": "read"} for m in theirs["messages"]] == own["messages"]
        assert "status" not in theirs["messages"][0]
    report = check(
        history, {f"group:{group}": ("phone", "tablet", "g.bala", "g.chitra") for group in ("g.one", "g.two")}
    )
    assert report.ok, report


async def test_a_message_sent_again_is_the_same_message(cluster: LiveCluster) -> None:
    """From either device, in a group and to one person: one id, one place, brought once."""
    await cluster.people(["r.asha", "r.ravi"], {"r.team": ["r.asha", "r.ravi"]})
    async with JsClients(History()) as js, await _python(cluster, "r.asha", "tablet", gateway=1) as tablet:
        phone, ravi = await _js(js, cluster, "r.asha", "phone"), await _js(js, cluster, "r.ravi", gateway=1)
        for number, to in enumerate(({"recipientId": "r.ravi"}, {"groupId": "r.team"}), start=1):
            first = await phone.send_message(_anonymous(f"r.asha-{number}", **to))
            await _told(phone, first["messageId"], "delivered")
            for device in (phone, tablet):
                assert await device.send_message(_anonymous(f"r.asha-{number}", **to)) == first
            assert [e.data["id"] for e in ravi.events("new_message")].count(first["messageId"]) == 1


async def test_what_may_not_be_is_refused_with_its_code(cluster: LiveCluster) -> None:
    """Answers, names where one is anonymous, blocked pseudonyms, addresses that name the sender."""
    await cluster.people(["n.asha", "n.ravi", "n.lata"])
    async with JsClients(History()) as js:
        asha, ravi = await _js(js, cluster, "n.asha"), await _js(js, cluster, "n.ravi", gateway=1)
        lata = await _js(js, cluster, "n.lata")
        hidden = (await asha.send_message(_anonymous("1", recipientId="n.ravi")))["conversationId"]
        pseudonym = (await ravi.wait_for("new_message")).data["senderId"]
        upload = {"type": "image", "mediaUrl": "https://files.example/o/users%2Fn.asha%2F1.jpg"}
        for client, payload, code in (
            (ravi, {"recipientId": pseudonym}, "no_reply"),
            (ravi, {"conversationId": hidden, "isAnonymous": True}, "no_reply"),
            (lata, {"recipientId": pseudonym}, "no_reply"),
            (lata, {"conversationId": hidden}, "access_denied"),
            (asha, {"conversationId": hidden}, "identity_exposed"),
            (asha, {"recipientId": "n.ravi", "isAnonymous": True, **upload}, "identity_exposed"),
            (asha, {"recipientId": "n.ravi", "isAnonymous": True, "type": "emergency"}, "role_required"),
            (asha, {"recipientId": "n.nobody", "isAnonymous": True}, "recipient_not_found"),
        ):
            answer = await client.emit("send_message", {"clientId": code, "content": "x", **payload})
            assert answer["error"]["code"] == code, (client.name, payload)
            await client.wait_for("message_error", _is_about(code, "clientId"))
        for reader, may in ((asha, True), (ravi, True), (lata, False)):
            for event in ("get_conversation_history", "join_conversation"):
                assert (await reader.emit(event, {"conversationId": hidden}))["ok"] is may, (reader.name, event)
        assert (await asha.emit("sync", {"cursors": {hidden: 1}}))["ok"]
        await cluster.people([UserRow(id="n.ravi", name="Ravi", blocked=frozenset({pseudonym}))])

        tries = count()

        async def is_blocked() -> bool:
            answer = await asha.emit("send_message", _anonymous(f"again-{next(tries)}", recipientId="n.ravi"))
            return answer["ok"] is False and answer["error"]["code"] == "blocked"

        await until(is_blocked, 5, "the block to be heard of")


async def test_the_real_id_is_written_nowhere_beside_the_message(cluster: LiveCluster) -> None:
    """Not in a frame on any stream, a command to the broker, a column of the store, a log or a metric.

    In a group the sender's id stands among those of all other members, and nowhere else.
    """
    assert cluster.database.exists()
    me, members = "z.asha", ["z.asha", "z.bala", "z.ravi"]
    await cluster.people([UserRow(id=me, name="Zareena Asha"), "z.bala", "z.ravi"], {"z.team": members})
    async with _monitor(cluster) as lines, JsClients(History()) as js:
        phone, tablet = await _js(js, cluster, me, "phone"), await _js(js, cluster, me, "tablet", gateway=1)
        bala, ravi = await _js(js, cluster, "z.bala"), await _js(js, cluster, "z.ravi", gateway=1)
        media = {"mediaUrl": "https://files.example/1", "mediaMetadata": {"senderId": me, "width": 3}}
        direct = await phone.send_message(_anonymous(f"{me}-1", recipientId="z.ravi", type="image", **media))
        group = await phone.send_message(_anonymous(f"{me}-2", groupId="z.team", type="image", **media))
        for answer in (direct, group):
            await phone.send_message({**_anonymous(answer["clientId"]), "conversationId": answer["conversationId"]})
            for device in (phone, tablet):
                await _told(device, answer["messageId"], "delivered")
        for device in (phone, tablet, ravi):
            for answer in (direct, group):
                await device.emit("message_delivered", {"messageId": answer["messageId"]})
                await device.emit("message_read", {"messageId": answer["messageId"]})
                await device.emit("get_conversation_history", {"conversationId": answer["conversationId"]})
            await device.emit("sync", {"cursors": {direct["conversationId"]: 0}})
        await phone.emit("send_message", {**_anonymous(f"{me}-3"), "conversationId": "direct:z.bala:z.ravi"})
        await _told(tablet, direct["messageId"], "read")
        await bala.wait_for_messages(1)

        async def is_saved() -> bool:
            return "z.ravi" in {row[1] for row in _rows(cluster, "members") if row[0] == "group:z.team" and row[3]}

        await until(is_saved, 5, "the receipts to be in the store")
        pages = [str(await cluster.get(name, "/metrics")) for name in ("g1", "g2", "r1", "r2", "presence")]
    _assert_no_frame_names(me, members, [frame for line in lines for frame in _frames(line)], direct, group)
    assert any(':ledger"' in line for line in lines)
    assert [line for line in lines if ':ledger"' in line and '"XADD"' in line and me in line] == []
    marks = {*_marks(direct), *_marks(group)}
    arguments = [argument for line in lines if '"XADD"' not in line for argument in _ARGUMENT.findall(line)]
    columns = ["\n".join(map(str, row)) for table in ("messages", "members") for row in _rows(cluster, table)]
    assert any(group["messageId"] in row for row in columns)
    for text in (*arguments, *columns):
        assert not (me in text and any(mark in text for mark in marks)), text
    told = "\n".join([cluster.logs(), *pages])
    assert '"event": "started"' in told
    assert [secret for secret in (me, "Zareena", *_secrets(cluster)) if secret in told] == []


async def test_statuses_of_old_messages_survive_a_change_of_keys(cluster: LiveCluster) -> None:
    """Routers come back with `new,old`: who wrote before still hears, and writes on under the same pseudonym."""
    await cluster.people(["k.asha", "k.ravi"], {"k.team": ["k.asha", "k.ravi"]})
    async with JsClients(History()) as js:
        asha = await _js(js, cluster, "k.asha")
        sent = [
            await asha.send_message(_anonymous(f"k.asha-{number}", **to))
            for number, to in enumerate(({"recipientId": "k.ravi"}, {"groupId": "k.team"}))
        ]
        await asyncio.gather(*(cluster.processes.stop(name) for name in ("r1", "r2")))
        for name in ("r1", "r2"):
            _give(cluster, name, ANONYMITY_KEYS=f"{_NEW_KEY},{Keyring(cluster.home).anonymity_key()}")
            await cluster.processes.start(name)
        await cluster.wait_ready("r1", "r2")
        ravi = await _js(js, cluster, "k.ravi", gateway=1)
        page = (await ravi.wait_for("offline_messages")).data["messages"]
        assert sorted(m["id"] for m in page) == sorted(answer["messageId"] for answer in sent)
        for answer in sent:
            told = await _told(asha, answer["messageId"], "delivered")
            assert told["clientId"] == answer["clientId"]
        again = await asha.send_message(_anonymous("k.asha-0", recipientId="k.ravi"))
        assert (again["messageId"], again["seq"]) == (sent[0]["messageId"], 1)
        after = await asha.send_message(_anonymous("k.asha-9", recipientId="k.ravi"))
        assert (after["conversationId"], after["seq"]) == (sent[0]["conversationId"], 2)
        await _told(asha, after["messageId"], "delivered")


# --- how tests ask -----------------------------------------------------------------------------------


def _anonymous(client_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"m-{client_id}", "clientId": client_id, "content": _SAID, "isAnonymous": True, **fields}


async def _js(js: JsClients, cluster: LiveCluster, user: str, name: str | None = None, gateway: int = 0) -> JsClient:
    client = await js.open(name or user, cluster.urls[gateway], {"token": cluster.token(user)}, user=user)
    await client.wait_for("auth_success")
    return client


async def _python(
    cluster: LiveCluster, user: str, name: str, gateway: int = 0, history: History | None = None
) -> PythonClient:
    auth = {"token": cluster.token(user)}
    client = await PythonClient.open(history or History(), name, cluster.urls[gateway], auth, user=user)
    await client.wait_for("auth_success")
    return client


def _is_about(message_id: str, field: str = "messageId") -> Any:
    return lambda event: event.data[field] == message_id


async def _told(client: Client, message_id: str, status: str) -> dict[str, Any]:
    """What a sender was told when a message came so far."""
    event = await client.wait_for(
        "message_delivery_status", lambda e: e.data["messageId"] == message_id and e.data["status"] == status
    )
    told: dict[str, Any] = event.data
    return told


def _give(cluster: LiveCluster, name: str, **environment: str) -> None:
    """Other settings for a process, from its next start."""
    child = cluster.processes._children[name]
    child.process = msgspec.structs.replace(child.process, environment=child.process.environment | environment)


def _marks(answer: dict[str, Any]) -> set[str]:
    """What tells that something is about this message or its conversation."""
    pair = names.direct_pair(answer["conversationId"]) or ()
    return {answer["messageId"], answer["messageId"][4:], *filter(names.is_pseudonym, pair)}


def _assert_no_frame_names(
    me: str, members: list[str], frames: list[Any], direct: dict[str, Any], group: dict[str, Any]
) -> None:
    """No frame has both the sender and the message; but for those in which all members of a group stand alike."""
    kinds = {type(frame) for frame in frames}
    assert kinds >= {SealedFrame, SealedReply, Emit}
    for frame in (frame for frame in frames if me in repr(frame)):
        text = repr(frame)
        assert f"{me}-" not in text, "the sender's own ids hold their id"
        assert not any(mark in text for mark in _marks(direct)), frame
        if any(mark in text for mark in _marks(group)):
            assert isinstance(frame, Emit), frame
            assert (frame.event, len(frame.users)) == ("new_message", 2), "everyone who is on that gateway"
    confirmed = {frame.user_id for frame in frames if isinstance(frame, Confirm)}
    confirmed |= {user for frame in frames if isinstance(frame, Confirms) for user in frame.user_ids}
    assert confirmed >= set(members), "the sender confirms like all others"


def _secrets(cluster: LiveCluster) -> tuple[str, ...]:
    keyring = Keyring(cluster.home)
    return keyring.cluster_secret(), keyring.anonymity_key(), keyring.pseudonym_secret()


def _rows(cluster: LiveCluster, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(cluster.database)) as db:
        return db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - a table of ours


@asynccontextmanager
async def _monitor(cluster: LiveCluster) -> AsyncIterator[list[str]]:
    """Every command that the broker is given while the block runs, as `MONITOR` writes it."""
    lines: list[str] = []

    async def read(reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            lines.append(line.decode().rstrip())

    writers, reading = [], []
    async with asyncio.TaskGroup() as tasks:
        for server in await cluster.servers.primaries():
            reader, writer = await asyncio.open_connection(HOST, cluster.servers.port(server), limit=1 << 24)
            writer.write(b"MONITOR\r\n")
            assert await reader.readline() == b"+OK\r\n"
            writers.append(writer)
            reading.append(tasks.create_task(read(reader)))
        yield lines
        await until(lambda: len(lines) > 0, 5, "a command")
        for task in reading:
            task.cancel()
    for writer in writers:
        writer.close()


def _frames(line: str) -> Iterator[Any]:
    """The frames that a command adds to a stream, if it is one that does."""
    command, *arguments = _ARGUMENT.findall(line)
    if command != "XADD" or arguments[0].endswith(":ledger"):
        return
    entry = _ESCAPE.sub(_unescaped, arguments[-1].encode())
    if arguments[0].endswith(":in"):
        frames, unreadable = codec.unpack_inbound(entry)
        assert not unreadable
        yield from frames
    elif entry:
        for section in codec.unpack_downlink(entry):
            yield from section.frames


def _unescaped(found: re.Match[bytes]) -> bytes:
    escaped = found[1]
    return bytes([int(escaped[1:], 16)]) if escaped.startswith(b"x") else _ESCAPES.get(escaped, escaped)
