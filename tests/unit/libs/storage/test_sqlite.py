"""A file that cannot be opened now, and one that never can be."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.lifecycle import Unstartable
from libs.storage import StoreAway, sqlite
from libs.storage.sqlite import Schema, open_lane


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY])
async def test_a_full_disk_passes_so_who_starts_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """To refuse to start would keep a router that was killed meanwhile away for good."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = code
    monkeypatch.setattr(sqlite, "_bring_up_to_date", _raising(error))
    with pytest.raises(StoreAway):
        async with open_lane(tmp_path / "store.db", Schema(()), 0.1):
            pass


async def test_a_file_that_is_no_store_never_will_be_one(tmp_path: Path) -> None:
    """Starting again would not help."""
    (tmp_path / "store.db").write_bytes(b"not a database" * 100)
    with pytest.raises(Unstartable):
        async with open_lane(tmp_path / "store.db", Schema(()), 0.1):
            pass


def _raising(error: Exception) -> Callable[..., None]:
    def bring(*_: object) -> None:
        raise error

    return bring
