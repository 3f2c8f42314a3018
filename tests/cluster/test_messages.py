"""What people say to each other, and what each of their devices hears of it."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from services.router.sqlite import UserRow
from tests.support.clients import Client, Event, JsClient, JsClients, RawClient
from tests.support.cluster import LiveCluster, lasting_cluster
from tests.support.history import History, check

pytestmark = pytest.mark.asyncio(loop_scope="module")

_PAGE: Final = 3
_TELUGU: Final = "భూమి హక్కు మనది"
_HINDI: Final = "ज़मीन हमारी है"
_URL: Final = "https://files.example/1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """One cluster for all tests here; each has people of its own."""
    home: Path = tmp_path_factory.mktemp("cluster")
    async with lasting_cluster(home, environment={"PAGE_MESSAGES": str(_PAGE)}) as running:
        yield running


async def test_people_on_two_gateways_write_to_each_other(cluster: LiveCluster) -> None:
    """What one sends the other receives, once, in order, and the sender sees how far it came."""
    history = History()
    await cluster.people(["a.asha", "a.bala"])
    async with JsClients(history) as js:
        asha = await _open(js, cluster, "a.asha")
        bala = await _open(js, cluster, "a.bala", gateway=1)
        for number in range(10):
            answer = await asha.send_message({"clientId": f"c{number}", "recipientId": "a.bala", "content": _TELUGU})
            assert answer["seq"] == number + 1
        await bala.wait_for_messages(10)
        await _told(asha, answer["messageId"], "delivered")
    report = check(history, {"direct:a.asha:a.bala": ("a.asha", "a.bala")})
    assert report.ok, report


@pytest.mark.parametrize("kind", ["text", "image", "document", "voice", "location", "emergency"])
async def test_every_kind_of_message_arrives_as_it_was_written(cluster: LiveCluster, kind: str) -> None:
    """To one person and to a group, with its media, in its own script, from whoever signed in."""
    me, you, group = f"k.asha-{kind}", f"k.bala-{kind}", f"k.sangham-{kind}"
    await cluster.people([UserRow(id=me, name="Asha", role="coordinator"), you], {group: [me, you]})
    media = {"mediaUrl": _URL, "mediaMetadata": {"bytes": 5, "name": _HINDI}} if kind != "text" else {}
    sent = {"type": kind, "content": f"{_TELUGU} {_HINDI}", "senderId": you, "senderName": "Somebody", **media}
    async with (
        JsClients(History()) as js,
        await RawClient.connect(cluster.urls[1], {"token": cluster.token(you)}) as raw,
    ):
        asha = await _open(js, cluster, me)
        await raw.expect_event("auth_success")
        for number, to in enumerate(({"recipientId": you}, {"groupId": group})):
            answer = await asha.send_message({"id": f"m{number}", "clientId": f"c{number}", **to, **sent})
            assert answer["status"] == "sent", answer
            message = await raw.expect_event("new_message")
            assert message["id"] == answer["messageId"]
            assert message["conversationId"] == answer["conversationId"]
            assert message["clientId"] == f"c{number}"
            assert (message["type"], message["content"]) == (kind, sent["content"])
            assert (message["senderId"], message["senderName"], message["senderRole"]) == (me, "Asha", "coordinator")
            assert {field: message[field] for field in (*media, *to)} == {**media, **to}
        frames = [frame for frame in raw.frames if isinstance(frame, str) and '"new_message"' in frame]
        assert all(_TELUGU in frame and _HINDI in frame for frame in frames)


async def test_the_older_shape_of_a_message_is_read_as_well(cluster: LiveCluster) -> None:
    """`messageId`, `messageType`, `mediaUrls`, `metadata.clientMessageId` and an ISO timestamp mean the same."""
    await cluster.people(["o.asha", "o.bala"])
    async with JsClients(History()) as js:
        asha, bala = await _open(js, cluster, "o.asha"), await _open(js, cluster, "o.bala", gateway=1)
        old = {
            "messageId": "old-1",
            "messageType": "image",
            "content": "",
            "recipientId": "o.bala",
            "mediaUrls": [_URL, f"{_URL}2"],
            "metadata": {"clientMessageId": "oc-1", "width": 3},
            "timestamp": "2026-11-20T10:00:00.250Z",
            "senderId": "o.bala",
        }
        answer = await asha.send_message(old)
        assert answer["clientId"] == "oc-1"
        message = (await bala.wait_for("new_message")).data
        assert (message["type"], message["clientId"], message["senderId"]) == ("image", "oc-1", "o.asha")
        assert message["mediaUrl"] == _URL
        assert message["mediaMetadata"] == {"mediaUrls": [_URL, f"{_URL}2"], "width": 3}
        assert message["timestamp"] == 1_795_168_800_250
        status = await _told(asha, answer["messageId"], "delivered")
        assert status["clientMessageId"] == "old-1"
        again = await asha.send_message({**old, "messageId": "old-1"})
        assert (again["messageId"], again["seq"]) == (answer["messageId"], answer["seq"])


async def test_every_device_hears_what_concerns_it_and_how_far_a_message_came(cluster: LiveCluster) -> None:
    """All devices of recipients and the sender's others have it; statuses count who has and who read it."""
    history = History()
    await cluster.people(["d.asha", "d.bala", "d.chitra"], {"d.sangham": ["d.asha", "d.bala", "d.chitra"]})
    async with JsClients(history) as js:
        asha1 = await _open(js, cluster, "d.asha", "asha1")
        asha2 = await _open(js, cluster, "d.asha", "asha2", gateway=1)
        balas = [await _open(js, cluster, "d.bala", f"bala{n}", gateway=n % 2) for n in (1, 2)]
        answer = await asha1.send_message({"clientId": "c1", "groupId": "d.sangham", "content": _TELUGU})
        for client in (asha2, *balas):
            message = await client.wait_for("new_message", _is_about(answer["messageId"], "id"))
            assert message.data["seq"] == 1
        status = await _told(asha1, answer["messageId"], "delivered")
        assert status["recipients"] == {"total": 2, "delivered": 1, "read": 0}
        chitra = await _open(js, cluster, "d.chitra")
        await chitra.wait_for("offline_messages")
        await _counted(asha1, delivered=2, read=0)
        for number, reader in enumerate((balas[0], chitra), start=1):
            confirmed = await reader.emit("mark_as_read", {"conversationId": "group:d.sangham", "seq": 1})
            assert confirmed["ok"], confirmed
            await _counted(asha1, delivered=2, read=number)
        await _counted(asha2, delivered=2, read=2)
        assert next(s.status for s in history.statuses if s.device == "asha2") == "sent"
        assert "sent" not in {s.status for s in history.statuses if s.device == "asha1"}
        assert not asha1.events("new_message")
    report = check(history, {"group:d.sangham": ("asha1", "asha2", "bala1", "bala2", "d.chitra")})
    assert report.ok, report


async def test_a_message_sent_again_is_the_same_message(cluster: LiveCluster) -> None:
    """From either device of the sender: the same id and place, and who confirmed it is not brought it twice."""
    history = History()
    await cluster.people(["r.asha", "r.bala"])
    async with JsClients(history) as js:
        asha1 = await _open(js, cluster, "r.asha", "asha1")
        asha2 = await _open(js, cluster, "r.asha", "asha2", gateway=1)
        bala = await _open(js, cluster, "r.bala", "bala1", gateway=1)
        first = await asha1.send_message({"clientId": "c1", "recipientId": "r.bala", "content": _TELUGU})
        for device in (asha1, asha2):
            await _told(device, first["messageId"], "delivered")
        for device in (asha1, asha2, asha1):
            again = await device.send_message({"clientId": "c1", "recipientId": "r.bala", "content": _TELUGU})
            assert again == {**first, "serverTime": again["serverTime"]}
        next_one = await asha1.send_message({"clientId": "c2", "recipientId": "r.bala", "content": _HINDI})
        assert next_one["seq"] == 2
        await bala.wait_for_messages(2)
        assert len(bala.events("new_message")) == 2
        await _told(asha2, next_one["messageId"], "delivered")
    report = check(history, {"direct:r.asha:r.bala": ("bala1",)})
    assert report.ok, report


async def test_what_is_due_comes_in_pages_until_it_is_confirmed(cluster: LiveCluster) -> None:
    """Emergencies first, then oldest first; a confirmed page stays away, an unconfirmed one comes again."""
    await cluster.people([UserRow(id="p.asha", name="Asha", role="coordinator"), "p.bala"])
    async with JsClients(History()) as js:
        asha = await _open(js, cluster, "p.asha")
        for number in range(1, 7):
            kind = "emergency" if number == 6 else "text"
            await asha.send_message({"clientId": f"c{number}", "recipientId": "p.bala", "content": "x", "type": kind})
        async with await _raw(cluster, "p.bala") as raw:
            ack, page = await _page(raw)
            assert ([m["seq"] for m in page["messages"]], page["hasMore"]) == ([6, 1, 2], True)
        async with await _raw(cluster, "p.bala") as raw:
            ack, page = await _page(raw)
            assert [m["seq"] for m in page["messages"]] == [6, 1, 2], "nothing was confirmed"
            await raw.send_text(f"43{ack}[]")
            _, page = await _page(raw)
            assert ([m["seq"] for m in page["messages"]], page["hasMore"]) == ([3, 4, 5], False)
            await _told_seq(asha, 6, "delivered")
        async with await _raw(cluster, "p.bala", gateway=1) as raw:
            ack, page = await _page(raw)
            assert ([m["seq"] for m in page["messages"]], page["hasMore"]) == ([3, 4, 5], False), "the rest, elsewhere"
            await raw.send_text(f"43{ack}[]")
            await _told_seq(asha, 5, "delivered")
        bala = await _open(js, cluster, "p.bala")
        await asha.send_message({"clientId": "c7", "recipientId": "p.bala", "content": "x"})
        await bala.wait_for("new_message")
        assert not bala.events("offline_messages")


async def test_what_is_said_meanwhile_waits_for_what_is_due(cluster: LiveCluster) -> None:
    """A live message comes after every page that is older than it."""
    await cluster.people(["w.asha", "w.bala"])
    async with JsClients(History()) as js:
        asha = await _open(js, cluster, "w.asha")
        for number in range(1, 6):
            await asha.send_message({"clientId": f"c{number}", "recipientId": "w.bala", "content": "x"})
        async with await _raw(cluster, "w.bala", gateway=1) as raw:
            ack, first = await _page(raw)
            await asha.send_message({"clientId": "c6", "recipientId": "w.bala", "content": "x"})
            await raw.send_text(f"43{ack}[]")
            _, second = await _page(raw)
            seqs = [m["seq"] for page in (first, second) for m in page["messages"]]
            if seqs[-1] != 6:  # it was said before the second page was read, or after
                seqs.append((await raw.expect_event("new_message"))["seq"])
            assert seqs == [1, 2, 3, 4, 5, 6]
            before = [f for f in raw.frames if isinstance(f, str) and '"new_message"' in f]
            assert len(before) <= 1


async def test_a_device_says_what_it_has_and_gets_the_rest(cluster: LiveCluster) -> None:
    """`sync` brings all past the cursors, in pages, whatever the user's other devices have confirmed."""
    conversation = "direct:s.asha:s.bala"
    async with JsClients(History()) as js:
        asha, _ = await _caught_up(js, cluster, "s.asha", "s.bala")
        tablet = await _open(js, cluster, "s.bala", "tablet", gateway=1)
        # Its sign-in is over: what is said now comes live.
        await asha.send_message({"clientId": "c8", "recipientId": "s.bala", "content": "x"})
        await tablet.wait_for("new_message")
        assert (await tablet.emit("sync", {"cursors": {conversation: 2}}))["ok"]
        last = await tablet.wait_for("offline_messages", lambda e: not e.data["hasMore"])
        pages = [e.data for e in tablet.events("offline_messages")]
        assert [[m["seq"] for m in page["messages"]] for page in pages] == [[3, 4, 5], [6, 7, 8]]
        assert last.data["cursors"] == {conversation: 8}
        mark = tablet.mark
        await tablet.emit("sync", {"cursors": {conversation: 8}})
        nothing = await tablet.wait_for("offline_messages", since=mark)
        assert nothing.data == {"messages": [], "hasMore": False, "cursors": {conversation: 8}}


async def test_a_bare_id_in_a_sync_is_a_users_or_else_a_groups(cluster: LiveCluster) -> None:
    """As everywhere: the group's messages past the cursor come, and those before do not."""
    await cluster.people(["y.asha", "y.bala"], groups={"y.v12": ["y.asha", "y.bala"]})
    async with JsClients(History()) as js, await _raw(cluster, "y.bala") as bala:
        asha = await _open(js, cluster, "y.asha")
        for number in (1, 2):
            await asha.send_message({"clientId": f"g{number}", "groupId": "y.v12", "content": "x"})
        await asha.send_message({"clientId": "d1", "recipientId": "y.bala", "content": "x"})
        await bala.send_event("sync", {"cursors": {"y.v12": 1, "y.asha": 1}}, ack=1)
        while "cursors" not in (page := await bala.expect_event("offline_messages")):
            pass
        assert [(one["conversationId"], one["seq"]) for one in page["messages"]] == [("group:y.v12", 2)]
        assert page["cursors"] == {"group:y.v12": 2, "direct:y.asha:y.bala": 1}


async def test_a_device_may_say_what_it_has_as_soon_as_it_is_connected(cluster: LiveCluster) -> None:
    """A `sync` that overtakes the first page of the sign-in is answered all the same."""
    conversation = "direct:t.asha:t.bala"
    async with JsClients(History()) as js:
        await _caught_up(js, cluster, "t.asha", "t.bala")
    token = cluster.token("t.bala")
    for _ in range(5):
        async with await RawClient.connect(cluster.urls[1], {"token": token}) as raw:
            await raw.expect("40")
            await raw.send_event("sync", {"cursors": {conversation: 4}})
            page: dict[str, Any] = {}
            while page.get("cursors") != {conversation: 7}:  # the sign-in's own page may come first
                ack, page = await _page(raw)
                await raw.send_text(f"43{ack}[]")
            assert [m["seq"] for m in page["messages"]] == [5, 6, 7]


async def test_a_history_is_read_in_pages_either_way(cluster: LiveCluster) -> None:
    """`before` and `after` a seq, before a time, by conversation id or by the other's bare id."""
    await cluster.people(["h.asha", "h.bala"], {"h.sangham": ["h.asha", "h.bala"]})
    async with JsClients(History()) as js:
        asha, bala = await _open(js, cluster, "h.asha"), await _open(js, cluster, "h.bala", gateway=1)
        answers = [
            await asha.send_message({"clientId": f"c{number}", "recipientId": "h.bala", "content": "x"})
            for number in range(1, 11)
        ]
        await _told(asha, answers[-1]["messageId"], "delivered")
        for asked, seqs, has_more in (
            ({"limit": 4}, [7, 8, 9, 10], True),
            ({"limit": 4, "before": 7}, [3, 4, 5, 6], True),
            ({"limit": 4, "before": 3}, [1, 2], False),
            ({"limit": 4, "after": 4}, [5, 6, 7, 8], True),
            ({"limit": 200, "after": 8}, [9, 10], False),
            ({"after": 10}, [], False),
            ({}, list(range(1, 11)), False),
        ):
            for reader, conversation in ((asha, "h.bala"), (bala, "direct:h.asha:h.bala")):
                said = {"conversationId": conversation, **asked}
                answer = await reader.emit("get_conversation_history", said)
                assert ([m["seq"] for m in answer["messages"]], answer["hasMore"]) == (seqs, has_more), said
                assert answer["conversationId"] == "direct:h.asha:h.bala"
        event = asha.events("conversation_history")[0]
        assert {m["status"] for m in event.data["messages"]} == {"delivered"}
        earlier = await asha.emit(
            "get_conversation_history", {"conversationId": "h.bala", "before": answers[4]["serverTime"]}
        )
        assert [m["seq"] for m in earlier["messages"]] == list(range(1, len(earlier["messages"]) + 1))
        assert 1 <= len(earlier["messages"]) <= 4
        nothing = await asha.emit("get_conversation_history", {"conversationId": "h.sangham"})
        assert (nothing["conversationId"], nothing["messages"]) == ("group:h.sangham", [])


async def test_what_was_received_and_read_is_said_by_message_or_by_watermark(cluster: LiveCluster) -> None:
    """The sender hears each step, the reader's other device that it was read; nothing to come is confirmed."""
    await cluster.people(["c.asha", "c.bala"])
    conversation = "direct:c.asha:c.bala"
    async with JsClients(History()) as js:
        asha = await _open(js, cluster, "c.asha")
        bala = await _open(js, cluster, "c.bala", "bala1", gateway=1, auto_ack=False)
        bala2 = await _open(js, cluster, "c.bala", "bala2", auto_ack=False)
        ids = []
        for number in range(1, 6):
            answer = await asha.send_message({"clientId": f"c{number}", "recipientId": "c.bala", "content": "x"})
            ids.append(answer["messageId"])
        await bala.wait_for_messages(5)

        assert (await bala.emit("message_delivered", {"messageId": ids[1]}))["ok"]
        await _told(asha, ids[1], "delivered")
        assert (await bala.emit("message_delivered", {"conversationId": "c.asha", "seq": 3}))["ok"]
        for message_id in (ids[0], ids[2]):
            await _told(asha, message_id, "delivered")

        read = await bala.emit("mark_as_read", {"messageId": ids[1]})
        assert (read["ok"], read["messageId"], read["conversationId"], read["seq"]) == (True, ids[1], conversation, 2)
        await bala.wait_for("message_read_confirmed", lambda e: e.data["seq"] == 2)
        for client in (asha, bala2):
            event = await client.wait_for("message_read", lambda e: e.data["messageId"] == ids[1])
            assert (event.data["readBy"], event.data["seq"]) == ("c.bala", 2)
        await _told(asha, ids[1], "read")

        # Far beyond the last one: what is still to be written is not confirmed with it.
        assert (await bala.emit("message_read", {"conversationId": conversation, "seq": 1000}))["ok"]
        await _told(asha, ids[4], "read")
        assert not bala.events("message_read")
        await bala.close()
        await bala2.close()
        answer = await asha.send_message({"clientId": "c6", "recipientId": "c.bala", "content": "x"})
        bala3 = await _open(js, cluster, "c.bala", "bala3")
        page = await bala3.wait_for("offline_messages")
        assert [m["id"] for m in page.data["messages"]] == [answer["messageId"]]
        assert await _told(asha, answer["messageId"], "delivered")
        assert not [e for e in _statuses(asha, answer["messageId"]) if e.data["status"] == "read"]


async def test_a_message_that_may_not_be_sent_is_refused_with_its_code(cluster: LiveCluster) -> None:
    """In the acknowledgement and as `message_error`, and nobody receives anything."""
    await cluster.people(
        ["x.asha", "x.bala", UserRow(id="x.dina", name="Dina", blocked=frozenset({"x.asha"}))],
        {"x.sangham": ["x.bala", "x.dina"]},
    )
    async with JsClients(History()) as js:
        asha, bala = await _open(js, cluster, "x.asha"), await _open(js, cluster, "x.bala", gateway=1)
        dina = await _open(js, cluster, "x.dina", gateway=1)
        for number, (sender, said, code) in enumerate(
            (
                (asha, {"recipientId": "x.dina"}, "blocked"),
                (dina, {"recipientId": "x.asha"}, "blocked"),
                (asha, {"recipientId": "x.nobody"}, "recipient_not_found"),
                (asha, {"groupId": "x.sangham"}, "access_denied"),
                (asha, {"groupId": "x.nowhere"}, "access_denied"),
                (asha, {"conversationId": "x.sangham"}, "access_denied"),
                (asha, {"conversationId": "direct:x.bala:x.dina"}, "access_denied"),
                (asha, {"recipientId": "x.bala", "type": "emergency"}, "role_required"),
                (bala, {"groupId": "x.sangham", "type": "emergency"}, "role_required"),
            )
        ):
            message = {"id": f"m{number}", "clientId": f"c{number}", "content": "x", **said}
            answer = await sender.emit("send_message", message)
            assert (answer["ok"], answer["error"]["code"]) == (False, code), said
            assert not answer["error"]["retryable"]
            error = await sender.wait_for("message_error", _is_about(f"c{number}", "clientId"))
            assert (error.data["code"], error.data["messageId"]) == (code, f"m{number}")
        for to in ({"recipientId": "x.dina"}, {"groupId": "x.sangham"}):
            assert (await bala.send_message({"clientId": str(to), "content": "x", **to}))["seq"] == 1
        await dina.wait_for_messages(2)
        assert len(dina.events("new_message")) == 2
        assert not asha.events("new_message")


async def test_who_is_not_in_a_conversation_learns_nothing_of_it(cluster: LiveCluster) -> None:
    """History, receipts and joining are refused to outsiders in one way, whether or not it exists."""
    await cluster.people(["n.asha", "n.bala", "n.chitra"], {"n.sangham": ["n.asha", "n.bala"]})
    async with JsClients(History()) as js:
        asha, chitra = await _open(js, cluster, "n.asha"), await _open(js, cluster, "n.chitra", gateway=1)
        direct = await asha.send_message({"clientId": "c1", "recipientId": "n.bala", "content": "x"})
        group = await asha.send_message({"clientId": "c2", "groupId": "n.sangham", "content": "x"})
        targets = [direct["conversationId"], group["conversationId"], "direct:n.bala:n.nobody", "group:n.nowhere"]
        unknown = direct["messageId"][:4] + "0" * 32
        asked: list[tuple[str, dict[str, Any]]] = [
            *(("get_conversation_history", {"conversationId": target}) for target in targets),
            *(("message_delivered", {"conversationId": target, "seq": 1}) for target in targets),
            *(("mark_as_read", {"messageId": one}) for one in (direct["messageId"], group["messageId"], unknown)),
            *(("join_conversation", {"conversationId": target}) for target in targets),
            *(("join_group", {"groupId": target}) for target in ("n.sangham", "n.nowhere")),
            ("join_user_room", {"userId": "n.asha"}),
        ]
        words = set()
        for event, said in asked:
            mark = chitra.mark
            answer = await chitra.emit(event, said)
            assert (answer["ok"], answer["error"]["code"]) == (False, "access_denied"), (event, said)
            words.add(answer["error"]["message"])
            error = await chitra.wait_for("error", lambda e: e.data["code"] == "access_denied", since=mark)
            assert error.data["event"] == event
        assert len(words) == 1
        joined = await asha.emit("join_group", {"groupId": "n.sangham"})
        assert joined["ok"], joined
        assert (await asha.wait_for("group_joined")).data == {"groupId": "n.sangham"}


# --- how tests ask -----------------------------------------------------------------------------------


async def _open(
    js: JsClients,
    cluster: LiveCluster,
    user: str,
    name: str | None = None,
    *,
    gateway: int = 0,
    auto_ack: bool = True,
) -> JsClient:
    """A device of a user, signed in."""
    token = {"token": cluster.token(user)}
    client = await js.open(name or user, cluster.urls[gateway], token, auto_ack=auto_ack, user=user)
    await client.wait_for("auth_success")
    return client


async def _caught_up(js: JsClients, cluster: LiveCluster, sender: str, reader: str) -> tuple[JsClient, JsClient]:
    """Two people, and seven messages that the reader's phone has confirmed."""
    await cluster.people([sender, reader])
    writing, phone = await _open(js, cluster, sender), await _open(js, cluster, reader, f"{reader}-phone")
    for number in range(1, 8):
        last = await writing.send_message({"clientId": f"c{number}", "recipientId": reader, "content": "x"})
    await _told(writing, last["messageId"], "delivered")
    await phone.wait_for_messages(7)
    return writing, phone


async def _raw(cluster: LiveCluster, user: str, gateway: int = 0) -> RawClient:
    """A device that acknowledges nothing by itself, signed in."""
    raw = await RawClient.connect(cluster.urls[gateway], {"token": cluster.token(user)})
    await raw.expect_event("auth_success")
    return raw


async def _page(raw: RawClient) -> tuple[str, dict[str, Any]]:
    """The next page of what is due: the acknowledgement it waits for, and the page."""
    frame = await raw.expect(*(f'42{ack}["offline_messages"' for ack in range(1, 100)))
    found = re.match(r"42(\d+)(\[.*)", frame, re.DOTALL)
    assert found is not None
    page: dict[str, Any] = json.loads(found[2])[1]
    return found[1], page


def _is_about(message_id: str, field: str = "messageId") -> Any:
    return lambda event: event.data[field] == message_id


def _statuses(client: Client, message_id: str) -> list[Event]:
    return [event for event in client.events("message_delivery_status") if event.data["messageId"] == message_id]


async def _told(client: Client, message_id: str, status: str) -> dict[str, Any]:
    """What a sender was told when a message came so far."""
    event = await client.wait_for(
        "message_delivery_status", lambda e: e.data["messageId"] == message_id and e.data["status"] == status
    )
    told: dict[str, Any] = event.data
    return told


async def _told_seq(client: Client, seq: int, status: str) -> None:
    await client.wait_for("message_delivery_status", lambda e: (e.data["seq"], e.data["status"]) == (seq, status))


async def _counted(client: Client, *, delivered: int, read: int) -> None:
    """Wait until a sender in a group of three was told these counts."""
    counts = {"total": 2, "delivered": delivered, "read": read}
    await client.wait_for("message_delivery_status", lambda e: e.data.get("recipients") == counts)
