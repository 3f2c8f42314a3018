"""Who is alive: a sorted set of members and when each lapses, by the broker's clock.

Routers and gateways each keep one. A member that stops beating lapses; one that was removed and
beats again is told that it was gone.
"""

from typing import Any, Final

from libs.broker import Broker, Call, Script

_beat: Final = Script("libs", "beat.lua")
_look: Final = Script("libs", "look.lua")


def beat(key: str, member: str, ttl_ms: int) -> Call:
    """Stay alive for `ttl_ms`. The script gives 1 if the member was there before, 0 if it is new or was removed."""
    return _beat.call([key], member, ttl_ms)


async def live(broker: Broker, key: str, ttl_ms: int) -> frozenset[str]:
    """The members that have not lapsed. None lives longer than `ttl_ms` without a beat."""
    return (await look(broker, key, ttl_ms))[0]


async def look(broker: Broker, key: str, ttl_ms: int) -> tuple[frozenset[str], frozenset[str]]:
    """The members that are alive, and those that lapsed but were not removed yet."""
    return seen(await broker.script(looking(key, ttl_ms)))


def looking(key: str, ttl_ms: int) -> Call:
    """The script behind `look`, for who has more to ask; `seen` reads what it gives."""
    return _look.call([key], ttl_ms)


def seen(reply: list[Any]) -> tuple[frozenset[str], frozenset[str]]:
    """The members that are alive, and those that lapsed but were not removed yet."""
    alive, lapsed = reply
    return _names(alive), _names(lapsed)


async def condemn(broker: Broker, key: str, member: str, lapsed_at_ms: int) -> None:
    """What a member holds is being cleared away: should it beat, it is told that it was gone. Seen as lapsed."""
    await broker.command("ZADD", key, "XX", -lapsed_at_ms, member)


async def remove(broker: Broker, key: str, member: str) -> None:
    """Forget a member: it left, or what it held was cleared away."""
    await broker.command("ZREM", key, member)


def _names(raw: list[Any]) -> frozenset[str]:
    return frozenset(item.decode() for item in raw)
