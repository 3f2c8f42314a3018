"""A router's answer to an operator's call: its body, or the refusal that it is."""

import pytest

from libs.wire import payloads
from libs.wire.codes import Code, Refusal
from libs.wire.frames import Answer, SignedIn
from services.gateway.questions import Questions, body_of


def test_what_was_accepted_is_its_body() -> None:
    """As the router encoded it."""
    body = payloads.accepted_with(payloads.Revoked("asha", 5000))
    assert body_of(Answer("?1", 0, body)) == body


def test_what_was_refused_is_raised_with_its_code() -> None:
    """And with what the router said, and when to try again."""
    said = payloads.encode(payloads.refused(Refusal(Code.UNAVAILABLE, "Not now.", 2000)))
    with pytest.raises(Refusal, match="unavailable") as raised:
        body_of(Answer("?1", 0, said))
    assert (raised.value.message, raised.value.retry_after_ms) == ("Not now.", 2000)


def test_another_kind_of_answer_is_a_mistake_of_ours() -> None:
    """Nobody is told that something was done."""
    with pytest.raises(Refusal, match="internal"):
        body_of(SignedIn("?1", "asha"))


def test_an_answer_that_nobody_waits_for_is_told_so() -> None:
    """It may be about a sign-in that was asked about again."""
    assert not Questions("g1").answered(SignedIn("socket", "asha"))
