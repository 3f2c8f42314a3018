"""One payload of each kind: what a client may send, and what it may receive. A test decodes each as its type."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from libs.wire import payloads
from libs.wire.codes import Code, Refusal
from libs.wire.events import PreKey, SignedPreKey

_DIRECT: Final = "direct:asha:ravi"
_GROUP: Final = "group:sangam"
_CLIENT_ID: Final = "5f0c"
_MESSAGE_ID: Final = "f84683960ff4819aa38599ceba182b704b12"
_BROADCAST_ID: Final = "d7c42ecaeaa0700506898ae9fa2ecee5"
_NOW: Final = 1_795_000_000_000
_WARNING: Final = "గోదావరి పొంగుతోంది. ఎత్తైన ప్రదేశానికి వెళ్లండి."
_SIGNATURE: Final = "Mun22SHjY41W30IszuiznknJaSuMiMa2g3zfrb9xHZRBZf66XVLOZTBMEqEZX93Eq1oBLQwA9bArgF19zBQgBg=="
_SIGNED_PRE_KEY: Final = SignedPreKey(1, "Mzn+/bK5G3wsRZWASX1P7VtofANz9ORkdifWihMk4Rw=", _SIGNATURE)
_IDENTITY_KEY: Final = "0MpyEfGPaGWPhQzMh/LYu1Y5nWoiaaesf0/2mGnW8To="
_ONE_TIME_PRE_KEYS: Final = (
    PreKey(1, "wDq6tuy9NbkT2wy/DMNohha/BiLBsZ6JbVZFux45F0A="),
    PreKey(2, "4x9jXqHcTC+iuThXyqLQPDzBCMl+GEQgQfimPBAQow4="),
)
_MESSAGE: Final = payloads.NewMessage(
    id=_MESSAGE_ID,
    seq=7,
    conversation_id=_DIRECT,
    type="text",
    content="నమస్తే",
    sender_id="asha",
    sender_name="Asha",
    sender_role="member",
    encryption_level="standard",
    is_encrypted=False,
    is_anonymous=False,
    timestamp=_NOW - 120,
    server_time=_NOW,
    client_id=_CLIENT_ID,
    recipient_id="ravi",
)
_RAW_MESSAGE: Final = msgspec.Raw(payloads.encode(_MESSAGE))

# By client event, as a client writes it.
sent: Final[dict[str, dict[str, Any]]] = {
    "authenticate": {"token": "eyJhbGciOiJSUzI1NiIs…", "deviceInfo": {"platform": "android"}},
    "send_message": {"clientId": _CLIENT_ID, "type": "text", "content": "నమస్తే", "recipientId": "ravi"},
    "message_delivered": {"messageId": _MESSAGE_ID},
    "mark_as_read": {"conversationId": _DIRECT, "seq": 7},
    "message_read": {"messageId": _MESSAGE_ID},
    "join_group": {"groupId": "sangam"},
    "join_conversation": {"conversationId": _DIRECT},
    "join_user_room": {"userId": "asha"},
    "leave_group": {"groupId": "sangam"},
    "leave_conversation": {"conversationId": _DIRECT},
    "get_conversation_history": {"conversationId": _GROUP, "limit": 20, "before": 41},
    "typing_start": {"conversationId": _DIRECT},
    "typing_stop": {"conversationId": _DIRECT},
    "typing_indicator": {"conversationId": _DIRECT, "isTyping": True},
    "search_messages": {"query": "నమ", "conversationId": _DIRECT, "limit": 20},
    "emergency_broadcast": {
        "clientId": "warn-1",
        "title": "వరద హెచ్చరిక",
        "content": _WARNING,
        "locationLevel": "district",
        "locationIds": ["bhadradri"],
        "priority": "critical",
    },
    "update_presence": {"status": "busy"},
    "get_presence": {"userIds": ["asha", "ravi"]},
    "subscribe_presence": {"userIds": ["ravi"]},
    "unsubscribe_presence": {"userIds": ["ravi"]},
    "publish_keys": {
        "deviceId": "phone-1",
        "identityKey": _IDENTITY_KEY,
        "signedPreKey": msgspec.to_builtins(_SIGNED_PRE_KEY),
        "oneTimePreKeys": [msgspec.to_builtins(key) for key in _ONE_TIME_PRE_KEYS],
    },
    "get_keys": {"userId": "ravi"},
    "sync": {"cursors": {_DIRECT: 7}, "budgetBytes": 32_768},
    "heartbeat": {"clientTime": _NOW},
}

_SAID: Final[tuple[Struct, ...]] = (
    payloads.AuthRequired(30_000),
    payloads.AuthSuccess("g1.4f7d", "asha", "Asha", "member", _NOW, "kgE4x…"),
    payloads.auth_failed(Refusal(Code.TOKEN_EXPIRED)),
    payloads.AuthTimeout("No sign-in in time. Connect again."),
    payloads.TokenExpiring(_NOW + 300_000),
    payloads.Reconnect(1180, "kgE4x…"),
    payloads.ErrorEvent("access_denied", Refusal(Code.ACCESS_DENIED).message, "join_group"),
    payloads.MessageError("blocked", Refusal(Code.BLOCKED).message, "m1", _CLIENT_ID),
    payloads.MessageDeliveryStatus(
        _MESSAGE_ID, "m1", _CLIENT_ID, _DIRECT, 7, "delivered", _NOW, payloads.Recipients(1, 1, 0)
    ),
    _MESSAGE,
    payloads.OfflineMessages([_RAW_MESSAGE], has_more=False),
    payloads.ConversationHistory(_DIRECT, [_RAW_MESSAGE], has_more=True),
    payloads.MessageReadConfirmed(None, _DIRECT, 7),
    payloads.MessageRead(_MESSAGE_ID, _DIRECT, 7, "ravi", _NOW),
    payloads.GroupJoined("sangam"),
    payloads.TypingIndicator("asha", "Asha", _DIRECT, True, _NOW),
    payloads.SearchResults("నమ", [_RAW_MESSAGE], _DIRECT),
    payloads.PresenceUpdate("ravi", "offline", _NOW),
    payloads.Presence({"asha": payloads.Seen("online", _NOW), "ravi": payloads.Seen("offline", None)}),
    payloads.EmergencyBroadcast(_BROADCAST_ID, "వరద హెచ్చరిక", _WARNING, "critical", _NOW, "district", ["bhadradri"]),
    payloads.BroadcastAccepted(_BROADCAST_ID, "sent", payloads.Reach(1_208, 5_417)),
    payloads.KeysPublished("phone-1", 2),
    payloads.Keys("ravi", [payloads.DeviceKeys("phone-1", _IDENTITY_KEY, _SIGNED_PRE_KEY, _ONE_TIME_PRE_KEYS[0])]),
    payloads.KeysLow("phone-1", 9),
    payloads.HeartbeatAck(_NOW, msgspec.Raw(b"1795000000000")),
    payloads.Accepted("sent", _MESSAGE_ID, _CLIENT_ID, _DIRECT, 7, _NOW),
    payloads.Ok(),
    payloads.refused(Refusal(Code.RATE_LIMITED, retry_after_ms=1_400)),
)

# By the type of what a client receives.
received: Final[dict[type[Struct], Any]] = {type(body): msgspec.json.decode(payloads.encode(body)) for body in _SAID}
