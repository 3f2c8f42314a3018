"""A SQLite file from an event loop: lanes, transactions, and few steps to a statement.

A *lane* is one thread with one connection, so that the event loop never waits for a disk; a store has one
to write and others to read, which never wait for a commit. Several processes may open one file.

Every step of a statement lets go of the interpreter's lock and, beside a busy loop, waits up to 5 ms to
get it back: 200 messages inserted one by one took 850 ms, in statements of 64 rows 45 ms. Hence two
habits: rows are written many to a statement (`write_rows`), and a query answers with one row, the JSON of
all (`read`).
"""

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from libs.lifecycle import Unstartable
from libs.storage import StoreAway

T = TypeVar("T")

# The JSON operators of the queries.
_SQLITE_NEEDED: Final = (3, 38, 0)
# One statement's worth. More rows save few steps and cost more in filling up (see `write_rows`).
_ROWS_A_STATEMENT: Final = 64
# Between two tries to switch a new file to WAL, where SQLite itself does not wait for another writer.
_WAL_RETRY_S: Final = 0.01
_MISTAKES: Final = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.NotSupportedError, sqlite3.ProgrammingError)
_encoder: Final = msgspec.json.Encoder()


class Schema(Struct, frozen=True):
    """What a file holds. `steps` lead from each version to the next; a new file takes all of them.

    `views` are of a connection and not of the file, so that they can change without a step; so are `functions`,
    which steps may call.
    """

    steps: tuple[tuple[str, ...], ...]
    views: tuple[str, ...] = ()
    functions: Mapping[str, Callable[..., Any]] = {}


class Lane:
    """One thread with one connection. Calls wait their turn here, not in the event loop."""

    def __init__(self, thread: ThreadPoolExecutor, db: sqlite3.Connection, patience_s: float) -> None:
        self._thread = thread
        self._db = db
        self._patience_s = patience_s
        self._failed_at = -math.inf

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work`'s result. Raises `StoreAway`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work, time.monotonic())

    async def read(self, query: str, *parameters: object) -> str:
        """`read` in this lane. Raises `StoreAway`."""
        return await self.run(lambda db: read(db, query, parameters))

    def _run(self, work: Callable[[sqlite3.Connection], T], asked_at: float) -> T:
        # Behind a call that failed, others do not each spend their own patience on the same trouble.
        if self._failed_at > asked_at and time.monotonic() > asked_at + self._patience_s:
            raise StoreAway("the store was away for as long as this call waited")
        try:
            with _troubles_told():
                return work(self._db)
        except StoreAway:
            self._failed_at = time.monotonic()
            raise


@asynccontextmanager
async def open_lane(path: Path, schema: Schema, patience_s: float) -> AsyncIterator[Lane]:
    """A lane on the file at `path`, which is created, with its folder, where there is none.

    `patience_s` is how long a call waits for its turn. Raises `Unstartable` for a file that a newer version
    wrote or that cannot hold a store, `StoreAway` for one that is busy.
    """
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
    try:
        db = await loop.run_in_executor(thread, _open, path, schema, patience_s)
        try:
            yield Lane(thread, db, patience_s)
        finally:
            await loop.run_in_executor(thread, db.close)
    finally:
        thread.shutdown(wait=False)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and on the disk at the end."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has rolled it back already
            db.execute("ROLLBACK")
        raise


def write_rows(db: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """How many rows were written, in one step for each 64. `statement` has `{}` where its rows go.

    A part is filled up to a power of two by repeating its last row, which changes nothing as the statements
    are idempotent, so that there are seven shapes of each to compile and not one for every size.
    """
    written = 0
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        part = rows[start : start + _ROWS_A_STATEMENT]
        full = 1 << (len(part) - 1).bit_length()
        values = [value for row in part for value in row]
        values.extend(part[-1] * (full - len(part)))
        written += db.execute(_shape(statement, len(part[0]), full), values).rowcount
    return written


def read(db: sqlite3.Connection, query: str, parameters: Sequence[object] | Mapping[str, object]) -> str:
    """The `shape` of every row, as one JSON array; their order may not survive the gathering."""
    (text,) = db.execute(_gathered(query), parameters).fetchone()
    return str(text)


def json_of(value: object) -> str:
    """`value` as a parameter for `json_each`."""
    return _encoder.encode(value).decode()


@cache
def _shape(statement: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return statement.format(", ".join([row] * rows))


@cache
def _gathered(query: str) -> str:
    return f"SELECT '[' || coalesce(group_concat(shape), '') || ']' FROM ({query})"  # noqa: S608 - only constants


def _open(path: Path, schema: Schema, patience_s: float) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < _SQLITE_NEEDED:
        raise Unstartable(f"SQLite {sqlite3.sqlite_version} is too old: 3.38 is the least. Use a newer Python build.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _troubles_told():
            db = sqlite3.connect(path, timeout=patience_s, isolation_level=None)
            try:
                _enter_wal(db, time.monotonic() + patience_s)
                for name, function in schema.functions.items():
                    db.create_function(name, -1, function, deterministic=True)
                _bring_up_to_date(db, schema)
                for view in schema.views:
                    db.execute(view)
            except BaseException:
                db.close()
                raise
    except (OSError, StoreAway, Unstartable) as error:
        if isinstance(error, StoreAway) and _code(error.__cause__) == sqlite3.SQLITE_BUSY:
            raise
        raise Unstartable(f"The store cannot be opened at {path}: {error}. Mend it, or name another file.") from error
    return db


def _enter_wal(db: sqlite3.Connection, deadline: float) -> None:
    while True:
        try:
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_WAL_RETRY_S)
        else:
            if mode != "wal":
                raise Unstartable("SQLite cannot keep a write-ahead log there; it needs a local disk")
            # Each commit is on the disk before anybody sees it.
            db.execute("PRAGMA synchronous = FULL")
            return


def _bring_up_to_date(db: sqlite3.Connection, schema: Schema) -> None:
    newest = len(schema.steps)
    with transaction(db):
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > newest:
            raise Unstartable(f"it has schema {version}, of a newer version than this one, which knows {newest}")
        for step in schema.steps[version:]:
            for statement in step:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {newest}")


@contextmanager
def _troubles_told() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        # A mistake in a statement or its values must not pass for an outage.
        if isinstance(error, _MISTAKES) or _code(error) in (0, sqlite3.SQLITE_ERROR):
            raise
        raise StoreAway(str(error)) from error


def _code(error: BaseException | None) -> int:
    """SQLite's primary result code; 0 for errors that are not SQLite's own."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
