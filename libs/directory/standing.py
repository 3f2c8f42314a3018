"""How people are seen: online, away, busy or offline, and when they were here last. As presence announced it."""

from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Struct

from libs import keys, membership
from libs.broker import Broker, Script
from libs.directory.directory import GATEWAY_TTL_MS
from libs.directory.shards import by_shard

OFFLINE: Final = "offline"
# What somebody who is here can be seen as.
STATUSES: Final = ("online", "away", "busy")

_choose: Final = Script("libs.directory", "choose.lua")


class Standing(Struct, frozen=True):
    """What was last announced of one person.

    `at_ms` rises with every announcement about them, by the broker's clock. `last_seen_ms` is good for who is
    offline; 0 for who was never here.
    """

    status: str
    at_ms: int
    last_seen_ms: int

    def seen_ms(self, now_ms: int) -> int | None:
        """When they were here last, as it is told: who is here is seen now."""
        return now_ms if self.status != OFFLINE else self.last_seen_ms or None


class Statistics(Struct, rename="camel", frozen=True):
    """How many people are seen as what, and how many are on each live gateway."""

    users_online: int
    statuses: dict[str, int]
    gateways: dict[str, int]


def parse(raw: bytes | None) -> Standing | None:
    """A standing as the broker keeps it: `<status> <at ms> <last seen ms>`; None where nothing was announced."""
    if not raw:
        return None
    status, at_ms, last_seen_ms = raw.decode().split(" ")
    return Standing(status, int(at_ms), int(last_seen_ms))


async def announced(broker: Broker, users: Collection[str]) -> dict[str, Standing]:
    """What was last announced of each; who is not in it has been away for long, or never was here. Raises `AWAY`."""
    shards = by_shard(users)
    replies = await broker.batch([("HMGET", keys.presence(shard), *members) for shard, members in shards.items()])
    found: dict[str, Standing] = {}
    for members, reply in zip(shards.values(), replies, strict=True):
        if isinstance(reply, Exception):
            raise reply
        for user, raw in zip(members, reply, strict=True):
            if (standing := parse(raw)) is not None:
                found[user] = standing
    return found


async def choose(broker: Broker, chosen: Mapping[str, str]) -> frozenset[str]:
    """Users want to be seen as one of `STATUSES` while they are here. Gives those who are. Raises `AWAY`."""
    shards = by_shard(chosen)
    replies = await broker.scripts(
        [
            _choose.call(
                [keys.seats(shard), keys.chosen(shard), keys.changes(shard)],
                *(part for user in users for part in (chosen[user], user)),
            )
            for shard, users in shards.items()
        ]
    )
    return frozenset(
        user
        for users, reply in zip(shards.values(), replies, strict=True)
        for user, is_taken in zip(users, reply, strict=True)
        if is_taken
    )


async def statistics(broker: Broker) -> Statistics:
    """How many are here: as fast for a million as for one. Raises `AWAY`."""
    shards = range(keys.DIRECTORY_SHARDS)
    gateways = sorted(await membership.live(broker, keys.gateways(), GATEWAY_TTL_MS))
    replies = await broker.batch(
        [
            *(("HMGET", keys.counts(shard), *STATUSES) for shard in shards),
            *(("SCARD", keys.seated(shard, gateway)) for gateway in gateways for shard in shards),
        ]
    )
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    counted, seated = replies[: len(shards)], replies[len(shards) :]
    statuses = {status: sum(int(counts[n] or 0) for counts in counted) for n, status in enumerate(STATUSES)}
    return Statistics(
        users_online=sum(statuses.values()),
        statuses=statuses,
        gateways={gateway: sum(seated[n * len(shards) : (n + 1) * len(shards)]) for n, gateway in enumerate(gateways)},
    )
