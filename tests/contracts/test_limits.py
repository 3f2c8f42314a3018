"""The sliding window by effect on real brokers: what is let through, what is counted, and when to come back."""

import asyncio
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs import keys, limits
from libs.broker import AWAY, Broker
from libs.limits import REPEAT, Limiter, Take
from tests.support.broker import RunningBroker
from tests.support.waiting import until

_WINDOW_MS: Final = 60_000
# What passes between a look at the broker's clock and the script's own.
_SLACK_MS: Final = 100


def take(member: str | bytes = "m", *, limit: str = "text", whose: str = "asha", most: int = 3) -> Take:
    return Take(limit, whose, member, most)


async def logs(broker: Broker) -> list[str]:
    return sorted(key.decode() for key in await broker.command("KEYS", "*"))


async def counted(broker: Broker) -> int:
    """How many members are counted in all logs."""
    return sum([await broker.command("ZCARD", key) for key in await logs(broker)])


async def test_as_many_pass_as_a_window_takes_and_no_more(broker: Broker) -> None:
    """The others are told to come back when the first leaves the window; they are not counted."""
    limiter = Limiter(broker)
    waits = await limiter.take([take(f"m{number}") for number in range(5)])
    assert waits[:3] == [0, 0, 0]
    assert all(_WINDOW_MS - _SLACK_MS <= wait_ms <= _WINDOW_MS for wait_ms in waits[3:])
    assert await counted(broker) == 3


async def test_what_was_counted_counts_once(broker: Broker) -> None:
    """Sent again, in the same batch or later, at the limit too: it is the same thing."""
    limiter = Limiter(broker)
    assert await limiter.take([take("a"), take("a"), take("b")]) == [0, REPEAT, 0]
    assert await limiter.take([take("c"), take("a"), take("b")]) == [0, REPEAT, REPEAT]
    assert (await limiter.take([take("d"), take("c")]))[1] == REPEAT
    assert await counted(broker) == 3


async def test_people_and_limits_are_counted_apart_and_answered_in_order(broker: Broker) -> None:
    """A batch over many people and all shards comes back as it was asked."""
    limiter = Limiter(broker)
    people = [f"user{number}" for number in range(40)]
    await limiter.take([take("x", whose=who, most=1) for who in people[::2]])
    waits = await limiter.take([take("y", whose=who, most=1) for who in people])
    assert [wait_ms > 0 for wait_ms in waits] == [True, False] * 20
    assert await limiter.take([take("y", limit="image", whose=who, most=1) for who in people]) == [0] * 40


async def test_at_the_same_moment_from_everywhere_no_more_pass_than_may(broker: Broker) -> None:
    """A hundred callers at once, as many gateways and routers would be."""
    limiter = Limiter(broker)
    waits = await asyncio.gather(*(limiter.take([take(f"m{number}", most=60)]) for number in range(100)))
    assert sum(wait_ms == 0 for (wait_ms,) in waits) == 60


async def test_the_wait_it_tells_is_true(broker: Broker) -> None:
    """A moment before it is over, no; once it is over, yes. Here with a short window."""
    limiter = Limiter(broker, window_ms=400)
    assert await limiter.take([take("a", most=1)]) == [0]
    started = await _now_ms(broker)
    (wait_ms,) = await limiter.take([take("b", most=1)])

    async def passes() -> bool:
        return await limiter.take([take("b", most=1)]) == [0]

    await until(passes, 5.0, "room")
    assert wait_ms <= 400
    assert await _now_ms(broker) - started >= wait_ms - _SLACK_MS


async def test_a_log_goes_by_itself(broker: Broker) -> None:
    """Nothing is left of who does nothing for a window."""
    await Limiter(broker, window_ms=200).take([take("a"), take("b", whose="bala")])
    assert len(await logs(broker)) == 2

    async def is_empty() -> bool:
        return not await logs(broker)

    await until(is_empty, 5.0, "the logs to go")


async def test_no_limit_asks_nothing(broker: Broker) -> None:
    """0 is any number, and costs no round trip."""
    assert await Limiter(broker).take([take("a", most=0)] * 3) == [0, 0, 0]
    assert await logs(broker) == []


async def test_what_is_given_back_leaves_room(broker: Broker) -> None:
    """As if it had never been counted."""
    limiter = Limiter(broker)
    await limiter.take([take("a"), take("b"), take("c")])
    await limiter.give_back([take("b"), take("never")])
    assert await limiter.take([take("d")]) == [0]


async def test_a_limit_that_was_lowered_waits_for_enough_to_leave(broker: Broker) -> None:
    """Not only for the oldest: with the limit at 1, all but none of the four must go."""
    await _fill(broker, take(), ages_ms=[50_000, 40_000, 30_000, 10_000])
    (wait_ms,) = await Limiter(broker).take([take("new", most=1)])
    assert abs(wait_ms - 50_000) <= _SLACK_MS


async def test_what_was_counted_before_the_clock_was_set_back_bars_nobody(broker: Broker) -> None:
    """It would count until its time has come again, and a minute more."""
    await _fill(broker, take(), [-300_000, -299_000, -298_000])
    assert await Limiter(broker).take([take("new", most=3)]) == [0]


@pytest.mark.parametrize("secret", [b"", b"a secret that all gateways share"])
async def test_no_key_names_whom_it_is_about(broker: Broker, secret: bytes) -> None:
    """Nor can it be tried out by who does not have the secret."""
    await Limiter(broker, secret).take([take("a", whose="asha"), take("b", limit="connects", whose="203.0.113.9")])
    found = await logs(broker)
    assert len(found) == 2
    assert not any(name in key for key in found for name in ("asha", "203"))
    await Limiter(broker, b"another").take([take("a", whose="asha")])
    assert len(await logs(broker)) == 3


async def test_a_broker_that_is_away_is_said(broker: Broker, empty_server: RunningBroker) -> None:
    """Who asks decides what follows."""
    empty_server.kill()
    with pytest.raises(AWAY):
        await Limiter(broker).take([take()])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    # Ages lie between the hundreds, so that no slack moves one over the edge of the window.
    ages=st.lists(st.integers(0, 700).map(lambda n: n * 100 + 550), max_size=12),
    most=st.integers(1, 8),
    asked=st.integers(1, 4),
)
async def test_it_agrees_with_a_plain_log(broker: Broker, ages: list[int], most: int, asked: int) -> None:
    """Whatever was counted when, each that is asked passes or waits as in a list of times."""
    await broker.command("FLUSHALL")
    await _fill(broker, take(), ages)
    waits = await Limiter(broker).take([take(f"new{number}", most=most) for number in range(asked)])
    model = sorted((age for age in ages if age < _WINDOW_MS), reverse=True)
    for wait_ms in waits:
        if len(model) < most:
            assert wait_ms == 0
            model.append(0)
        else:
            assert abs(wait_ms - (_WINDOW_MS - model[len(model) - most])) <= _SLACK_MS


async def _fill(broker: Broker, of: Take, ages_ms: list[int]) -> None:
    """A log in which members were counted so long ago."""
    now = await _now_ms(broker)
    (shard, key) = Limiter(broker)._place(of)
    assert key.startswith(keys.taken(shard, of.limit, ""))
    for number, age in enumerate(ages_ms):
        await broker.command("ZADD", key, now - age, f"old{number}")


async def _now_ms(broker: Broker) -> int:
    seconds, micros = await broker.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def test_a_minute_is_a_minute() -> None:
    """Services use the default."""
    assert limits.WINDOW_MS == _WINDOW_MS


async def test_a_log_tells_of_no_message_which_it_is(broker: Broker) -> None:
    """With a secret: else an anonymous message's id would stand in a log beside those under its author's name."""
    limiter = Limiter(broker, b"s" * 32)
    assert await limiter.take([take("named"), take("anonymous"), take("named")]) == [0, 0, REPEAT]
    members = {member for key in await logs(broker) for member in await broker.command("ZRANGE", key, 0, -1)}
    assert len(members) == 2
    assert members.isdisjoint({b"named", b"anonymous"})
    await limiter.give_back([take("named")])
    assert await counted(broker) == 1
