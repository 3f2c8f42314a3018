"""How much a session may ask in any minute."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.wire import events
from libs.wire.codes import Code, Refusal
from services.gateway import minutes
from services.gateway.minutes import LIMIT_OF, Minute, Minutes
from services.gateway.settings import GatewaySettings
from tests.unit.services.gateway.fakes import session

_DEFAULTS = {
    "subscriptions": 60,
    "joins": 120,
    "typing": 120,
    "broadcasts": 30,
    "get_keys": 30,
    "publish_keys": 20,
    "searches": 30,
    "history": 240,
}


def test_the_table_names_events_and_settings_that_exist() -> None:
    """And the defaults are the contract's."""
    assert LIMIT_OF.keys() <= events.type_of_event.keys()
    assert minutes.per_minute(GatewaySettings(redis_url="", ticket_secret="x" * 32)) == _DEFAULTS


def test_what_is_over_a_limit_is_refused_until_the_oldest_is_a_minute_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of one kind count together, others apart, and other sessions apart."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limits, (asha, _), (bala, _) = Minutes({**_DEFAULTS, "joins": 3}), session("asha"), session("bala", "another")
    for event in ("join_group", "leave_group", "join_conversation"):
        limits.count(asha, event)
        now += 10
    with pytest.raises(Refusal) as refused:
        limits.count(asha, "join_group")
    assert refused.value.code is Code.RATE_LIMITED
    assert refused.value.retry_after_ms == 30_000
    limits.count(asha, "get_keys")
    limits.count(bala, "join_group")
    now += 30
    limits.count(asha, "join_group")


def test_a_session_that_asks_nothing_of_the_kind_keeps_nothing() -> None:
    """Messages, receipts and heartbeats are not counted here, nor is what has no limit."""
    asha, _ = session("asha")
    limits = Minutes({**_DEFAULTS, "joins": 0})
    for event in ("send_message", "message_read", "heartbeat", "join_group"):
        for _ in range(1000):
            limits.count(asha, event)
    assert asha.minutes is None


@given(st.integers(1, 5), st.lists(st.integers(0, 40), max_size=60))
def test_it_agrees_with_a_plain_log(most: int, pauses_s: list[int]) -> None:
    """Whatever the rhythm: what passes, what waits, and for how long."""
    minute, log, now = Minute(), list[float](), 0.0
    for pause_s in pauses_s:
        now += pause_s
        log = [at for at in log if at > now - 60]
        expected = 0.0 if len(log) < most else log[0] + 60 - now
        assert minute.wait_s(now, most) == expected
        if expected == 0:
            log.append(now)
