"""A router that says a group's message to all but one of its members: while `MUTANT_FILE` exists."""

import os
from collections.abc import Iterable
from pathlib import Path

from services.router import sayings
from services.router.partition import Partition
from services.router.routing import Saying
from services.router.store import Message


def break_it() -> None:
    """Leave out the last of several recipients."""
    to, broken = sayings._to, Path(os.environ["MUTANT_FILE"])

    def to_all_but_one(
        partition: Partition, message: Message, recipients: Iterable[str], body: bytes, trace: str
    ) -> Saying:
        whom = sorted(recipients)
        return to(partition, message, whom[:-1] if broken.exists() and len(whom) > 1 else whom, body, trace)

    sayings._to = to_all_but_one
