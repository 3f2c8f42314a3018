"""A router that takes a batch off its stream before it saves it: what was answered `queued` dies with it."""

from collections.abc import Sequence

from services.router.batch import Work
from services.router.delivery import Delivery


def break_it() -> None:
    """Acknowledge, then save."""
    save = Delivery._save

    async def acknowledge_first(self: Delivery, works: Sequence[Work]) -> bool:
        for work in works:
            await self._broker.script(work.partition.acknowledge(work.last_id, work.new_messages))
        return await save(self, works)

    Delivery._save = acknowledge_first  # type: ignore[method-assign]
