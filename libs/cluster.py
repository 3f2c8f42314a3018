"""What all services of a cluster must agree on, by what the broker remembers."""

from typing import Final

from libs import keys
from libs.broker import Broker
from libs.lifecycle import Unstartable

# A gateway's clients are back in 7 s, a router's partitions have another owner in 5: the next may go then.
_GIVEN_UP_MS: Final = 30_000


async def agree_on_partitions(broker: Broker, partitions: int) -> None:
    """The first to start says how many partitions there are; who differs does not start. Raises `AWAY`."""
    await broker.command("SET", keys.partitions(), partitions, "NX")
    agreed = int(await broker.command("GET", keys.partitions()))
    if agreed != partitions:
        raise Unstartable(
            f"PARTITIONS={partitions}: this cluster has {agreed}. Set PARTITIONS={agreed} here, or stop every "
            f"service, let the streams run empty and delete the key {keys.partitions()}."
        )


async def may_give_up(broker: Broker, service: str, instance: str) -> bool:
    """Whether this process may end because it hangs. Raises `AWAY`.

    One of a kind in half a minute: should all of them think so at once, the cluster lives on while somebody looks.
    """
    key = keys.given_up(service)
    return bool(await broker.command("SET", key, instance, "NX", "PX", _GIVEN_UP_MS))
