"""Whatever a client sends is read, or refused with a code; nothing else is ever raised."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.wire import events, names
from libs.wire.codes import Code, Refusal

_EVENTS = sorted(events.type_of_event)
# Of every kind of number that JSON can hold, those at the edges of what machines can.
_NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 1 << 31, 1 << 53, (1 << 53) + 1, 1 << 63, (1 << 64) - 1, 1 << 64, 10**30, -(1 << 64)]),
    st.floats(allow_nan=False, allow_infinity=False),
)
_TEXTS = st.one_of(st.text(), st.sampled_from(["bala", "direct:asha:bala", "group:g", "a b", "\0", "0001-01-01"]))
_FIELDS = sorted(
    {field.encode_name for kind in events.type_of_event.values() for field in msgspec.structs.fields(kind)}
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=4)),
    max_leaves=8,
)
# Objects with the names of real fields, so that most of them come past the first check.
_PAYLOADS = st.one_of(_JSON, st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=8))
_GOOD: dict[str, Any] = {"id": "m1", "clientId": "c1", "content": "నమస్తే", "recipientId": "bala"}
_BROADCAST: dict[str, Any] = {"title": "Flood", "content": "Go up", "locationLevel": "village", "locationIds": ["v1"]}


def draft(**changed: Any) -> events.Draft:
    """A good message with something changed (`...` leaves a field out), as asha's draft. Raises `Refusal`."""
    payload = {name: value for name, value in (_GOOD | changed).items() if value is not ...}
    event = events.read("send_message", msgspec.Raw(json.dumps(payload).encode()))
    assert isinstance(event, events.SendMessage)
    return event.draft("asha")


@given(st.sampled_from(_EVENTS), _PAYLOADS)
def test_any_json_is_read_or_refused(name: str, payload: Any) -> None:
    """And what was read can travel: it holds no number that a frame cannot carry."""
    with suppress(Refusal):
        event = events.read(name, msgspec.Raw(json.dumps(payload).encode()))
        if isinstance(event, events.SendMessage):
            msgspec.msgpack.encode(event.draft("asha"))
        elif isinstance(event, events.GetConversationHistory):
            events.target(event.conversation_id, "asha")
            msgspec.msgpack.encode(event)
        elif isinstance(event, events.Sync):
            msgspec.msgpack.encode(event)
            for conversation_id in event.cursors:
                events.target(conversation_id, "asha")
        elif isinstance(event, events.MessageDelivered | events.KeyBundle | events.SearchMessages | events.Typing):
            msgspec.msgpack.encode(event)
        elif isinstance(event, events.EmergencyBroadcast | events.GetPresence):
            event.check()
            msgspec.msgpack.encode(event)


@given(_PAYLOADS)
def test_any_message_is_drafted_or_refused(changes: Any) -> None:
    """A good message, changed in any way JSON allows."""
    with suppress(Refusal):
        drafted = draft(**(changes if isinstance(changes, dict) else {"content": changes}))
        assert names.is_conversation(drafted.conversation_id)
        assert 0 < len(drafted.client_id) <= events.MAX_CLIENT_ID_CHARS
        assert len(drafted.content.encode()) <= events.MAX_CONTENT_BYTES
        msgspec.msgpack.encode(drafted)


@pytest.mark.parametrize(
    ("name", "payload", "most", "code"),
    [
        ("get_presence", {}, {"userIds": ["u"] * 500}, Code.TOO_MANY),
        ("subscribe_presence", {}, {"userIds": ["u"] * 500}, Code.TOO_MANY),
        ("emergency_broadcast", _BROADCAST, {"locationIds": ["p"] * 10_000}, Code.TOO_MANY),
        ("emergency_broadcast", _BROADCAST, {"locationIds": ["p" * 128]}, Code.INVALID_PAYLOAD),
        ("emergency_broadcast", _BROADCAST, {"title": "t" * 200}, Code.CONTENT_TOO_LARGE),
        ("emergency_broadcast", _BROADCAST, {"content": "x" * 16_384}, Code.CONTENT_TOO_LARGE),
        ("emergency_broadcast", _BROADCAST, {"clientId": "c" * 128}, Code.CLIENT_ID_TOO_LONG),
        ("search_messages", {}, {"query": "q" * 200}, Code.INVALID_PAYLOAD),
    ],
)
def test_the_most_is_taken_and_one_more_refused(
    name: str, payload: dict[str, Any], most: dict[str, Any], code: Code
) -> None:
    """In ids, places, characters and bytes; the refusal says which bound it was."""
    (field, value), *_ = most.items()
    more = [value[0] * 2] if value == ["p" * 128] else value + value[:1]
    _checked(name, payload | most)
    with pytest.raises(Refusal) as refused:
        _checked(name, payload | {field: more})
    assert refused.value.code is code


def _checked(name: str, payload: dict[str, Any]) -> None:
    event = events.read(name, msgspec.Raw(json.dumps(payload).encode()))
    if isinstance(event, events.EmergencyBroadcast | events.GetPresence):
        event.check()


@given(st.binary(max_size=200), st.sampled_from(_EVENTS))
def test_any_bytes_are_read_or_refused(data: bytes, name: str) -> None:
    """Not JSON, not UTF-8, cut in the middle."""
    with suppress(Refusal):
        events.split(data)
    with suppress(Refusal):
        events.read(name, msgspec.Raw(data))


@pytest.mark.parametrize("depth", [500, 900, 950, 1000, 5000, 30_000])
@pytest.mark.parametrize("name", _EVENTS)
def test_nesting_has_no_depth_that_raises(name: str, depth: int) -> None:
    """Deeper than any parser follows is refused, wherever it stands."""
    deep = "[" * depth + "]" * depth
    for argument in (deep, f'{{"metadata":{{"x":{deep}}}}}', f'{{"clientTime":{deep}}}', "[" * depth):
        with suppress(Refusal):
            _, raw = events.split(f'["{name}",{argument}]')
            event = events.read(name, raw)
            if isinstance(event, events.SendMessage):
                event.draft("asha")


@given(st.text(), _JSON)
def test_an_event_is_split_into_its_name_and_its_argument(name: str, argument: Any) -> None:
    """More arguments are ignored; none is an empty object."""
    said, raw = events.split(json.dumps([name, argument, "more"], ensure_ascii=False))
    assert (said, json.loads(bytes(raw))) == (name, argument)
    assert events.split(json.dumps([name])) == (name, msgspec.Raw(b"{}"))


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", "[null]", '["x"', '["x"]]', "x", '["x",undefined]'])
def test_what_is_no_event_is_malformed(text: str) -> None:
    """An event is a JSON array that begins with its name."""
    with pytest.raises(Refusal) as refused:
        events.split(text)
    assert refused.value.code is Code.MALFORMED


def test_half_an_emoji_is_refused_and_not_malformed() -> None:
    """`\\ud83d` is JSON, which an app makes by cutting an emoji in two: the socket lives on."""
    name, argument = events.split('["heartbeat",{"clientTime":"\\ud83d"}]')
    assert name == "heartbeat"
    with pytest.raises(Refusal) as refused:
        events.read("send_message", argument)
    assert refused.value.code is Code.INVALID_PAYLOAD
    assert events.split('["\\ud83d"]')[0] == "?"


def test_both_shapes_make_the_same_draft() -> None:
    """The app's older names fold into the newer ones."""
    older = events.read(
        "send_message",
        msgspec.Raw(
            json.dumps(
                {
                    "messageId": "m1",
                    "messageType": "image",
                    "content": "x",
                    "recipientId": "bala",
                    "mediaUrls": ["https://one", "https://two"],
                    "metadata": {"clientMessageId": "c1", "width": 3},
                    "timestamp": "2026-11-23T00:00:00Z",
                    "senderId": "mallory",
                }
            ).encode()
        ),
    )
    assert isinstance(older, events.SendMessage)
    drafted = older.draft("asha")
    assert drafted == events.Draft(
        conversation_id="direct:asha:bala",
        client_id="c1",
        client_message_id="m1",
        type="image",
        content="x",
        media_url="https://one",
        media_metadata=b'{"mediaUrls":["https://one","https://two"],"width":3}',
        timestamp_ms=1_795_392_000_000,
    )


def test_to_whom_is_read_from_what_is_given() -> None:
    """A recipient, a group, a conversation, or a bare id that may be either."""
    assert draft().conversation_id == "direct:asha:bala"
    assert draft(recipientId=..., groupId="g").conversation_id == "group:g"
    assert draft(recipientId=..., groupId="group:g").conversation_id == "group:g"
    assert draft(recipientId=..., conversationId="direct:asha:bala").conversation_id == "direct:asha:bala"
    bare = draft(recipientId=..., conversationId="g")
    assert (bare.conversation_id, bare.bare_id) == ("direct:asha:g", "g")


@pytest.mark.parametrize(
    "timestamp", ["0001-01-01T00:00:00", "1969-12-31T00:00:00Z", "soon", "", -1, 1 << 53, 1e300, 10**30]
)
def test_a_time_out_of_range_is_refused(timestamp: Any) -> None:
    """Times are milliseconds since 1970, or ISO 8601 of the same range."""
    with pytest.raises(Refusal) as refused:
        draft(timestamp=timestamp)
    assert refused.value.code is Code.INVALID_PAYLOAD


@pytest.mark.parametrize("number", [-1, (1 << 53) + 1, 1 << 63, 1 << 64, 10**30])
@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("message_delivered", '{"conversationId":"bala","seq":%d}'),
        ("get_conversation_history", '{"conversationId":"bala","limit":%d}'),
        ("get_conversation_history", '{"conversationId":"bala","before":%d}'),
        ("get_conversation_history", '{"conversationId":"bala","after":%d}'),
        ("sync", '{"cursors":{"bala":%d}}'),
        ("sync", '{"budgetBytes":%d}'),
    ],
)
def test_a_number_that_no_frame_can_carry_is_refused(name: str, payload: str, number: int) -> None:
    """It would stop the gateway's writer, and with it the gateway."""
    with pytest.raises(Refusal) as refused:
        events.read(name, msgspec.Raw((payload % number).encode()))
    assert refused.value.code is Code.INVALID_PAYLOAD


def test_content_is_measured_in_bytes() -> None:
    """16 KiB of UTF-8 pass, a byte more does not."""
    assert draft(content="x" * 16_384).content
    assert draft(content="అ" * 5_461).content
    for content in ("x" * 16_385, "అ" * 5_462):
        with pytest.raises(Refusal) as refused:
            draft(content=content)
        assert refused.value.code is Code.CONTENT_TOO_LARGE


def test_a_refusal_never_repeats_what_was_said() -> None:
    """Its words go to logs and screens."""
    for changed in ({"content": ["quince"]}, {"type": "quince"}, {"timestamp": "quince"}, {"mediaUrls": "quince"}):
        with pytest.raises(Refusal) as refused:
            draft(**changed)
        assert "quince" not in refused.value.message


@pytest.mark.parametrize("query", ["ab", "12", "కీ", "క్ష", " a-b ", "भू"])
def test_a_query_has_two_letters(query: str) -> None:
    """Digits and vowel signs count, spaces and signs do not."""
    events.SearchMessages(query).check()


@pytest.mark.parametrize("query", ["", "a", "క", "  a  ", "***", '"a"', "❤❤", "\u200d\u200da"])
def test_a_shorter_query_is_refused(query: str) -> None:
    """It would find next to everything."""
    with pytest.raises(Refusal) as refused:
        events.SearchMessages(query).check()
    assert refused.value.code is Code.QUERY_TOO_SHORT
