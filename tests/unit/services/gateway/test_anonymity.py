"""Nothing that goes with an anonymous message names its sender."""

import json
from typing import Any

import msgspec
import pytest

from libs.wire.codes import Code, Refusal
from libs.wire.events import Draft
from libs.wire.names import direct, group, pseudonym
from services.gateway.anonymity import checked, recipient_of

_UID = "Xk3f9QmB2+a"


def draft(url: str | None = None, metadata: Any = None, conversation_id: str = "group:g", **fields: Any) -> Draft:
    packed = json.dumps(metadata).encode() if metadata is not None else None
    return Draft(conversation_id, "c", "c", "image", "", url, packed, is_anonymous=fields.get("is_anonymous", True))


@pytest.mark.parametrize(
    ("url", "metadata"),
    [
        (f"https://x/o/users/{_UID}/1.jpg", None),
        ("https://x/o/users%2FXk3f9QmB2%2Ba%2F1.jpg", None),
        ("https://x/o/users%252FXk3f9QmB2%252Ba", None),
        ("https://x/o/USERS/XK3F9QMB2+A", None),
        (None, {"path": f"chat/{_UID}"}),
        (None, {"all": [{"of": [f"a-{_UID}-b"]}]}),
        (None, {f"by {_UID}": 1}),
        (None, {"thumb": "users%2Fxk3f9QmB2%2ba"}),
    ],
)
def test_what_holds_the_senders_id_is_refused(url: str | None, metadata: Any) -> None:
    """In an address or in metadata, plain or encoded, in any case, however deep."""
    with pytest.raises(Refusal) as refused:
        checked(draft(url, metadata), _UID)
    assert refused.value.code is Code.IDENTITY_EXPOSED


def test_fields_that_claim_an_identity_are_dropped() -> None:
    """Apps send them with everything: not a reason to refuse, and not carried."""
    claims = {"senderId": _UID, "senderName": "Asha", "userId": _UID, "uid": _UID}
    one = checked(draft("https://x/1.jpg", {**claims, "width": 3, "parts": [{**claims, "n": 1}]}), _UID)
    assert one.media_metadata is not None
    assert json.loads(one.media_metadata) == {"width": 3, "parts": [{"n": 1}]}
    assert one.media_url == "https://x/1.jpg"
    assert checked(draft(None, claims), _UID).media_metadata is None
    assert checked(draft(), _UID) == draft()


def test_metadata_that_is_nested_too_deep_is_refused() -> None:
    """Not a stack trace."""
    deep = msgspec.structs.replace(draft(), media_metadata=b'{"x":' + b"[" * 3000 + b"]" * 3000 + b"}")
    with pytest.raises(Refusal) as refused:
        checked(deep, _UID)
    assert refused.value.code is Code.INVALID_PAYLOAD


def test_a_note_to_oneself_is_not_anonymous() -> None:
    """Its author would be its recipient."""
    with pytest.raises(Refusal) as refused:
        checked(draft(conversation_id=direct("asha", "asha")), "asha")
    assert refused.value.code is Code.INVALID_PAYLOAD


def test_an_anonymous_direct_message_goes_to_its_recipient() -> None:
    """The conversation it belongs to, a router finds; one that is named already, or not one's own, as it is."""
    hidden = direct(pseudonym(b"ten bytes!"), "ravi")
    assert recipient_of(draft(conversation_id=direct("asha", "ravi")), "asha") == "ravi"
    for elsewhere in (hidden, group("g"), direct("bala", "ravi")):
        assert recipient_of(draft(conversation_id=elsewhere), "asha") is None
    assert recipient_of(draft(conversation_id=direct("asha", "ravi"), is_anonymous=False), "asha") is None
