"""Resume tickets: what goes in comes out, until it ends; nothing else comes out at all."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from libs.identity import Claims, Tickets
from libs.wire.codes import Code, Refusal

_NOW_MS = 1_800_000_000_000
_LIFETIME_MS = 3_600_000
_TIMES = st.integers(min_value=0, max_value=1 << 45)
CLAIMS = st.builds(Claims, st.text(min_size=1, max_size=128), _TIMES, _TIMES, st.none() | st.text(max_size=20))
TICKETS = Tickets(["s" * 32], _LIFETIME_MS)
GOOD = Claims("asha", _NOW_MS, _NOW_MS + 2 * _LIFETIME_MS, "admin")


def refusal(ticket: str, now_ms: int = _NOW_MS, tickets: Tickets = TICKETS) -> Code:
    """The code a ticket is refused with."""
    with pytest.raises(Refusal) as refused:
        tickets.read(ticket, now_ms)
    return refused.value.code


@given(CLAIMS, _TIMES)
def test_a_ticket_holds_its_claims_until_it_ends(claims: Claims, now_ms: int) -> None:
    """At its lifetime's end or its token's, whichever comes first."""
    ticket = TICKETS.issue(claims, now_ms)
    until = min(claims.expires_at_ms, now_ms + _LIFETIME_MS)
    if until > now_ms:
        assert TICKETS.read(ticket, now_ms) == claims
        assert TICKETS.read(ticket, until - 1) == claims
    assert refusal(ticket, until) is Code.TOKEN_EXPIRED


@given(CLAIMS, st.data())
def test_a_ticket_that_was_changed_is_refused(claims: Claims, data: st.DataObject) -> None:
    """In any of its characters but the spare bits of the last."""
    ticket = TICKETS.issue(claims, _NOW_MS)
    at = data.draw(st.integers(min_value=0, max_value=len(ticket) - 2))
    letter = data.draw(st.sampled_from("ABCDEFabcdef0189-_"))
    assume(letter != ticket[at])
    assert refusal(ticket[:at] + letter + ticket[at + 1 :]) is Code.TOKEN_INVALID


@given(st.text(max_size=300))
def test_any_text_is_refused(text: str) -> None:
    """Whatever it is, with a code."""
    assert refusal(text) is Code.TOKEN_INVALID


def test_a_ticket_of_another_secret_is_refused() -> None:
    """Another cluster's."""
    assert refusal(Tickets(["o" * 32], _LIFETIME_MS).issue(GOOD, _NOW_MS)) is Code.TOKEN_INVALID


def test_a_secret_can_be_changed_while_tickets_under_the_old_one_are_about() -> None:
    """The first signs, all are believed, and one that was taken away is not."""
    old, new = "s" * 32, "n" * 32
    before, during, after = (Tickets(secrets, _LIFETIME_MS) for secrets in ([old], [new, old], [new]))
    assert during.read(before.issue(GOOD, _NOW_MS), _NOW_MS) == GOOD
    assert after.read(during.issue(GOOD, _NOW_MS), _NOW_MS) == GOOD
    assert Tickets([old, new], _LIFETIME_MS).read(during.issue(GOOD, _NOW_MS), _NOW_MS) == GOOD
    assert refusal(before.issue(GOOD, _NOW_MS), tickets=after) is Code.TOKEN_INVALID


def test_a_ticket_that_is_too_long_is_not_even_looked_at() -> None:
    """A megabyte costs nothing."""
    assert refusal(TICKETS.issue(GOOD, _NOW_MS) + "A" * 1024) is Code.TOKEN_INVALID


def test_tickets_cannot_be_chained_past_their_token() -> None:
    """A ticket got with a ticket ends with the token at the beginning."""
    claims = TICKETS.read(TICKETS.issue(GOOD, _NOW_MS), _NOW_MS)
    now_ms = GOOD.expires_at_ms - 1
    again = TICKETS.issue(claims, now_ms)
    assert TICKETS.read(again, now_ms) == GOOD
    assert refusal(again, GOOD.expires_at_ms) is Code.TOKEN_EXPIRED
