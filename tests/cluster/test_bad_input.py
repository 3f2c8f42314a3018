"""Whatever a client sends, it hears why not; others notice nothing and no process so much as complains.

One cluster serves the whole module. Every test here ends with two bystanders on the same gateway
writing to each other, with the processes counted, and with the logs read.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

from docs import examples
from libs.wire import events
from services.router.sqlite import UserRow
from tests.support.clients import JsClients, RawClient
from tests.support.cluster import LiveCluster, live_cluster
from tests.support.history import History
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_ACK: Final = 7
_DEEP: Final = "[" * 20_000 + "]" * 20_000
_UNKNOWN_MESSAGE: Final = "0" * 36
_numbers: Final = count()

# A message that would be accepted; each case spoils one thing.
_GOOD: Final = {"id": "m1", "clientId": "c1", "type": "text", "content": "x", "recipientId": "bala"}
_LONG_ID: Final = "i" * 129

_SPOILED_MESSAGES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "content is a number": ({"content": 5}, "invalid_payload"),
    "content is null": ({"content": None}, "invalid_payload"),
    "content is missing": ({"content": ...}, "empty_content"),
    "content is empty": ({"content": ""}, "empty_content"),
    "content is blank": ({"content": " \n\t"}, "empty_content"),
    "content is over 16 KiB": ({"content": "x" * 16_385}, "content_too_large"),
    "content is over 16 KiB of UTF-8": ({"content": "అ" * 5_462}, "content_too_large"),
    "type is unknown": ({"type": "telepathy"}, "unknown_type"),
    "type is a number": ({"type": 7}, "invalid_payload"),
    "clientId is missing": ({"clientId": ..., "id": ...}, "client_id_missing"),
    "clientId is an object": ({"clientId": {}}, "invalid_payload"),
    "clientId is too long": ({"clientId": _LONG_ID}, "client_id_too_long"),
    "id is too long": ({"id": _LONG_ID}, "client_id_too_long"),
    "recipient is missing": ({"recipientId": ...}, "invalid_payload"),
    "recipient is a list": ({"recipientId": ["bala"]}, "invalid_payload"),
    "recipient is no id": ({"recipientId": "two words"}, "invalid_payload"),
    "recipient has a NUL": ({"recipientId": "ba\0la"}, "invalid_payload"),
    "recipient is too long": ({"recipientId": _LONG_ID}, "invalid_payload"),
    "recipient does not exist": ({"recipientId": "nobody"}, "recipient_not_found"),
    "recipient has blocked the sender": ({"recipientId": "wall"}, "blocked"),
    "group is someone else's": ({"recipientId": ..., "groupId": "theirs"}, "access_denied"),
    "group does not exist": ({"recipientId": ..., "groupId": "nothing"}, "access_denied"),
    "group is no id": ({"recipientId": ..., "groupId": "a:b"}, "invalid_payload"),
    "conversation is someone else's": ({"recipientId": ..., "conversationId": "direct:asha:bala"}, "access_denied"),
    "sender is a mere member": ({"type": "emergency"}, "role_required"),
    "anonymous media names its sender": (
        {"isAnonymous": True, "type": "image", "mediaUrl": "https://x/o/users%2Fmallu%2F1.jpg"},
        "identity_exposed",
    ),
    "anonymous to nobody": ({"isAnonymous": True, "recipientId": "nobody"}, "recipient_not_found"),
    "anonymous in a group of others": (
        {"isAnonymous": True, "recipientId": ..., "groupId": "theirs"},
        "access_denied",
    ),
    "a pseudonym is answered": ({"recipientId": f"anon-{'0' * 20}"}, "no_reply"),
    "anonymous is a word": ({"isAnonymous": "yes"}, "invalid_payload"),
    "encryption level is unknown": ({"encryptionLevel": "rot13"}, "invalid_payload"),
    "url is too long": ({"mediaUrl": "h" * 2_049}, "invalid_payload"),
    "urls are a string": ({"mediaUrls": "http://x"}, "invalid_payload"),
    "metadata is a string": ({"metadata": "x"}, "invalid_payload"),
    "metadata is over 8 KiB": ({"metadata": {"x": "x" * 8_192}}, "invalid_payload"),
    "timestamp is an object": ({"timestamp": {}}, "invalid_payload"),
    "timestamp is a truth": ({"timestamp": True}, "invalid_payload"),
    "timestamp is a word": ({"timestamp": "yesterday"}, "invalid_payload"),
    "timestamp is negative": ({"timestamp": -1}, "invalid_payload"),
    "timestamp is too large": ({"timestamp": 1e300}, "invalid_payload"),
    "timestamp is huge": ({"timestamp": 10**30}, "invalid_payload"),
    "timestamp is in the year 1": ({"timestamp": "0001-01-01T00:00:00"}, "invalid_payload"),
}

# event, JSON of its argument, code
_SPOILED_EVENTS: Final = (
    ("no_such_event", "{}", "unknown_event"),
    ("", "{}", "unknown_event"),
    ("connect", "{}", "unknown_event"),
    ("disconnect", "{}", "unknown_event"),
    ("__proto__", "{}", "unknown_event"),
    ("n" * 10_000, "{}", "unknown_event"),
    ("heartbeat", "null", "invalid_payload"),
    ("heartbeat", "[]", "invalid_payload"),
    ("heartbeat", '{"clientTime":"\\ud800"}', "invalid_payload"),
    ("message_delivered", "{}", "invalid_payload"),
    ("message_delivered", '{"messageId":5}', "invalid_payload"),
    ("message_delivered", '{"messageId":"m1"}', "access_denied"),
    ("message_delivered", f'{{"messageId":"{_UNKNOWN_MESSAGE}"}}', "access_denied"),
    ("message_delivered", '{"conversationId":"bala"}', "invalid_payload"),
    ("message_delivered", '{"conversationId":"bala","seq":-1}', "invalid_payload"),
    ("message_delivered", '{"conversationId":"bala","seq":"1"}', "invalid_payload"),
    ("message_delivered", '{"conversationId":"bala","seq":1.5}', "invalid_payload"),
    ("message_delivered", '{"conversationId":"bala","seq":18446744073709551616}', "invalid_payload"),
    ("message_delivered", '{"conversationId":"direct:asha:bala","seq":1}', "access_denied"),
    ("mark_as_read", '{"conversationId":"group:theirs","seq":1}', "access_denied"),
    ("message_read", '{"conversationId":"two words","seq":1}', "invalid_payload"),
    ("join_group", "{}", "invalid_payload"),
    ("join_group", '{"groupId":"theirs"}', "access_denied"),
    ("join_group", '{"groupId":"nothing"}', "access_denied"),
    ("join_user_room", '{"userId":"asha"}', "access_denied"),
    ("leave_group", '{"groupId":""}', "invalid_payload"),
    ("get_conversation_history", "{}", "invalid_payload"),
    ("get_conversation_history", '{"conversationId":"bala","limit":0}', "invalid_payload"),
    ("get_conversation_history", '{"conversationId":"bala","limit":201}', "invalid_payload"),
    ("get_conversation_history", '{"conversationId":"bala","limit":"all"}', "invalid_payload"),
    ("get_conversation_history", '{"conversationId":"bala","before":-1}', "invalid_payload"),
    ("get_conversation_history", '{"conversationId":"bala","before":9223372036854775808}', "invalid_payload"),
    ("get_conversation_history", '{"conversationId":"bala","before":18446744073709551616}', "invalid_payload"),
    ("get_conversation_history", '{"conversationId":"bala","after":-1}', "invalid_payload"),
    ("get_conversation_history", '{"conversationId":"theirs"}', "access_denied"),
    ("get_conversation_history", '{"conversationId":"group:nothing"}', "access_denied"),
    ("get_conversation_history", '{"conversationId":"direct:asha:bala"}', "access_denied"),
    ("sync", '{"cursors":[]}', "invalid_payload"),
    ("sync", '{"cursors":{"bala":-1}}', "invalid_payload"),
    ("sync", '{"cursors":{"bala":18446744073709551616}}', "invalid_payload"),
    ("sync", '{"cursors":{"two words":1}}', "invalid_payload"),
    ("sync", '{"budgetBytes":1}', "invalid_payload"),
    ("sync", '{"budgetBytes":18446744073709551616}', "invalid_payload"),
    ("typing_start", "{}", "invalid_payload"),
    ("typing_start", '{"conversationId":5}', "invalid_payload"),
    ("typing_start", '{"conversationId":"two words"}', "invalid_payload"),
    ("typing_start", '{"conversationId":"group:theirs"}', "access_denied"),
    ("typing_stop", '{"conversationId":"direct:asha:bala"}', "access_denied"),
    ("typing_indicator", '{"conversationId":"bala","isTyping":"yes"}', "invalid_payload"),
    ("typing_indicator", '{"conversationId":"group:nothing","isTyping":true}', "access_denied"),
    ("search_messages", "{}", "invalid_payload"),
    ("search_messages", '{"query":5}', "invalid_payload"),
    ("search_messages", f'{{"query":"{"q" * 201}"}}', "invalid_payload"),
    ("search_messages", '{"query":"land","limit":0}', "invalid_payload"),
    ("search_messages", '{"query":"land","limit":101}', "invalid_payload"),
    ("search_messages", '{"query":"land","conversationId":[]}', "invalid_payload"),
    ("search_messages", '{"query":""}', "query_too_short"),
    ("search_messages", '{"query":"q"}', "query_too_short"),
    ("search_messages", '{"query":"\\"* - ("}', "query_too_short"),
    ("search_messages", '{"query":"land","conversationId":"two words"}', "invalid_payload"),
    ("search_messages", '{"query":"land","conversationId":"group:theirs"}', "access_denied"),
    ("search_messages", '{"query":"land","conversationId":"group:nothing"}', "access_denied"),
    ("search_messages", '{"query":"land","conversationId":"direct:asha:bala"}', "access_denied"),
    ("update_presence", "{}", "invalid_payload"),
    ("update_presence", '{"status":null}', "invalid_payload"),
    ("update_presence", '{"status":"offline"}', "invalid_payload"),
    ("update_presence", '{"status":"invisible"}', "invalid_payload"),
    *(
        (f"{verb}_presence", argument, code)
        for verb in ("get", "subscribe", "unsubscribe")
        for argument, code in (
            ("{}", "invalid_payload"),
            ('{"userIds":null}', "invalid_payload"),
            ('{"userIds":"bala"}', "invalid_payload"),
            ('{"userIds":["bala",5]}', "invalid_payload"),
            ('{"userIds":["bala",""]}', "invalid_payload"),
            ('{"userIds":["two words"]}', "invalid_payload"),
            (json.dumps({"userIds": [f"u{number}" for number in range(501)]}), "too_many"),
        )
    ),
    ("get_keys", "{}", "invalid_payload"),
    ("get_keys", '{"userId":5}', "invalid_payload"),
    ("get_keys", '{"userId":"two words"}', "invalid_payload"),
    ("get_keys", '{"userId":"nobody"}', "recipient_not_found"),
    ("get_keys", '{"userId":"wall"}', "blocked"),
)

_GOOD_KEYS: Final = examples.sent["publish_keys"]
_SIGNED: Final = _GOOD_KEYS["signedPreKey"]
_ONE_TIME: Final = _GOOD_KEYS["oneTimePreKeys"]
_SHORT_KEY: Final = "c2hvcnQ="

_SPOILED_KEYS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "device is missing": ({"deviceId": ...}, "invalid_payload"),
    "device is a number": ({"deviceId": 5}, "invalid_payload"),
    "device is no id": ({"deviceId": "two words"}, "invalid_payload"),
    "identity is missing": ({"identityKey": ...}, "invalid_payload"),
    "identity is no base64": ({"identityKey": "not base64"}, "invalid_keys"),
    "identity is too short": ({"identityKey": _SHORT_KEY}, "invalid_keys"),
    "identity is another's": ({"identityKey": _SIGNED["publicKey"]}, "invalid_keys"),
    "signed key is missing": ({"signedPreKey": ...}, "invalid_payload"),
    "signed key is a string": ({"signedPreKey": "key"}, "invalid_payload"),
    "signed key is too short": ({"signedPreKey": _SIGNED | {"publicKey": _SHORT_KEY}}, "invalid_keys"),
    "signature is missing": ({"signedPreKey": _ONE_TIME[0]}, "invalid_payload"),
    "signature is too short": ({"signedPreKey": _SIGNED | {"signature": _SHORT_KEY}}, "invalid_keys"),
    "signature is of another key": ({"signedPreKey": _SIGNED | _ONE_TIME[0]}, "invalid_keys"),
    "key id is negative": ({"oneTimePreKeys": [_ONE_TIME[0] | {"keyId": -1}]}, "invalid_payload"),
    "key id is a word": ({"oneTimePreKeys": [_ONE_TIME[0] | {"keyId": "1"}]}, "invalid_payload"),
    "key id is too large": ({"oneTimePreKeys": [_ONE_TIME[0] | {"keyId": (1 << 31) + 1}]}, "invalid_payload"),
    "key id comes twice": ({"oneTimePreKeys": [_ONE_TIME[0], _ONE_TIME[1] | {"keyId": 1}]}, "invalid_keys"),
    "one-time keys are an object": ({"oneTimePreKeys": {}}, "invalid_payload"),
    "one-time key is too short": ({"oneTimePreKeys": [{"keyId": 1, "publicKey": _SHORT_KEY}]}, "invalid_keys"),
    "one-time keys are 101": ({"oneTimePreKeys": [_ONE_TIME[0] | {"keyId": n} for n in range(101)]}, "too_many"),
}

_GOOD_BROADCAST: Final = examples.sent["emergency_broadcast"]

_SPOILED_BROADCASTS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "title is missing": ({"title": ...}, "invalid_payload"),
    "title is a number": ({"title": 5}, "invalid_payload"),
    "title is blank": ({"title": " \n"}, "empty_content"),
    "title is over 200 characters": ({"title": "t" * 201}, "content_too_large"),
    "content is missing": ({"content": ...}, "invalid_payload"),
    "content is null": ({"content": None}, "invalid_payload"),
    "content is empty": ({"content": ""}, "empty_content"),
    "content is over 16 KiB of UTF-8": ({"content": "అ" * 5_462}, "content_too_large"),
    "level is missing": ({"locationLevel": ...}, "invalid_payload"),
    "level is a number": ({"locationLevel": 1}, "invalid_payload"),
    "level is unknown": ({"locationLevel": "planet"}, "unknown_level"),
    "places are missing": ({"locationIds": ...}, "invalid_payload"),
    "places are a string": ({"locationIds": "bhadradri"}, "invalid_payload"),
    "places are numbers": ({"locationIds": [1]}, "invalid_payload"),
    "places are none": ({"locationIds": []}, "no_places"),
    "places are 10,001": ({"locationIds": ["p"] * 10_001}, "too_many"),
    "place is no id": ({"locationIds": ["bhadradri", "two words"]}, "invalid_payload"),
    "priority is a number": ({"priority": 1}, "invalid_payload"),
    "priority is unknown": ({"priority": "whenever"}, "invalid_payload"),
    "clientId is an object": ({"clientId": {}}, "invalid_payload"),
    "clientId is too long": ({"clientId": _LONG_ID}, "client_id_too_long"),
}

# Text frames that are no packets at all, or none a client may send; each closes the connection.
_NO_PACKETS: Final = {
    "an empty frame": "",
    "no digit": "hello",
    "a digit of another script": "²",
    "a second open": "0",
    "a ping of the client's": "2",
    "a noop of the client's": "6",
    "an unknown Engine.IO type": "9",
    "an empty message": "4",
    "no Socket.IO type": "4abc",
    "an unknown Socket.IO type": '47["heartbeat"]',
    "a second CONNECT": "40",
    "a CONNECT with no object": "40[]",
    "a CONNECT that is cut": '40{"token"',
    "a CONNECT_ERROR of the client's": '44{"message":"x"}',
    "an event without a payload": "42",
    "an event that is an object": "42{}",
    "an event that is empty": "42[]",
    "an event whose name is a number": "42[1]",
    "an event whose name is null": "42[null,{}]",
    "an event that is cut": '42["heartbeat",{"clientTime":1',
    "an event that goes on": '42["heartbeat"]]',
    "an event with a bare word": '42["heartbeat",undefined]',
    "an event nested too deep": f'42["heartbeat",{_DEEP}]',
    "an event with an acknowledgement id of words": '42abc["heartbeat"]',
    "an event with an acknowledgement id of 30 digits": f'42{"1" * 30}["heartbeat"]',
    "an event for a namespace it is not in": '42/admin,["heartbeat"]',
    "an acknowledgement without an id": '43["x"]',
    "an acknowledgement that is an object": "431{}",
    "a binary event without attachments": '45-["heartbeat"]',
    "a disconnect from a namespace it is not in": "41/admin,",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveCluster]:
    """One gateway, so that who misbehaves and who does not share it."""
    async with live_cluster(tmp_path_factory.mktemp("cluster"), gateways=1, routers=1) as cluster:
        wall = UserRow(id="wall", name="Wall", blocked=frozenset({"mallu"}))
        await cluster.people(["asha", "bala", "mallu", "deepa", wall], {"theirs": ["asha", "bala"]})
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bystanders(cluster: LiveCluster) -> AsyncIterator[tuple[RawClient, RawClient]]:
    """Two who do nothing wrong."""
    async with AsyncExitStack() as stack:
        asha, bala = [await stack.enter_async_context(await _signed_in(cluster, name)) for name in ("asha", "bala")]
        yield asha, bala


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def unnoticed(cluster: LiveCluster, bystanders: tuple[RawClient, RawClient]) -> AsyncIterator[None]:
    """After each test: the bystanders still exchange messages, nobody died, nobody complained."""
    pids, logged = _pids(cluster), len(cluster.logs())
    yield
    asha, bala = bystanders
    client_id = f"bystander-{next(_numbers)}"
    await asha.send_event("send_message", _GOOD | {"id": client_id, "clientId": client_id}, ack=1)
    assert (await asha.expect_answer(1))["ok"]
    assert (await bala.expect_event("new_message"))["clientId"] == client_id
    assert _pids(cluster) == pids
    assert _complaints(cluster.logs()[logged:]) == []


@pytest_asyncio.fixture(loop_scope="module")
async def mallu(cluster: LiveCluster) -> AsyncIterator[RawClient]:
    """Someone signed in, who will do something wrong."""
    async with await _signed_in(cluster, "mallu") as client:
        yield client


# --- events: refused with a code, and the socket lives on -----------------------------------------


@pytest.mark.parametrize(("spoiled", "code"), _SPOILED_MESSAGES.values(), ids=_SPOILED_MESSAGES.keys())
async def test_a_message_that_is_not_right_is_refused_twice(
    mallu: RawClient, spoiled: dict[str, Any], code: str
) -> None:
    """In the acknowledgement and as `message_error`, which names the message; the socket lives on."""
    payload = {name: value for name, value in (_GOOD | spoiled).items() if value is not ...}
    await mallu.send_event("send_message", payload, ack=_ACK)
    answer = await mallu.expect_answer(_ACK)
    assert answer["ok"] is False
    assert answer["error"]["code"] == code
    assert answer["error"]["retryable"] is False
    said = await mallu.expect_event("message_error")
    assert said["code"] == code
    assert said["error"]
    if isinstance(payload.get("clientId"), str):
        assert said["clientId"] == payload["clientId"][:128]
        assert said["messageId"]
    await _assert_alive(mallu)


@pytest.mark.parametrize("argument", ["null", "[]", '"text"', "5", "true", _DEEP, f'{{"metadata":{{"x":{_DEEP}}}}}'])
async def test_a_message_that_is_no_object_is_refused(mallu: RawClient, argument: str) -> None:
    """Whatever JSON stands where the message should, it is refused, and the socket lives on."""
    await mallu.send_text(f'42{_ACK}["send_message",{argument}]')
    if argument is _DEEP or "metadata" in argument:
        # Nesting past any parser's bound is no JSON that could be read at all.
        assert await mallu.wait_closed() == aiohttp.WSCloseCode.POLICY_VIOLATION
        return
    assert (await mallu.expect_answer(_ACK))["error"]["code"] == "invalid_payload"
    assert (await mallu.expect_event("message_error"))["code"] == "invalid_payload"
    await _assert_alive(mallu)


@pytest.mark.parametrize(("event", "argument", "code"), _SPOILED_EVENTS, ids=lambda value: value[:40])
async def test_an_event_that_is_not_right_is_refused_twice(
    mallu: RawClient, event: str, argument: str, code: str
) -> None:
    """In the acknowledgement and as `error`, which names the event; the socket lives on."""
    await mallu.send_text(f"42{_ACK}[{json.dumps(event)},{argument}]")
    await _expect_refusal(mallu, event, code)


@pytest.mark.parametrize("event", sorted(events.type_of_event.keys() - {"send_message"}))
async def test_an_event_that_is_no_object_is_refused(mallu: RawClient, event: str) -> None:
    """Whatever else JSON has, for every event there is; the socket lives on."""
    for argument in ("null", "[]", '"text"', "5", "true"):
        await mallu.send_text(f'42{_ACK}["{event}",{argument}]')
        assert (await mallu.expect_answer(_ACK))["error"]["code"] == "invalid_payload"
        assert (await mallu.expect_event("error"))["event"] == event
    await _assert_alive(mallu)


@pytest.mark.parametrize(("spoiled", "code"), _SPOILED_KEYS.values(), ids=_SPOILED_KEYS.keys())
async def test_keys_that_are_not_right_are_refused(mallu: RawClient, spoiled: dict[str, Any], code: str) -> None:
    """Before anyone could be given them; the socket lives on."""
    await _assert_refused(mallu, "publish_keys", _GOOD_KEYS | spoiled, code)


@pytest.mark.parametrize(("spoiled", "code"), _SPOILED_BROADCASTS.values(), ids=_SPOILED_BROADCASTS.keys())
async def test_a_broadcast_that_is_not_right_is_refused(
    cluster: LiveCluster, spoiled: dict[str, Any], code: str
) -> None:
    """From someone who may send one; the socket lives on."""
    auth = {"token": cluster.token("mallu", role="coordinator")}
    async with await RawClient.connect(cluster.urls[0], auth) as coordinator:
        await coordinator.expect_event("auth_success")
        await _assert_refused(coordinator, "emergency_broadcast", _GOOD_BROADCAST | spoiled, code)


async def test_a_broadcast_from_a_member_is_refused(mallu: RawClient) -> None:
    """Warnings are for coordinators, admins and founders."""
    await _assert_refused(mallu, "emergency_broadcast", _GOOD_BROADCAST, "role_required")


async def test_a_refusal_nobody_asked_to_have_acknowledged_is_said_all_the_same(mallu: RawClient) -> None:
    """Without an acknowledgement id there is the event alone."""
    await mallu.send_event("no_such_event", {})
    assert (await mallu.expect_event("error"))["code"] == "unknown_event"
    await mallu.send_event("send_message", _GOOD | {"content": ""})
    assert (await mallu.expect_event("message_error"))["code"] == "empty_content"


async def test_a_refusal_names_a_message_of_the_older_shape_by_its_own_ids(mallu: RawClient) -> None:
    """Or an older app could not tell which of its messages was refused."""
    old = {"messageId": "m7", "metadata": {"clientMessageId": "c7"}, "content": "", "recipientId": "bala"}
    await mallu.send_event("send_message", old)
    said = await mallu.expect_event("message_error")
    assert (said["messageId"], said["clientId"], said["code"]) == ("m7", "c7", "empty_content")


async def test_who_leaves_their_own_room_is_told_so(mallu: RawClient) -> None:
    """What can be joined can be left, by the same field."""
    for event, said in (("join_user_room", "group_joined"), ("leave_conversation", "group_left")):
        await mallu.send_event(event, {"userId": "mallu"}, ack=_ACK)
        assert (await mallu.expect_answer(_ACK))["ok"]
        assert (await mallu.expect_event(said))["groupId"] == "mallu"


async def test_what_is_unusual_but_right_is_taken(mallu: RawClient, bystanders: tuple[RawClient, RawClient]) -> None:
    """Extra arguments and fields, a claimed identity, NUL characters, surrogate pairs, large numbers to carry."""
    _, bala = bystanders
    odd = '{"clientId":"odd","recipientId":"bala","content":"a\\u0000b \\ud83d\\ude00","senderId":"asha","x":[1e5],'
    odd += '"metadata":{"size":123456789012345678901234567890,"nested":[[[[]]]]}}'
    await mallu.send_text(f'42{_ACK}["send_message",{odd},"more",{{}}]')
    assert (await mallu.expect_answer(_ACK))["ok"]
    message = await bala.expect_event("new_message")
    assert (message["content"], message["senderId"]) == ("a\0b 😀", "mallu")
    assert message["mediaMetadata"]["size"] == 123456789012345678901234567890
    await mallu.send_text(f'42999999999999999["heartbeat",{{"clientTime":{"9" * 40}}}]')
    assert (await mallu.expect_answer(999999999999999))["clientTime"] == int("9" * 40)
    await mallu.send_text('42["heartbeat"]')
    await mallu.expect_event("heartbeat_ack")


async def test_a_watermark_beyond_the_last_message_confirms_nothing_to_come(
    cluster: LiveCluster, bystanders: tuple[RawClient, RawClient]
) -> None:
    """Who says to have all up to seq 2⁵³ is still brought what is sent next."""
    asha, _ = bystanders
    async with await _signed_in(cluster, "deepa") as deepa:
        await deepa.send_event("message_delivered", {"conversationId": "asha", "seq": 1 << 53}, ack=_ACK)
        assert (await deepa.expect_answer(_ACK))["ok"]
    await asha.send_event("send_message", _GOOD | {"clientId": "later", "recipientId": "deepa"}, ack=_ACK)
    assert (await asha.expect_answer(_ACK))["ok"]
    async with await _signed_in(cluster, "deepa") as deepa:
        brought = [message["clientId"] for message in (await deepa.expect_event("offline_messages"))["messages"]]
        assert brought == ["later"]


# --- packets: what the protocol says closes, closes ------------------------------------------------


@pytest.mark.parametrize("frame", _NO_PACKETS.values(), ids=_NO_PACKETS.keys())
async def test_a_frame_that_is_no_packet_closes_the_connection(mallu: RawClient, frame: str) -> None:
    """With 1008, and where it was a Socket.IO packet that was bad, with `malformed` before."""
    await mallu.send_text(frame)
    if frame.startswith("4"):
        assert (await mallu.expect_event("error"))["code"] == "malformed"
    assert await mallu.wait_closed() == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_an_event_before_the_namespace_was_joined_closes_the_connection(cluster: LiveCluster) -> None:
    """Socket.IO begins with CONNECT."""
    async with await RawClient.connect(cluster.urls[0], handshake=False) as client:
        await client.send_event("heartbeat", {})
        assert await client.wait_closed() == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_a_frame_over_64_kib_closes_with_1009(mallu: RawClient) -> None:
    """Text or binary; one of exactly 64 KiB passes."""
    head, tail = '42["no_such_event","', '"]'
    await mallu.send_text(head + "x" * (65_536 - len(head) - len(tail)) + tail)
    assert (await mallu.expect_event("error"))["code"] == "unknown_event"
    await mallu.send_text(head + "x" * (65_537 - len(head) - len(tail)) + tail)
    assert await mallu.wait_closed() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_text_that_is_not_utf_8_closes_with_1007(mallu: RawClient) -> None:
    """WebSocket's own code for it."""
    await mallu._socket.send_frame(b'42["heartbeat","\xff\xfe"]', aiohttp.WSMsgType.TEXT)
    assert await mallu.wait_closed() == aiohttp.WSCloseCode.INVALID_TEXT


async def test_binary_is_refused_once_and_the_socket_lives_on(mallu: RawClient) -> None:
    """A bare binary frame, an event with attachments (asked to be acknowledged or not), an acknowledgement."""
    await mallu.send_bytes(b"\x00\x01")
    assert (await mallu.expect_event("error"))["code"] == "binary_not_accepted"
    await mallu.send_text(f'452-{_ACK}["send_message",{{"_placeholder":true,"num":0}},{{"_placeholder":true,"num":1}}]')
    assert (await mallu.expect_answer(_ACK))["error"]["code"] == "binary_not_accepted"
    await mallu.send_bytes(b"one")
    await mallu.send_bytes(b"two")
    await mallu.send_text('461-5[{"_placeholder":true,"num":0}]')
    await mallu.send_bytes(b"three")
    await _assert_alive(mallu)
    refusals = [frame for frame in mallu.frames if isinstance(frame, str) and frame.startswith('42["error"')]
    assert len(refusals) == 3


async def test_a_namespace_that_does_not_exist_is_refused_by_itself(cluster: LiveCluster, mallu: RawClient) -> None:
    """`Invalid namespace`, to an unmodified client as well; the default namespace lives on."""
    await mallu.send_text("40/admin,")
    assert await mallu.expect("44/") == '44/admin,{"message":"Invalid namespace"}'
    await mallu.send_text('40/ad"min?x=1,{"token":"x"}')
    assert await mallu.expect("44/") == '44/ad"min?x=1,{"message":"Invalid namespace"}'
    await _assert_alive(mallu)
    async with JsClients(History()) as js:
        lost = await js.open("lost", f"{cluster.urls[0]}/admin", wait=False)
        assert (await lost.wait_for("connect_error")).data["message"] == "Invalid namespace"


async def test_what_still_arrives_on_a_socket_that_is_being_closed_is_ignored(cluster: LiveCluster) -> None:
    """A client that goes on talking after its sign-in was refused makes nobody stumble."""

    async def talk_on(client: RawClient) -> None:
        await client.send_event("authenticate", {"token": "no token"})
        try:
            while client.close_code is None:
                for _ in range(20):
                    await client.send_event("heartbeat", {})
                await asyncio.sleep(0)
        except ConnectionError:
            pass

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as talking:
        clients = [await stack.enter_async_context(await RawClient.connect(cluster.urls[0])) for _ in range(10)]
        for client in clients:
            talking.create_task(talk_on(client))
        for client in clients:
            await client.wait_closed()


# --- HTTP: what is polled in ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"9",
        b"4abc",
        b"4[1]",
        b'42["heartbeat"]\x1e',
        b'\x1e42["heartbeat"]',
        b"4" + b"[" * 60_000,
        b'42["heartbeat","\xff"]',
        b"bAA=A",
        b"d=",
        b"x" * 65_537,
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_polled_body_that_is_no_payload_closes_the_connection(cluster: LiveCluster, body: bytes) -> None:
    """The request is answered 400, and so is every later one of that session."""
    async with aiohttp.ClientSession() as session:
        url = await _poll_open(session, cluster)
        async with session.post(url, data=body) as response:
            assert response.status == 400
        async with session.post(url, data='42["heartbeat",{}]') as response:
            assert response.status == 400


async def test_a_polled_body_may_arrive_in_pieces(cluster: LiveCluster) -> None:
    """On a slow network a body comes in several segments, or in chunks: it is read whole."""
    async with aiohttp.ClientSession() as session:
        url = await _poll_open(session, cluster)
        polled = await _post_slowly(url, '42["heartbeat",{"clientTime":"నమస్తే"}]'.encode())
        assert polled.startswith(b"HTTP/1.1 200")
        assert "నమస్తే" in await _poll_for(session, url, "heartbeat_ack")

        async def chunks() -> AsyncIterator[bytes]:
            yield b'42["heartbeat",'
            yield b'{"clientTime":2}]'

        async with session.post(url, data=chunks()) as response:
            assert response.status == 200
        assert '"clientTime":2' in await _poll_for(session, url, "heartbeat_ack")


async def test_binary_that_is_polled_in_is_refused(cluster: LiveCluster) -> None:
    """Base64 in a payload is a binary frame: `binary_not_accepted`, and the session lives on."""
    async with aiohttp.ClientSession() as session:
        url = await _poll_open(session, cluster)
        async with session.post(url, data="bAAEC") as response:
            assert response.status == 200
        assert "binary_not_accepted" in await _poll_for(session, url, '"error"')
        async with session.post(url, data='42["heartbeat",{}]') as response:
            assert response.status == 200
        await _poll_for(session, url, "heartbeat_ack")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "EIO=3&transport=polling",
        "EIO=4&transport=carrier-pigeon",
        "EIO=4&transport=websocket",
        "EIO=4&transport=polling&sid=nothing",
        "EIO=4&transport=websocket&sid=nothing",
        "EIO=4&transport=polling&j=x",
        "EIO=4&transport=polling&sid=%0A%00%F0%9F%98%80",
    ],
)
async def test_a_request_that_is_no_handshake_is_answered_400(cluster: LiveCluster, query: str) -> None:
    """A wrong version, an unknown transport, a session nobody has."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{cluster.urls[0]}/socket.io/?{query}") as response,
    ):
        assert response.status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Upgrade": "websocket"},
        {"Upgrade": "websocket", "Connection": "keep-alive"},
        {"Upgrade": "websocket", "Connection": "Upgrade"},
        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "7", "Sec-WebSocket-Key": "x"},
    ],
    ids=["no Connection", "a proxy's Connection", "no key", "an old version"],
)
async def test_a_websocket_handshake_that_is_not_right_is_answered_400(
    cluster: LiveCluster, headers: dict[str, str]
) -> None:
    """A proxy that strips the headers of an upgrade is the usual cause: 400, and nobody stumbles."""
    url = f"{cluster.urls[0]}/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        assert response.status == 400


async def test_what_is_no_http_is_refused_by_the_port(cluster: LiveCluster) -> None:
    """A TLS hello, a binary protocol, a header that never ends."""
    address = urlsplit(cluster.urls[0])
    for said in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 64 + b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(said)
        writer.write_eof()
        async with asyncio.timeout(10):
            await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_two_connects_at_once_make_one_session(cluster: LiveCluster) -> None:
    """Polled in side by side, the second is no packet a client may send; nobody's seat is left behind."""
    sessions = await cluster.metric("g1", "talowa_gateway_sessions")
    async with aiohttp.ClientSession() as session:
        url = await _poll_open(session, cluster, connect=False)
        connect = "40" + json.dumps({"token": cluster.token("mallu")})

        async def post() -> int:
            async with session.post(url, data=connect) as response:
                return response.status

        async with asyncio.TaskGroup() as tasks:
            posts = [tasks.create_task(post()) for _ in range(3)]
        assert sorted(post.result() for post in posts)[1:] == [400, 400]
        async with session.post(url, data="1") as response:
            assert response.status in (200, 400)

    async def is_gone() -> bool:
        return await cluster.metric("g1", "talowa_gateway_sessions") == sessions

    await until(is_gone, 10, "the session to be gone")


# --- the means ---------------------------------------------------------------------------------------


async def _signed_in(cluster: LiveCluster, user_id: str) -> RawClient:
    client = await RawClient.connect(cluster.urls[0], {"token": cluster.token(user_id)}, name=user_id)
    await client.expect_event("auth_success")
    return client


async def _assert_refused(client: RawClient, event: str, payload: dict[str, Any], code: str) -> None:
    """`...` leaves a field out."""
    await client.send_event(event, {name: value for name, value in payload.items() if value is not ...}, ack=_ACK)
    await _expect_refusal(client, event, code)


async def _expect_refusal(client: RawClient, event: str, code: str) -> None:
    answer = await client.expect_answer(_ACK)
    assert (answer["ok"], answer["error"]["code"], answer["error"]["retryable"]) == (False, code, False)
    said = await client.expect_event("error")
    assert (said["code"], said["event"]) == (code, event[:64])
    await _assert_alive(client)


async def _assert_alive(client: RawClient) -> None:
    await client.send_event("heartbeat", {"clientTime": 1}, ack=99)
    assert (await client.expect_answer(99))["ok"]


async def _poll_open(session: aiohttp.ClientSession, cluster: LiveCluster, *, connect: bool = True) -> str:
    """The address of a new polling session, which (with `connect`) is signed in."""
    base = f"{cluster.urls[0]}/socket.io/?EIO=4&transport=polling"
    async with session.get(base) as response:
        url = f"{base}&sid={json.loads((await response.text())[1:])['sid']}"
    if connect:
        async with session.post(url, data="40" + json.dumps({"token": cluster.token("mallu")})) as response:
            assert response.status == 200
        await _poll_for(session, url, "auth_success")
    return url


async def _poll_for(session: aiohttp.ClientSession, url: str, wanted: str) -> str:
    """Poll until a packet with `wanted` in it comes."""
    async with asyncio.timeout(10):
        while True:
            async with session.get(url) as response:
                assert response.status == 200
                for packet in (await response.text()).split("\x1e"):
                    if wanted in packet:
                        return packet


async def _post_slowly(url: str, body: bytes) -> bytes:
    """POST in two segments, cut inside a character; the head of the answer."""
    address = urlsplit(url)
    head = f"POST {address.path}?{address.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    cut = len(body) - 6
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(head.encode() + body[:cut])
        await writer.drain()
        # The gateway has read what came as soon as it answers another request.
        async with aiohttp.ClientSession() as session, session.get(f"http://{address.netloc}/healthz") as response:
            assert response.status == 200
        writer.write(body[cut:])
        async with asyncio.timeout(10):
            return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


def _pids(cluster: LiveCluster) -> dict[str, int | None]:
    return {name: cluster.processes.pid(name) for name in cluster.processes.names}


def _complaints(logs: str) -> list[str]:
    """Lines at level error or above, and lines that are not a service's (a stack trace's)."""
    return [
        line for line in logs.splitlines() if '"level": "error"' in line or '"critical"' in line or "Traceback" in line
    ]
