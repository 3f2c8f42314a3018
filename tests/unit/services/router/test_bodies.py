"""Records as the JSON that clients receive, field by field as PROTOCOL has them."""

import json

import pytest

from libs.wire import names, payloads
from libs.wire.codes import Code, Refusal
from services.router import bodies
from services.router.anonymity import Author
from tests.unit.services.router.fakes import FIELD, message


def test_a_direct_message_names_its_recipient() -> None:
    """And no group; fields that do not apply are left out."""
    one = message(3)
    assert json.loads(bodies.new_message(one)) == {
        "id": one.id,
        "seq": 3,
        "conversationId": "direct:rama:sita",
        "type": "text",
        "content": "The survey is on Monday.",
        "senderId": "rama",
        "senderName": "Rama",
        "senderRole": "member",
        "recipientId": "sita",
        "encryptionLevel": "standard",
        "isEncrypted": False,
        "isAnonymous": False,
        "timestamp": 5,
        "serverTime": 1003,
        "clientId": "direct:rama:sita/3",
    }


def test_a_group_message_names_its_group() -> None:
    """And no recipient."""
    body = json.loads(bodies.new_message(message(1, FIELD)))
    assert body["groupId"] == "field"
    assert "recipientId" not in body


def test_a_note_to_oneself_has_no_recipient() -> None:
    """There is nobody else in it."""
    body = json.loads(bodies.new_message(message(1, names.direct("rama", "rama"))))
    assert "recipientId" not in body


def test_media_is_carried_as_it_came() -> None:
    """The metadata is JSON already and goes out unread."""
    one = message(1, media_url="https://media.example/a", media_metadata=b'{"size":10,"name":"\xe0\xb0\xad"}')
    body = json.loads(bodies.new_message(one))
    assert body["mediaUrl"] == "https://media.example/a"
    assert body["mediaMetadata"] == {"size": 10, "name": "భ"}


def test_indic_text_is_not_escaped() -> None:
    """Three bytes a letter, not six: every byte counts on 2G."""
    assert "భూమి मादी".encode() in bodies.new_message(message(1, content="భూమి मादी"))


@pytest.mark.parametrize(("level", "is_encrypted"), [("standard", False), ("high_security", True)])
def test_what_is_encrypted_says_so(level: str, is_encrypted: bool) -> None:
    """`isEncrypted` follows from the level."""
    body = json.loads(bodies.new_message(message(1, encryption_level=level)))
    assert (body["encryptionLevel"], body["isEncrypted"]) == (level, is_encrypted)


def test_a_status_stands_only_where_it_is_given() -> None:
    """In a history, on one's own messages."""
    assert json.loads(bodies.new_message(message(1), "read"))["status"] == "read"
    assert "status" not in json.loads(bodies.new_message(message(1)))


def test_the_answer_says_ok_and_where_the_message_stands() -> None:
    """Everything a client needs to know its message again."""
    one = message(3)
    assert json.loads(bodies.accepted(one, Author("rama", "mine", "local-7"), "queued")) == {
        "ok": True,
        "status": "queued",
        "messageId": one.id,
        "clientId": "mine",
        "conversationId": one.conversation_id,
        "seq": 3,
        "serverTime": 1003,
    }


def test_a_status_counts_recipients_where_they_are_counted() -> None:
    """`recipients` is left out where nobody counts."""
    one, author = message(3), Author("rama", "mine", "local-7")
    plain = {
        "messageId": one.id,
        "clientMessageId": "local-7",
        "clientId": "mine",
        "conversationId": one.conversation_id,
        "seq": 3,
        "status": "delivered",
        "timestamp": 99,
    }
    assert json.loads(bodies.delivery_status(one, author, "delivered", 99)) == plain
    counted = json.loads(bodies.delivery_status(one, author, "delivered", 99, payloads.Recipients(3, 2, 1)))
    assert counted == {**plain, "recipients": {"total": 3, "delivered": 2, "read": 1}}


def test_a_refused_message_is_told_by_both_of_its_ids() -> None:
    """The client finds its message by either, and the reason by its code."""
    body = json.loads(bodies.message_error(Refusal(Code.BLOCKED), "local-7", "mine"))
    assert body == {
        "code": "blocked",
        "error": "One of you has blocked the other.",
        "messageId": "local-7",
        "clientId": "mine",
    }
