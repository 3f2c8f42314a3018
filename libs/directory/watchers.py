"""Which gateways watch whom: presence tells a gateway only of people whom somebody there watches."""

from collections.abc import Mapping
from typing import Final

from libs import keys
from libs.broker import Broker, Script
from libs.directory.shards import by_shard
from libs.directory.standing import Standing, parse

_watch: Final = Script("libs.directory", "watch.lua")


class Watchers:
    """Who is watched from where. `Directory.reap` clears a dead gateway's away."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def change(self, gateway: str, watched: Mapping[str, bool]) -> dict[str, Standing]:
        """Watch the users with True, stop watching those with False: one round trip. Harmless to repeat.

        Gives what was last announced of those who are watched; of who is not in it, presence will announce
        something. Raises `AWAY`.
        """
        shards = by_shard(watched)
        replies = await self._broker.scripts(
            [
                _watch.call(
                    [keys.watchers(shard), keys.watched(shard, gateway), keys.presence(shard), keys.changes(shard)],
                    gateway,
                    *(part for user in users for part in ("+" if watched[user] else "-", user)),
                )
                for shard, users in shards.items()
            ]
        )
        found: dict[str, Standing] = {}
        for users, reply in zip(shards.values(), replies, strict=True):
            for user, raw in zip(users, reply, strict=True):
                if (standing := parse(raw)) is not None:
                    found[user] = standing
        return found
