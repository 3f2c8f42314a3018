"""`GET /status`: how the whole cluster is, as its processes said last. Costs the same however many users there are."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from libs import figures, keys
from libs.broker import Broker
from libs.figures import GatewayFigures, PresenceFigures, RouterFigures
from libs.wire import names
from services.gateway.heartbeat import lags
from services.gateway.uplink import Lag


class PartitionStatus(Struct, rename="camel", frozen=True):
    """What waits for the router that owns a partition."""

    partition: int
    entries: int
    lag_ms: int
    owner: str | None


class Status(Struct, rename="camel", frozen=True):
    """Sums over the cluster, then process by process, then partition by partition."""

    connections: int = 0
    authenticated: int = 0
    users_online: int = 0
    messages_in_per_second: float = 0.0
    messages_per_second: float = 0.0
    messages_out_per_second: float = 0.0
    refusals: int = 0
    errors: int = 0
    unaccounted: int = 0
    in_flight: int = 0
    gateways: Sequence[GatewayFigures] = ()
    routers: Sequence[RouterFigures] = ()
    presence: Sequence[PresenceFigures] = ()
    partitions: Sequence[PartitionStatus] = ()


async def read_status(broker: Broker, partitions: int) -> bytes:
    """The status, as JSON. Raises `libs.broker.AWAY`."""
    said = await figures.reported(broker)
    gateways = figures.of_kind(said, GatewayFigures)
    routers = figures.of_kind(said, RouterFigures)
    lag = await lags(broker, partitions)
    numbers = range(names.alarm_partition(partitions) + 1)
    leases = await broker.batch([("GET", keys.lease(number)) for number in numbers])
    users = await broker.batch([("HLEN", keys.seats(shard)) for shard in range(keys.DIRECTORY_SHARDS)])
    status = Status(
        connections=sum(each.connections for each in gateways),
        authenticated=sum(each.authenticated for each in gateways),
        users_online=sum(count for count in users if isinstance(count, int)),
        messages_in_per_second=round(sum(each.messages_in_per_second for each in gateways), 2),
        messages_per_second=round(sum(each.messages_per_second for each in routers), 2),
        messages_out_per_second=round(sum(each.messages_out_per_second for each in gateways), 2),
        refusals=sum(each.refusals + each.sign_ins_refused for each in gateways)
        + sum(each.refusals for each in routers),
        errors=sum(each.errors for each in said),
        unaccounted=sum(each.unaccounted for each in routers),
        in_flight=sum(each.in_flight for each in routers),
        gateways=gateways,
        routers=routers,
        presence=figures.of_kind(said, PresenceFigures),
        partitions=[
            PartitionStatus(
                number,
                lag.get(number, Lag()).entries,
                round(lag.get(number, Lag()).age_s * 1000),
                lease.decode().partition(" ")[2] if isinstance(lease, bytes) else None,
            )
            for number, lease in zip(numbers, leases, strict=True)
        ],
    )
    return msgspec.json.encode(status)
