"""Frames go to the partition they belong to, or are refused with a reason to come back."""

import asyncio

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from libs import keys
from libs.identity import Envelopes
from libs.streams.producer import Producer
from libs.wire import names
from libs.wire.codes import Code, Refusal
from libs.wire.events import Draft
from libs.wire.frames import Canary, Join, Origin, SealedFrame, Send, Sender, Tally
from services.gateway.metrics import GatewayMetrics
from services.gateway.uplink import Lag, Uplink
from tests.unit.services.gateway.fakes import FakeBroker, uplink

_FRAME = Join(Origin("g1", "socket"), "asha", "group:g", "join_group")


async def test_a_frame_goes_where_its_conversation_its_user_or_its_message_is_kept() -> None:
    """By the hash that everybody uses."""
    broker = FakeBroker()
    up = uplink(broker)
    message_id = names.message_id("asha", "c1", "direct:asha:bala")
    up.publish_for_conversation("group:g", _FRAME)
    up.publish_for_user("asha", _FRAME)
    up.publish_for_message(message_id, _FRAME)
    assert len(up) == 3
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        work = tasks.create_task(up.run())
        await up.wait_written()
        work.cancel()
    assert sorted(stream for stream, _ in broker.frames) == sorted(
        keys.inbound(partition)
        for partition in (
            names.partition_of("group:g", 16),
            names.partition_of_user("asha", 16),
            names.partition_of("direct:asha:bala", 16),
        )
    )


def test_frames_are_counted_by_what_is_in_them_once_they_are_taken() -> None:
    """A sealed one as what it is, as the router counts it; one that is refused not at all."""
    metrics = GatewayMetrics(CollectorRegistry())
    envelopes = Envelopes(["a-secret-of-the-cluster-thirty-two"])
    producer = Producer(FakeBroker(), limit=2, linger_s=0)
    up = Uplink(producer, partitions=16, overload_lag_s=10, overload_entries=1000, metrics=metrics, envelopes=envelopes)
    hidden = msgspec.structs.replace(_FRAME, conversation_id="direct:anon-0123456789abcdef0123:ravi")
    for frame in (_FRAME, hidden):
        up.publish_for_user("asha", frame)
    with pytest.raises(Refusal):
        up.publish_for_user("asha", _FRAME)
    up.publish_alarm(Tally(Origin("g1", "?1"), "b1"))
    assert [metrics.published_frames.labels(kind)._value.get() for kind in ("join", "tally", "sealedframe")] == [
        2,
        1,
        0,
    ]


def test_a_message_id_that_is_not_ours_is_refused() -> None:
    """It says nothing about whether there is such a message."""
    with pytest.raises(Refusal) as refused:
        uplink(FakeBroker()).publish_for_message("m1", _FRAME)
    assert refused.value.code is Code.ACCESS_DENIED


def test_a_full_uplink_refuses_and_says_when_to_come_back() -> None:
    """Nothing is dropped in silence."""
    up = uplink(FakeBroker(), limit=1)
    up.publish_for_user("asha", _FRAME)
    with pytest.raises(Refusal) as refused:
        up.publish_for_user("asha", _FRAME)
    assert refused.value.code is Code.UNAVAILABLE
    assert refused.value.retry_after_ms


@pytest.mark.parametrize("lag", [Lag(1, 11.0), Lag(1001, 0.0)])
def test_a_partition_that_is_far_behind_takes_no_more(lag: Lag) -> None:
    """In time or in number; others go on."""
    up = uplink(FakeBroker())
    behind = names.partition_of_user("asha", 16)
    up.note_lags({behind: lag, (behind + 1) % 16: Lag(1000, 10.0)})
    with pytest.raises(Refusal) as refused:
        up.publish_for_user("asha", _FRAME)
    assert refused.value.code is Code.OVERLOADED
    up.note_lags({})
    up.publish_for_user("asha", _FRAME)


_HIDDEN = Send(
    _FRAME.origin, Sender("asha", "Asha", "member"), Draft("group:g", "c", "c", "text", "x", is_anonymous=True), 1
)


async def test_an_anonymous_message_leaves_sealed() -> None:
    """Everything else as it is."""
    broker = FakeBroker()
    up = uplink(broker)
    up._envelopes = Envelopes(["a-secret-of-the-cluster-thirty-two"])
    up.publish_for_conversation("group:g", _HIDDEN)
    up.publish_for_conversation("group:g", _FRAME)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        work = tasks.create_task(up.run())
        await up.wait_written()
        work.cancel()
    (_, sealed), (_, plain) = broker.frames
    assert isinstance(sealed, SealedFrame)
    assert up._envelopes.opened(sealed).origin.session == "socket"
    assert plain == _FRAME


def test_without_a_secret_an_anonymous_message_is_refused() -> None:
    """It would lie on a stream under its sender's name."""
    up = uplink(FakeBroker())
    with pytest.raises(Refusal) as refused:
        up.publish_for_conversation("group:g", _HIDDEN)
    assert refused.value.code is Code.ANONYMOUS_UNAVAILABLE
    assert len(up) == 0


async def test_a_broadcast_goes_first_however_far_behind_routers_are() -> None:
    """To the partition beyond those of conversations, also when the uplink is full of other things."""
    broker = FakeBroker()
    up = uplink(broker, limit=1)
    up.note_lags({names.alarm_partition(16): Lag(100_000, 100.0)})
    up.publish_for_user("asha", _FRAME)
    alarm = Tally(Origin("g1", "?1", 0), "0" * 32)
    up.publish_alarm(alarm)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        work = tasks.create_task(up.run())
        await up.wait_written()
        work.cancel()
    assert broker.frames[0] == (keys.inbound(16), alarm)
    assert len(broker.frames) == 2


def test_a_hundred_broadcasts_that_nobody_takes_are_enough() -> None:
    """Then the next is refused, and may be tried again."""
    up = uplink(FakeBroker())
    for _ in range(100):
        up.publish_alarm(_FRAME)
    with pytest.raises(Refusal) as refused:
        up.publish_alarm(_FRAME)
    assert refused.value.code is Code.UNAVAILABLE


async def test_a_canary_goes_to_every_partition_and_one_round_waits_at_a_time() -> None:
    """Also where routers are far behind; while the broker is away they would come to fill the uplink."""
    broker = FakeBroker()
    up = uplink(broker)
    up.note_lags({partition: Lag(10_000, 100.0) for partition in range(17)})
    canary = Canary(Origin("g1", ""), 5)
    for _ in range(3):
        up.publish_canaries(canary)
    assert len(up) == 17
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        work = tasks.create_task(up.run())
        await up.wait_written()
        up.publish_canaries(canary)
        await up.wait_written()
        work.cancel()
    once = [(keys.inbound(partition), canary) for partition in range(17)]
    assert sorted(broker.frames, key=repr) == sorted(2 * once, key=repr)


def test_a_full_uplink_takes_no_canary() -> None:
    """Clients are refused by then; the silence says it too."""
    up = uplink(FakeBroker(), limit=1)
    up.publish_for_user("asha", _FRAME)
    up.publish_canaries(Canary(Origin("g1", ""), 5))
    assert len(up) == 1
