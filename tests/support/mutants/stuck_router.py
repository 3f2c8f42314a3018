"""A router whose batches are decided and never completed, and which keeps its leases."""

from collections.abc import Sequence
from typing import Any

from services.router.batch import Work
from services.router.delivery import Delivery
from tests.support.mutants.hanging import hang_if_told


def break_it() -> None:
    """Hang before a batch is completed, once told to."""
    complete = Delivery.complete

    async def hanging(self: Delivery, works: Sequence[Work], **options: Any) -> None:
        await hang_if_told()
        await complete(self, works, **options)

    Delivery.complete = hanging  # type: ignore[method-assign] # that is the point
