"""Sections under an older token are refused; unless it is the broker that has forgotten how far tokens had come."""

import pytest
from redis import exceptions

from libs.broker import Broker, Call
from libs.wire.frames import Section
from services.gateway.fence import Fence


class Scripts(Broker):
    """Takes scripts; `found` is what they give."""

    def __init__(self, found: int = 0) -> None:
        self.found = found
        self.asked: list[str] = []
        self.is_away = False

    async def scripts(self, calls: list[Call], **_: object) -> list[int]:  # type: ignore[override]
        if self.is_away:
            raise exceptions.ConnectionError
        self.asked += [str(call.command[3]) for call in calls]
        return [self.found for _ in calls]


def section(token: int, partition: int = 1) -> Section:
    return Section(partition, token, ())


def test_an_older_token_than_one_seen_is_refused() -> None:
    """Of the same partition; the same one again, and newer ones, pass."""
    fence = Fence()
    assert [fence.passes(section(token)) for token in (5, 5, 7, 6, 7)] == [True, True, True, False, True]
    assert fence.passes(section(1, partition=2))


async def test_what_was_refused_is_asked_about_once() -> None:
    """Nothing was refused: nothing is asked. An owner that was refused is told, and the gateway knows."""
    fence, broker = Fence(), Scripts(found=1)
    assert not await fence.check(broker)
    fence.passes(section(7))
    fence.passes(section(6))
    assert await fence.check(broker)
    assert not await fence.check(broker)
    assert broker.asked == ["talowa:{p01}:lease"]


async def test_a_broker_that_is_away_is_asked_again() -> None:
    """Else an owner would be refused until somebody else owns the partition."""
    fence, broker = Fence(), Scripts(found=1)
    fence.passes(section(7))
    fence.passes(section(6))
    broker.is_away = True
    with pytest.raises(exceptions.ConnectionError):
        await fence.check(broker)
    broker.is_away = False
    assert await fence.check(broker)


async def test_after_a_failover_all_that_was_seen_holds() -> None:
    """Each partition's newest."""
    fence, broker = Fence(), Scripts()
    for partition in (1, 4):
        fence.passes(section(7, partition))
    await fence.hold(broker)
    assert broker.asked == ["talowa:{p01}:lease", "talowa:{p04}:lease"]
