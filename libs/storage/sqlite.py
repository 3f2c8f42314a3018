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
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from libs.lifecycle import Unstartable
from libs.storage import StoreAway

T = TypeVar("T")

# The JSON operators of the queries.
_SQLITE_NEEDED: Final = (3, 38, 0)
# Rows to a statement. More than the most save few steps; with fewer sizes more is filled up (see `write_rows`).
_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Between two tries to switch a new file to WAL, where SQLite itself does not wait for another writer.
_WAL_RETRY_S: Final = 0.01
_MISTAKES: Final = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.NotSupportedError, sqlite3.ProgrammingError)
# Troubles of a file that is fine: somebody is at it, or its disk is full, and may have room again.
_PASSING: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
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
    """One thread with one connection. Calls wait their turn here, not in the event loop.

    The thread is a plain one: to hand a call over through a pool of one thread, and its result back, took 75 µs of
    CPU, and so it takes 50.
    """

    def __init__(self, db: sqlite3.Connection, patience_s: float) -> None:
        self._db = db
        self._patience_s = patience_s
        self._failed_at = -math.inf
        # When what it is at began.
        self._began_at = math.inf
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()

    @property
    def busy_s(self) -> float:
        """For how long it has been at one call; 0 if it has nothing to do."""
        return max(0.0, time.monotonic() - self._began_at)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work`'s result. Raises `StoreAway`."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._calls.put(_Call(work, done, time.monotonic()))
        return await done

    async def read(self, query: str, *parameters: object) -> str:
        """`read` in this lane. Raises `StoreAway`."""
        return await self.run(lambda db: read(db, query, parameters))

    def serve(self) -> None:
        """Do what is called for, in a thread of its own, until `close`."""
        while (call := self._calls.get()) is not None:
            if call.done.cancelled():
                continue
            result, error = None, None
            self._began_at = time.monotonic()
            try:
                result = self._run(call.work, call.asked_at)
            except BaseException as raised:  # noqa: BLE001 - whoever called is told, and decides
                error = raised
            self._began_at = math.inf
            self._loop.call_soon_threadsafe(_tell, call.done, result, error)
            del call, result, error  # nothing is held while there is nothing to do

    def close(self) -> None:
        """Let the thread end when it has done what was called for before."""
        self._calls.put(None)

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


class _Call(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    asked_at: float


def _tell(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)


@asynccontextmanager
async def open_lane(path: Path, schema: Schema, patience_s: float) -> AsyncIterator[Lane]:
    """A lane on the file at `path`, which is created, with its folder, where there is none.

    `patience_s` is how long a call waits for its turn. Raises `Unstartable` for a file that a newer version
    wrote or that cannot hold a store, `StoreAway` for one that is busy or whose disk is full.
    """
    db = await asyncio.to_thread(_open, path, schema, patience_s)
    lane = Lane(db, patience_s)
    # Who is killed does not wait for it: what is committed is on the disk.
    thread = Thread(target=lane.serve, name="store", daemon=True)
    thread.start()
    try:
        yield lane
    finally:
        lane.close()
        await asyncio.to_thread(thread.join)
        db.close()


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

    A part is filled up to the next size by repeating its last row, which changes nothing as the statements
    are idempotent, so that there are twelve shapes of each to compile and not sixty-four.
    """
    written = 0
    for start in range(0, len(rows), _SIZES[-1]):
        part = rows[start : start + _SIZES[-1]]
        full = _SIZES[bisect_left(_SIZES, len(part))]
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
            # Opened and closed in other threads than its lane's, but never used in two at once.
            db = sqlite3.connect(path, timeout=patience_s, isolation_level=None, check_same_thread=False)
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
        if isinstance(error, StoreAway) and _code(error.__cause__) in _PASSING:
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
