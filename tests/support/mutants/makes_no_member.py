"""A router whose store makes nobody a member of a new direct conversation: while `MUTANT_FILE` exists."""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from libs.storage.sqlite import write_rows
from services.router.sqlite import messages


def break_it() -> None:
    """Write messages, and no rows of members: what is sent is due to nobody."""
    broken = Path(os.environ["MUTANT_FILE"])

    def write_no_members(db: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        if statement == messages._INSERT_MEMBERS and broken.exists():
            return 0
        return write_rows(db, statement, rows)

    vars(messages)["write_rows"] = write_no_members
    if os.environ.get("STORE", "").startswith("firestore"):
        from services.router.firestore import marks  # noqa: PLC0415 - Google's libraries take a second

        members_of = marks.members_of
        vars(marks)["members_of"] = lambda where: {} if broken.exists() else members_of(where)
