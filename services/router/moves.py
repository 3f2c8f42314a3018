"""Who moved while signed in: their gateways are told, so that broadcasts reach them where they live now.

The owner of the partition of broadcasts looks. Being told twice is harmless, and who signs in is asked anew.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from libs import keys
from libs.broker import AWAY, Broker
from libs.directory import Directory
from libs.wire.frames import Moved, Section
from services.router import outbound
from services.router.metrics import RouterMetrics
from services.router.partition import Partition
from services.router.store import Store, StoreAway

log = structlog.get_logger(__name__)

_LOOK_S: Final = 2.0
# Changes read at once: an import of a million users is worked off in steps.
_CHANGES: Final = 10_000


class Moves:
    """Looks every two seconds."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        broker: Broker,
        metrics: RouterMetrics,
        owned: Callable[[], Partition | None],
    ) -> None:
        self._store = store
        self._directory = directory
        self._broker = broker
        self._metrics = metrics
        self._owned = owned
        self._cursor: int | None = None

    async def run(self) -> None:
        """Look until cancelled, while the partition of broadcasts is ours."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self.look()
            except (StoreAway, *AWAY) as error:
                log.warning("moves are looked for later", error=type(error).__name__)

    async def look(self) -> None:
        """Tell what there is to tell. Raises `StoreAway`, `AWAY`."""
        while (partition := self._owned()) is not None:
            if self._cursor is None:
                self._cursor = await self._left_off()
            moves = await self._store.moves(self._cursor, _CHANGES)
            if moves.user_ids:
                await self._tell(partition, moves.user_ids)
                await self._broker.command("SET", keys.moves(), moves.cursor)
            self._cursor = moves.cursor
            if not moves.user_ids:
                return
        self._cursor = None

    async def _left_off(self) -> int | None:
        """Where the owner before came to; a broker that was wiped does not know."""
        cursor = await self._broker.command("GET", keys.moves())
        return None if cursor is None else int(cursor)

    async def _tell(self, partition: Partition, user_ids: tuple[str, ...]) -> None:
        seats = await self._directory.locate(user_ids)
        users = await self._store.users(list(seats))
        frames: dict[str, list[Moved]] = {}
        for user_id, user in users.items():
            for gateway in seats[user_id]:
                frames.setdefault(gateway, []).append(Moved(user_id, user.places))
        sections = {
            gateway: (Section(partition.number, partition.token, tuple(moved)),) for gateway, moved in frames.items()
        }
        await outbound.publish(self._broker, sections, self._metrics)
