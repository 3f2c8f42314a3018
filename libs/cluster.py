"""What all services of a cluster must agree on, checked at start against what the broker remembers."""

from libs import keys
from libs.broker import Broker
from libs.lifecycle import Unstartable


async def agree_on_partitions(broker: Broker, partitions: int) -> None:
    """The first to start says how many partitions there are; who differs does not start. Raises `AWAY`."""
    await broker.command("SET", keys.partitions(), partitions, "NX")
    agreed = int(await broker.command("GET", keys.partitions()))
    if agreed != partitions:
        raise Unstartable(
            f"PARTITIONS={partitions}: this cluster has {agreed}. Set PARTITIONS={agreed} here, or stop every "
            f"service, let the streams run empty and delete the key {keys.partitions()}."
        )
