"""Messages are counted by who sent them, under the limit of their type."""

import pytest

from libs.broker import Broker
from libs.limits import Limiter
from libs.wire.codes import Code, Refusal
from libs.wire.events import MESSAGE_TYPES
from services.router.rates import Counted, Rates, per_minute
from services.router.settings import RouterSettings

_DEFAULTS = {"text": 60, "image": 10, "document": 5, "voice": 20, "emergency": 3}


def test_the_defaults_are_the_contracts() -> None:
    """As docs/protocol.md has them."""
    assert per_minute(RouterSettings(redis_url="")) == _DEFAULTS


async def test_every_type_of_message_has_a_limit(broker: Broker) -> None:
    """One message of each passes, and the tenth of some does not."""
    rates = Rates(Limiter(broker), dict.fromkeys(_DEFAULTS, 1))
    batch = [Counted("asha", kind, kind) for kind in sorted(MESSAGE_TYPES - {"location"})]
    assert await rates.count(batch) == ({}, frozenset(MESSAGE_TYPES - {"location"}))
    refused, fresh = await rates.count([Counted("asha", "location", "a place"), Counted("bala", "text", "b")])
    assert list(refused) == ["a place"]
    assert list(fresh) == ["b"]


async def test_a_broadcast_counts_with_the_emergencies(broker: Broker) -> None:
    """One at a time, the same one as often as it is sent; beyond the limit it is refused with the time to wait."""
    rates = Rates(Limiter(broker), _DEFAULTS)
    await rates.count([Counted("asha", "emergency", "a message")])
    for key in ("one", "one", "two"):
        await rates.check(Counted("asha", "emergency", key))
    with pytest.raises(Refusal) as refused:
        await rates.check(Counted("asha", "emergency", "three"))
    assert refused.value.code is Code.RATE_LIMITED
    assert 59_000 < (refused.value.retry_after_ms or 0) <= 60_000
    await rates.give_back([Counted("asha", "emergency", "one")])
    await rates.check(Counted("asha", "emergency", "three"))
