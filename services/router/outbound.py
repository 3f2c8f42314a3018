"""Carry out a plan: one pipeline to the streams of the gateways, and what goes on to other partitions.

A gateway whose downlink is gone was reaped, or outran its bound: its users are told nothing now, and
get what is due when they (or it) come back.
"""

from collections.abc import Callable, Mapping, Sequence

from libs import keys
from libs.broker import Broker, type_of_command
from libs.streams import producer
from libs.wire import codec
from libs.wire.frames import Inbound, Section
from services.router.metrics import RouterMetrics


async def publish(
    broker: Broker,
    sections: Mapping[str, Sequence[Section]],
    forwarded: Sequence[tuple[int, Inbound]],
    metrics: RouterMetrics,
    *,
    stream: Callable[[str], str] = keys.downlink,
) -> None:
    """Publish every gateway's sections and the forwarded frames. Raises `libs.broker.AWAY`."""
    commands: list[type_of_command] = [
        ("XADD", stream(gateway), "NOMKSTREAM", "*", producer.FIELD, codec.pack_downlink(of_gateway))
        for gateway, of_gateway in sections.items()
    ]
    for partition, frame in forwarded:
        commands += producer.entries(partition, [frame])
    for result in await broker.batch(commands):
        if isinstance(result, Exception):
            raise result
        if result is None:
            metrics.gateways_gone.inc()
