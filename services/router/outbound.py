"""Carry out a plan: one pipeline to the streams of the gateways, and what goes on to other partitions.

A gateway whose downlink is gone was reaped, or outran its bound: its users are told nothing now, and
get what is due when they (or it) come back.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from libs import keys
from libs.broker import Broker, type_of_command
from libs.streams import producer
from libs.wire import codec
from libs.wire.frames import Inbound, Section
from services.router.metrics import RouterMetrics


async def publish(
    broker: Broker,
    sections: Mapping[str, Sequence[Section]],
    metrics: RouterMetrics,
    *,
    stream: Callable[[str], str] = keys.downlink,
) -> None:
    """Publish every gateway's sections. Raises `libs.broker.AWAY`."""
    check(await broker.batch(commands(sections, stream=stream)), metrics)


def commands(
    sections: Mapping[str, Sequence[Section]],
    forwarded: Sequence[tuple[int, Inbound]] = (),
    *,
    stream: Callable[[str], str] = keys.downlink,
) -> list[type_of_command]:
    """What publishes every gateway's sections and the forwarded frames."""
    found: list[type_of_command] = [
        ("XADD", stream(gateway), "NOMKSTREAM", "*", producer.FIELD, codec.pack_downlink(of_gateway))
        for gateway, of_gateway in sections.items()
    ]
    for partition, frame in forwarded:
        found += producer.entries(partition, [frame])
    return found


def check(replies: Sequence[Any], metrics: RouterMetrics) -> None:
    """Raises what the broker said against any of them."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
        if reply is None:
            metrics.gateways_gone.inc()
