"""A router that acknowledges before it saves, and dies in between: while `MUTANT_FILE` exists."""

import os
from collections.abc import Sequence
from pathlib import Path

from services.router.batch import Work
from services.router.delivery import Delivery


def break_it() -> None:
    """Take a batch with messages off its stream, then fall over."""
    save = Delivery._save
    is_broken = Path(os.environ["MUTANT_FILE"]).exists

    async def acknowledge_first(self: Delivery, works: Sequence[Work]) -> bool:
        if is_broken() and any(work.new_messages for work in works):
            for work in works:
                await self._broker.script(work.partition.acknowledge(work.last_id, work.new_messages))
            os._exit(1)
        return await save(self, works)

    Delivery._save = acknowledge_first  # type: ignore[method-assign]
