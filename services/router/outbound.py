"""Carry out a plan: one pipeline to the streams of the gateways, and what goes on to other partitions.

A gateway whose downlink is gone was reaped, or outran its bound: its users are told nothing now, and
get what is due when they (or it) come back.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from libs import keys
from libs.broker import Broker, type_of_command
from libs.streams import producer
from libs.wire import codec
from libs.wire.frames import Downlink, Inbound, Section
from services.router.metrics import RouterMetrics


async def publish(
    broker: Broker,
    sections: Mapping[str, Sequence[Section]],
    metrics: RouterMetrics,
    *,
    stream: Callable[[str], str] = keys.downlink,
) -> None:
    """Publish every gateway's sections. Raises `libs.broker.AWAY`."""
    check(await broker.batch(commands(sections, stream=stream)), metrics, sections)


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


def check(
    replies: Sequence[Any],
    metrics: RouterMetrics,
    sections: Mapping[str, Sequence[Section]],
    forwarded: Sequence[tuple[int, Inbound]] = (),
) -> None:
    """Count what was published. Raises what the broker said against any of the commands."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    taken: Counter[type[Downlink]] = Counter()
    for of_gateway, reply in zip(sections.values(), replies, strict=False):  # behind them: what was forwarded
        if reply is None:
            metrics.gateways_gone.inc()
            continue
        for section in of_gateway:
            taken.update(map(type, section.frames))
    for kind, count in taken.items():
        metrics.downlink_frames.labels(kind.__name__.lower()).inc(count)
    for passed_on, count in Counter(type(frame) for _, frame in forwarded).items():
        metrics.forwarded_frames.labels(passed_on.__name__.lower()).inc(count)
