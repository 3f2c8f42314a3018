"""The bodies that clients receive: named as the contract has them, Indic text as it is."""

import json

import msgspec
import pytest

from libs.wire import payloads
from libs.wire.codes import Code, Refusal


def test_text_is_not_escaped() -> None:
    """Telugu costs three bytes a letter, not six."""
    assert "నమస్తే".encode() in payloads.encode(payloads.AuthTimeout("నమస్తే"))


def test_a_refused_answer_says_why_and_whether_to_try_again() -> None:
    """`retryAfterMs` stands only where there is something to wait for."""
    assert json.loads(payloads.encode(payloads.refused(Refusal(Code.BLOCKED, "No.")))) == {
        "ok": False,
        "error": {"code": "blocked", "message": "No.", "retryable": False},
    }
    late = json.loads(payloads.encode(payloads.refused(Refusal(Code.OVERLOADED, retry_after_ms=2000))))
    assert late["error"]["retryAfterMs"] == 2000
    assert late["error"]["retryable"] is True


def test_a_failed_sign_in_says_the_same() -> None:
    """Code, words, and whether to try again."""
    failed = json.loads(payloads.encode(payloads.auth_failed(Refusal(Code.TOKEN_EXPIRED))))
    assert (failed["code"], failed["retryable"]) == ("token_expired", False)
    assert failed["message"]


def test_a_body_as_an_answer_is_the_body_and_ok() -> None:
    """The body is encoded once for the event and the answer."""
    body = payloads.ConversationHistory("group:g", [msgspec.Raw(b'{"seq":1}')], has_more=False)
    assert json.loads(payloads.accepted_with(body)) == {"ok": True, **json.loads(payloads.encode(body))}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (payloads.AuthSuccess, "connectionId userId userName userRole serverTime resumeTicket"),
        (payloads.Accepted, "status messageId clientId conversationId seq serverTime ok"),
        (payloads.MessageError, "code error messageId clientId"),
        (payloads.ErrorEvent, "code message event"),
        (payloads.TokenExpiring, "expiresAt"),
        (payloads.Reconnect, "afterMs resumeTicket"),
        (payloads.AuthRequired, "timeoutMs"),
        (payloads.Info, "url transports path heartbeatInterval heartbeatTimeout"),
        (
            payloads.MessageDeliveryStatus,
            "messageId clientMessageId clientId conversationId seq status timestamp recipients error",
        ),
    ],
)
def test_fields_are_named_as_the_contract_has_them(kind: type[msgspec.Struct], names: str) -> None:
    """Apps in people's hands speak it: a renamed field breaks them."""
    assert [field.encode_name for field in msgspec.structs.fields(kind)] == names.split()
