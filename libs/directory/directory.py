"""Touch, drop, locate: the seats of users on gateways. See the package for the idea."""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from libs import keys, membership
from libs.broker import Broker, Call, Script
from libs.directory.shards import by_shard
from libs.wire.events import LEVELS
from libs.wire.frames import Places
from libs.wire.names import is_id

# A gateway killed with -9 lapses within 6 s; presence looks every second. Promise: 15 s.
GATEWAY_TTL_MS: Final = 6000
# A reaper clears a dead gateway in steps, so that no script holds the broker up for long.
_REAP_STEP: Final = 500
# Gateways, and pairs of them, that users have seats on.
_SEATINGS: Final = 1024

_seat: Final = Script("libs.directory", "seat.lua")
_reap: Final = Script("libs.directory", "reap.lua")
_settle: Final = Script("libs.directory", "settle.lua")
_residents: Final = Script("libs.directory", "residents.lua")
_unwatch: Final = Script("libs.directory", "unwatch.lua")


class Seat(StrEnum):
    """What becomes of a user's seat on a gateway."""

    # By who is not welcome yet: what is sent reaches them, and nobody is told that they are here.
    TAKEN = "+"
    SHOWN = "*"
    DROPPED = "-"


class Directory:
    """The seats. Every method raises `libs.broker.AWAY` when the broker is away."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def touch(self, gateway: str, users: Iterable[str]) -> None:
        """These users are on this gateway, for all to see. Harmless to repeat."""
        await self.change(gateway, dict.fromkeys(users, Seat.SHOWN))

    async def drop(self, gateway: str, users: Iterable[str]) -> None:
        """These users are not on this gateway any more. Harmless to repeat."""
        await self.change(gateway, dict.fromkeys(users, Seat.DROPPED))

    async def change(self, gateway: str, seats: Mapping[str, Seat], grace_ms: int = 0) -> None:
        """Seats taken, shown and dropped: one round trip for all. Harmless to repeat.

        Who is dropped from their last gateway is looked at by presence `grace_ms` later: may they be back by then.
        """
        calls = []
        for shard, users in by_shard(seats).items():
            pairs = [part for user in users for part in (seats[user].value, user)]
            calls.append(_seat.call(_keys(shard, gateway), gateway, grace_ms, *pairs))
        await self._broker.scripts(calls)

    async def locate(self, users: Collection[str]) -> dict[str, tuple[str, ...]]:
        """The gateways of each user who has any. Whether a gateway is alive, `live` says."""
        shards = by_shard(users)
        replies = await self._broker.batch(
            [("HMGET", keys.seats(shard), *members) for shard, members in shards.items()]
        )
        located: dict[str, tuple[str, ...]] = {}
        for members, reply in zip(shards.values(), replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            for user, gateways in zip(members, reply, strict=True):
                if gateways:
                    located[user] = _gateways(gateways)
        return located

    async def settle(self, homes: Mapping[str, Places]) -> None:
        """These users, who have seats, live there. Harmless to repeat; forgotten with a user's last seat."""
        calls = []
        for shard, users in by_shard(homes).items():
            pairs = [part for user in users for part in (user, _packed(homes[user]))]
            calls.append(_settle.call([keys.seats(shard), keys.where(shard), keys.residents(shard)], *pairs))
        await self._broker.scripts(calls)

    async def residents(self, level: str, place_ids: Collection[str]) -> int:
        """How many people who have seats live in these places of one level."""
        places = [_field(level, place) for place in place_ids]
        calls = [_residents.call([keys.residents(shard)], *places) for shard in range(keys.DIRECTORY_SHARDS)]
        return sum(map(int, await self._broker.scripts(calls)))

    async def seated(self, gateway: str) -> int:
        """How many users have a seat on this gateway, as far as the broker knows."""
        return sum(await self._of_shards("SCARD", gateway))

    async def users_on(self, gateway: str) -> set[str]:
        """The users who have a seat on this gateway, as far as the broker knows."""
        return {user.decode() for users in await self._of_shards("SMEMBERS", gateway) for user in users}

    async def _of_shards(self, command: str, gateway: str) -> list[Any]:
        replies = await self._broker.batch(
            [(command, keys.seated(shard, gateway)) for shard in range(keys.DIRECTORY_SHARDS)]
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def beat(self, gateway: str) -> Call:
        """The script that keeps a gateway alive; gives 0 if it was not, so that it seats its users again."""
        return membership.beat(keys.gateways(), gateway, GATEWAY_TTL_MS)

    async def live(self) -> frozenset[str]:
        """The gateways whose seats are good."""
        return await membership.live(self._broker, keys.gateways(), GATEWAY_TTL_MS)

    async def known(self) -> frozenset[str]:
        """The gateways that are alive or may revive: all that are not reaped yet."""
        alive, lapsed = await membership.look(self._broker, keys.gateways(), GATEWAY_TTL_MS)
        return alive | lapsed

    async def lapsed(self) -> frozenset[str]:
        """The gateways that stopped beating and are not reaped yet."""
        return (await membership.look(self._broker, keys.gateways(), GATEWAY_TTL_MS))[1]

    async def reap(self, gateway: str, grace_ms: int = 0) -> int:
        """Clear a gateway away: its seats, what it watched, its streams, its name. The number of seats cleared.

        May be run by several at once, and again after it was cut short. The name goes last, and is marked first: a
        gateway that revives meanwhile seats its users again, though its reaper may have died half-way. Who was on it
        was last seen at its last beat, and has `grace_ms` to be elsewhere.
        """
        score = await self._broker.command("ZSCORE", keys.gateways(), gateway)
        lapses_at = 0 if score is None else abs(int(float(score)))
        beat_at = max(0, lapses_at - GATEWAY_TTL_MS)
        await membership.condemn(self._broker, keys.gateways(), gateway, lapses_at)
        cleared = 0
        for shard in range(keys.DIRECTORY_SHARDS):
            cleared += await self._in_steps(_reap.call(_keys(shard, gateway), gateway, _REAP_STEP, grace_ms, beat_at))
            watched = [keys.watchers(shard), keys.watched(shard, gateway)]
            await self._in_steps(_unwatch.call(watched, gateway, _REAP_STEP))
        await self._broker.command("DEL", keys.downlink(gateway), keys.alarms(gateway))
        await membership.remove(self._broker, keys.gateways(), gateway)
        return cleared

    async def _in_steps(self, call: Call) -> int:
        """Run a script until it finds nothing more to do; how much it did."""
        done = 0
        while step := int(await self._broker.script(call)):
            done += step
        return done


@lru_cache(_SEATINGS)
def _gateways(packed: bytes) -> tuple[str, ...]:
    """Many users are on the same gateways."""
    return tuple(packed.decode().split(" "))


def _keys(shard: int, gateway: str) -> list[str]:
    """What a seat's coming or going touches."""
    return [
        keys.seats(shard),
        keys.seated(shard, gateway),
        keys.changes(shard),
        keys.left(shard),
        keys.where(shard),
        keys.residents(shard),
    ]


def _packed(places: Places) -> str:
    """As the scripts split it. A place whose id is none cannot be named in a broadcast either."""
    named = ((level, getattr(places, level)) for level in LEVELS)
    return " ".join(_field(level, place) for level, place in named if is_id(place))


def _field(level: str, place: str) -> str:
    return f"{level}:{place}"
