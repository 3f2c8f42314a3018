"""Frames to bytes and back: what a batch of messages and their confirmations costs, on its way in and out."""

from typing import Any

import pytest

from libs.wire import codec, names
from libs.wire.events import Draft
from libs.wire.frames import Answer, Confirms, Emit, Inbound, Origin, Section, Send, Sender

BATCH = 50
CONVERSATION = names.direct("asha", "ravi")


def inbound() -> list[Inbound]:
    """A batch as gateways put it on a stream."""
    draft = Draft(CONVERSATION, "client-id-of-a-message", "", "text", "గ్రామ సభ రేపు ఉదయం పదకొండు గంటలకు")
    sends = [Send(Origin("g1", "session", n), Sender("asha", "Asha", "member"), draft, 1000) for n in range(BATCH)]
    return [*sends, *(Confirms(Origin("g2", ""), CONVERSATION, n, ("ravi",)) for n in range(BATCH))]


def downlink() -> list[Section]:
    """What a router says of it to one gateway."""
    body = b"x" * 400
    frames = [
        frame
        for n in range(BATCH)
        for frame in (
            Answer("session", n, body),
            Emit(("asha",), "message_delivery_status", body, skip_session="session"),
            Emit(("ravi",), "new_message", body, CONVERSATION, n),
        )
    ]
    return [Section(partition, 1, tuple(frames[partition::8])) for partition in range(8)]


@pytest.mark.benchmark(group="codec, 50 messages and confirmations")
def test_pack_inbound(benchmark: Any) -> None:
    """At the gateway."""
    benchmark(codec.pack_inbound, inbound())


@pytest.mark.benchmark(group="codec, 50 messages and confirmations")
def test_unpack_inbound(benchmark: Any) -> None:
    """At the router."""
    frames, unreadable = benchmark(codec.unpack_inbound, codec.pack_inbound(inbound()))
    assert (len(frames), unreadable) == (2 * BATCH, 0)


@pytest.mark.benchmark(group="codec, 50 messages and confirmations")
def test_pack_downlink(benchmark: Any) -> None:
    """At the router."""
    benchmark(codec.pack_downlink, downlink())


@pytest.mark.benchmark(group="codec, 50 messages and confirmations")
def test_unpack_downlink(benchmark: Any) -> None:
    """At the gateway."""
    assert benchmark(codec.unpack_downlink, codec.pack_downlink(downlink())) == downlink()
