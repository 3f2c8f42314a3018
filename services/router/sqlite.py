"""The record in one SQLite file: the embedded default, for one machine.

Owns the file, its schema and its two threads. Several processes may open one file.

One thread writes and one reads, each with a connection of its own, so that the event loop never waits
for a disk and a read never waits for a commit. Every step of a statement lets go of the interpreter's
lock and, beside a busy loop, waits up to 5 ms to get it back: 200 messages inserted one by one took
850 ms, in statements of 64 rows 45 ms. Hence two habits: rows are written many to a statement
(`_write_rows`), and a query answers with one row, the JSON of all (`_read`).

Over 400 lines, because a third of them are the SQL, which is read beside its only callers.
"""

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from libs.lifecycle import Unstartable
from libs.wire import names
from libs.wire.frames import DuePosition
from services.router.store import Group, Message, Receipt, ReceiptRow, Saved, StoreAway, User, position_of

T = TypeVar("T")

_VERSION: Final = 1
# The JSON operators of the queries.
_SQLITE_NEEDED: Final = (3, 38, 0)
# One statement's worth. More rows save few steps and cost more in filling up (see `_write_rows`).
_ROWS_A_STATEMENT: Final = 64
# Between two tries to switch a new file to WAL, where SQLite itself does not wait for another writer.
_WAL_RETRY_S: Final = 0.01

# Messages have a rowid: conversations come in no order, and inserting among them in one wide tree took
# twice the time of appending, with 300,000 there. `due` walks the primary key.
_SCHEMA: Final = (
    """
    CREATE TABLE users (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, disabled INTEGER NOT NULL,
        blocked TEXT NOT NULL, valid_after_ms INTEGER NOT NULL,
        state_id TEXT, district_id TEXT, mandal_id TEXT, village_id TEXT
    ) WITHOUT ROWID
    """,
    "CREATE TABLE groups_ (id TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, name TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE members (
        conversation_id TEXT NOT NULL, user_id TEXT NOT NULL,
        delivered INTEGER NOT NULL DEFAULT 0, read INTEGER NOT NULL DEFAULT 0, ahead TEXT NOT NULL DEFAULT '[]',
        PRIMARY KEY (conversation_id, user_id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX members_of_user ON members (user_id)",
    """
    CREATE TABLE messages (
        conversation_id TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL,
        sender_id TEXT NOT NULL, sender_name TEXT NOT NULL, sender_role TEXT NOT NULL,
        type TEXT NOT NULL, content TEXT NOT NULL, client_id TEXT NOT NULL, client_message_id TEXT NOT NULL,
        timestamp_ms INTEGER NOT NULL, server_time_ms INTEGER NOT NULL,
        media_url TEXT, media_metadata BLOB, encryption_level TEXT NOT NULL,
        is_anonymous INTEGER NOT NULL, is_void INTEGER NOT NULL,
        PRIMARY KEY (conversation_id, seq)
    )
    """,
    "CREATE UNIQUE INDEX messages_by_key ON messages (key) WHERE NOT is_void",
)

# Views of this connection and not of the file, so that they can change without a migration.
# `shape` holds the fields of a Message in their order.
_VIEWS: Final = (
    """
    CREATE TEMP VIEW shown AS
    SELECT conversation_id, seq, key, sender_id, server_time_ms, type <> 'emergency' AS rank, json_array(
        id, key, conversation_id, seq, sender_id, sender_name, sender_role, type, content, client_id,
        client_message_id, timestamp_ms, server_time_ms, media_url, CAST(media_metadata AS TEXT),
        encryption_level, json(iif(is_anonymous, 'true', 'false'))
    ) AS shape
    FROM messages WHERE NOT is_void
    """,
    """
    CREATE TEMP VIEW marks AS
    SELECT conversation_id, user_id, delivered,
        json_object('delivered', delivered, 'read', read, 'ahead', json(ahead)) AS receipt
    FROM members
    """,
)

_USERS: Final = """
    SELECT json_object('id', id, 'name', name, 'role', role, 'disabled', json(iif(disabled, 'true', 'false')),
        'blocked', json(blocked), 'valid_after_ms', valid_after_ms) AS shape
    FROM users WHERE id IN (SELECT value FROM json_each(?))
"""
_GROUPS: Final = """
    SELECT json_object('id', id, 'name', name, 'members', json((
        SELECT json_group_array(user_id) FROM members WHERE members.conversation_id = groups_.conversation_id
    ))) AS shape
    FROM groups_ WHERE id IN (SELECT value FROM json_each(?))
"""
_FIND: Final = "SELECT shape FROM shown WHERE key IN (SELECT value FROM json_each(?))"
_AT: Final = "SELECT shape FROM shown WHERE conversation_id = ? AND seq IN (SELECT value FROM json_each(?))"
_BEFORE: Final = """
    SELECT shape FROM shown WHERE conversation_id = ? AND seq > ? AND seq < ? AND server_time_ms < ?
    ORDER BY seq DESC LIMIT ?
"""
_AFTER: Final = _BEFORE.replace("DESC", "ASC")
_LAST_SEQS: Final = """
    SELECT json_array(asked.value, coalesce(
        (SELECT max(seq) FROM messages WHERE conversation_id = asked.value), 0)) AS shape
    FROM json_each(?) AS asked
"""
_RECEIPTS: Final = """
    SELECT json_array(conversation_id, user_id, json(receipt)) AS shape FROM marks WHERE conversation_id = ?
"""
_RECEIPTS_OF: Final = """
    SELECT json_array(conversation_id, user_id, json(receipt)) AS shape FROM json_each(?) AS asked
    CROSS JOIN marks ON conversation_id = asked.value ->> 0 AND user_id = asked.value ->> 1
"""
# The order of the joins is the plan (CROSS keeps it): few memberships, then each one's log past its mark.
# What is owed is ranked without its content, which is fetched for the page alone.
_DUE: Final = """
    WITH cursors (conversation_id, seq) AS MATERIALIZED (SELECT key, value FROM json_each(:cursors)),
    owed AS (
        SELECT log.conversation_id, log.seq, log.rank, log.server_time_ms, mine.receipt
        FROM marks AS mine
        LEFT JOIN cursors ON cursors.conversation_id = mine.conversation_id
        CROSS JOIN shown AS log ON log.conversation_id = mine.conversation_id
        WHERE mine.user_id = :user_id
            AND log.seq > coalesce(cursors.seq, mine.delivered)
            AND log.sender_id <> :user_id
            AND (log.rank, log.server_time_ms, log.conversation_id, log.seq)
                > (:rank, :server_time_ms, :conversation_id, :seq)
        ORDER BY log.rank, log.server_time_ms, log.conversation_id, log.seq LIMIT :limit
    )
    SELECT '[' || shown.shape || ',' || owed.receipt || ']' AS shape
    FROM owed CROSS JOIN shown USING (conversation_id, seq)
"""
_BEFORE_ALL: Final = DuePosition(-1, 0, "", 0)
_BEYOND_ALL: Final = (1 << 63) - 1

_INSERT_MESSAGES: Final = """
    INSERT INTO messages (
        id, key, conversation_id, seq, sender_id, sender_name, sender_role, type, content, client_id,
        client_message_id, timestamp_ms, server_time_ms, media_url, media_metadata, encryption_level,
        is_anonymous, is_void
    ) VALUES {} ON CONFLICT DO NOTHING
"""
_INSERT_MEMBERS: Final = "INSERT INTO members (conversation_id, user_id) VALUES {} ON CONFLICT DO NOTHING"
_WRITE_RECEIPTS: Final = """
    INSERT INTO members (conversation_id, user_id, delivered, read, ahead) VALUES {}
    ON CONFLICT DO UPDATE SET delivered = excluded.delivered, read = excluded.read, ahead = excluded.ahead
"""
_PLACES: Final = """
    SELECT json_array(key, conversation_id, seq) AS shape
    FROM messages WHERE key IN (SELECT value FROM json_each(?)) AND NOT is_void
"""
_VOIDS: Final = """
    SELECT json_array(conversation_id, seq) AS shape FROM json_each(?) AS asked
    CROSS JOIN messages ON conversation_id = asked.value ->> 0 AND seq = asked.value ->> 1 WHERE is_void
"""
_PUT_USER: Final = """
    INSERT INTO users VALUES (
        :id, :name, coalesce(:role, 'member'), coalesce(:disabled, 0), coalesce(:blocked, '[]'),
        coalesce(:valid_after_ms, 0), :state_id, :district_id, :mandal_id, :village_id
    ) ON CONFLICT DO UPDATE SET
        name = :name, role = coalesce(:role, role), disabled = coalesce(:disabled, disabled),
        blocked = coalesce(:blocked, blocked), valid_after_ms = coalesce(:valid_after_ms, valid_after_ms),
        state_id = coalesce(:state_id, state_id), district_id = coalesce(:district_id, district_id),
        mandal_id = coalesce(:mandal_id, mandal_id), village_id = coalesce(:village_id, village_id)
"""
_PUT_GROUP: Final = "INSERT INTO groups_ VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET name = excluded.name"
_REMOVE_MEMBERS: Final = """
    DELETE FROM members WHERE conversation_id = ? AND user_id NOT IN (SELECT value FROM json_each(?))
"""
_ADD_MEMBERS: Final = """
    INSERT INTO members (conversation_id, user_id, delivered, read)
    SELECT :conversation_id, value, last, last
    FROM json_each(:members), (
        SELECT coalesce(max(seq), 0) AS last FROM messages WHERE conversation_id = :conversation_id
    )
    WHERE true ON CONFLICT DO NOTHING
"""

_MISTAKES: Final = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.NotSupportedError, sqlite3.ProgrammingError)
_METADATA: Final = Message.__struct_fields__.index("media_metadata")
_encoder: Final = msgspec.json.Encoder()
_users: Final = msgspec.json.Decoder(list[User])
_groups: Final = msgspec.json.Decoder(list[Group])
_shapes: Final = msgspec.json.Decoder(list[list[Any]])
_owed: Final = msgspec.json.Decoder(list[tuple[list[Any], Receipt]])
_seqs: Final = msgspec.json.Decoder(list[tuple[str, int]])
_places: Final = msgspec.json.Decoder(list[tuple[str, str, int]])
_receipts: Final = msgspec.json.Decoder(list[tuple[str, str, Receipt]])


class UserRow(Struct, frozen=True):
    """What an operator writes of a user. None leaves what is there, or the default where nothing is."""

    id: str
    name: str
    role: str | None = None
    disabled: bool | None = None
    blocked: frozenset[str] | None = None
    valid_after_ms: int | None = None
    state_id: str | None = None
    district_id: str | None = None
    mandal_id: str | None = None
    village_id: str | None = None


# What an operator writes of a group is all of it.
GroupRow = Group


class _Lane:
    """One thread with one connection. Calls wait their turn here, not in the event loop."""

    def __init__(self, thread: ThreadPoolExecutor, db: sqlite3.Connection, patience_s: float) -> None:
        self._thread = thread
        self._db = db
        self._patience_s = patience_s
        self._failed_at = -math.inf

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work`'s result. Raises `StoreAway`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work, time.monotonic())

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


class SqliteStore:
    """`store.Store` on one SQLite file, and the writes of operators."""

    def __init__(self, writer: _Lane, reader: _Lane) -> None:
        self._writer = writer
        self._reader = reader

    async def users(self, ids: Collection[str]) -> dict[str, User]:
        found = _users.decode(await self._read(_USERS, _json(ids)))
        return {user.id: user for user in found}

    async def groups(self, ids: Collection[str]) -> dict[str, Group]:
        found = _groups.decode(await self._read(_GROUPS, _json(ids)))
        return {group.id: group for group in found}

    async def find(self, keys: Collection[str]) -> dict[str, Message]:
        found = _shapes.decode(await self._read(_FIND, _json(keys)))
        return {message.key: message for message in map(_message, found)}

    async def last_seqs(self, conversation_ids: Collection[str]) -> dict[str, int]:
        return dict(_seqs.decode(await self._read(_LAST_SEQS, _json(conversation_ids))))

    async def save(self, messages: Sequence[Message]) -> list[Saved]:
        return await self._writer.run(lambda db: _save(db, messages)) if messages else []

    async def history(
        self,
        conversation_id: str,
        limit: int,
        *,
        before_seq: int | None = None,
        before_ms: int | None = None,
        after_seq: int | None = None,
    ) -> list[Message]:
        bounds = (
            0 if after_seq is None else after_seq,
            _BEYOND_ALL if before_seq is None else before_seq,
            _BEYOND_ALL if before_ms is None else before_ms,
        )
        query = _BEFORE if after_seq is None else _AFTER
        return _in_order(await self._read(query, conversation_id, *bounds, limit))

    async def at(self, conversation_id: str, seqs: Collection[int]) -> list[Message]:
        return _in_order(await self._read(_AT, conversation_id, _json(seqs)))

    async def receipts(self, conversation_id: str, user_ids: Collection[str] | None = None) -> dict[str, Receipt]:
        if user_ids is None:
            text = await self._read(_RECEIPTS, conversation_id)
        else:
            text = await self._read(_RECEIPTS_OF, _json([(conversation_id, user_id) for user_id in user_ids]))
        return {user_id: receipt for _, user_id, receipt in _receipts.decode(text) if receipt != Receipt()}

    async def save_receipts(self, rows: Sequence[ReceiptRow]) -> None:
        if rows:
            await self._writer.run(lambda db: _save_receipts(db, rows))

    async def due(
        self,
        user_id: str,
        limit: int,
        *,
        after: DuePosition | None = None,
        cursors: Mapping[str, int] | None = None,
    ) -> list[tuple[Message, Receipt]]:
        asked = {
            "user_id": user_id,
            "limit": limit,
            "cursors": _json(cursors or {}),
            **msgspec.structs.asdict(after or _BEFORE_ALL),
        }
        text = await self._reader.run(lambda db: _read(db, _DUE, asked))
        found = [(_message(shape), receipt) for shape, receipt in _owed.decode(text)]
        return sorted(found, key=lambda one: msgspec.structs.astuple(position_of(one[0])))

    async def put_users(self, users: Sequence[UserRow]) -> None:
        """Create users, or change what their rows name. All or nothing; 10,000 take about 0.1 s."""
        await self._writer.run(lambda db: _put_users(db, users))

    async def put_groups(self, groups: Sequence[GroupRow]) -> None:
        """Create groups, or give them exactly these members. Who joins is owed what is said from then on."""
        await self._writer.run(lambda db: _put_groups(db, groups))

    async def _read(self, query: str, *parameters: object) -> str:
        return await self._reader.run(lambda db: _read(db, query, parameters))


@asynccontextmanager
async def open_store(path: Path, *, patience_s: float = 2.0) -> AsyncIterator[SqliteStore]:
    """The store in the file at `path`, which is created, with its folder, where there is none.

    `patience_s` is how long a call waits for its turn. Raises `Unstartable` for a file that a newer version
    wrote or that cannot hold a store, `StoreAway` for one that is busy.
    """
    async with _lane(path, patience_s) as writer, _lane(path, patience_s) as reader:
        yield SqliteStore(writer, reader)


@asynccontextmanager
async def _lane(path: Path, patience_s: float) -> AsyncIterator[_Lane]:
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
    try:
        db = await loop.run_in_executor(thread, _open, path, patience_s)
        try:
            yield _Lane(thread, db, patience_s)
        finally:
            await loop.run_in_executor(thread, db.close)
    finally:
        thread.shutdown(wait=False)


def _open(path: Path, patience_s: float) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < _SQLITE_NEEDED:
        raise Unstartable(f"SQLite {sqlite3.sqlite_version} is too old: 3.38 is the least. Use a newer Python build.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _troubles_told():
            db = sqlite3.connect(path, timeout=patience_s, isolation_level=None)
            try:
                _enter_wal(db, time.monotonic() + patience_s)
                _create_schema(db)
                for view in _VIEWS:
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


def _create_schema(db: sqlite3.Connection) -> None:
    with _transaction(db):
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise Unstartable(f"it has schema {version}, of a newer version than this one, which knows {_VERSION}")
        if version == 0:
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")


def _save(db: sqlite3.Connection, messages: Sequence[Message]) -> list[Saved]:
    with _transaction(db):
        written = _write_rows(db, _INSERT_MESSAGES, [msgspec.structs.astuple(message) for message in messages])
        outcomes = [Saved.SAVED] * len(messages) if written == len(messages) else _outcomes(db, messages)
        saved = {m.conversation_id for m, outcome in zip(messages, outcomes, strict=True) if outcome is Saved.SAVED}
        pairs = [(id_, user_id) for id_ in saved for user_id in names.direct_pair(id_) or ()]
        if pairs:
            _write_rows(db, _INSERT_MEMBERS, pairs)
    return outcomes


def _outcomes(db: sqlite3.Connection, messages: Sequence[Message]) -> list[Saved]:
    """What became of messages of which some were not written: told by who stands where afterwards."""
    found = _places.decode(_read(db, _PLACES, (_json([m.key for m in messages if not m.is_void]),)))
    place_of = {key: (conversation_id, seq) for key, conversation_id, seq in found}
    asked = _json([(m.conversation_id, m.seq) for m in messages if m.is_void])
    voids = set(_seqs.decode(_read(db, _VOIDS, (asked,))))
    return [_outcome(message, place_of, voids) for message in messages]


def _outcome(message: Message, place_of: Mapping[str, tuple[str, int]], voids: Collection[tuple[str, int]]) -> Saved:
    place = (message.conversation_id, message.seq)
    if message.is_void:
        return Saved.SAVED if place in voids else Saved.TAKEN
    if message.key not in place_of:
        return Saved.TAKEN
    return Saved.SAVED if place_of[message.key] == place else Saved.REPEAT


def _save_receipts(db: sqlite3.Connection, rows: Sequence[ReceiptRow]) -> None:
    with _transaction(db):
        asked = _json([(row.conversation_id, row.user_id) for row in rows])
        there = {(id_, user): receipt for id_, user, receipt in _receipts.decode(_read(db, _RECEIPTS_OF, (asked,)))}
        merged: dict[tuple[str, str], Receipt] = {}
        for row in rows:
            whose = (row.conversation_id, row.user_id)
            # A direct conversation's receipt can come before its first message is saved. In a group a
            # missing row is someone who was removed: writing it would make them a member again.
            if whose in there or row.user_id in (names.direct_pair(row.conversation_id) or ()):
                merged[whose] = merged.get(whose, there.get(whose, Receipt())).merge(row.receipt)
        changed = [
            (*whose, r.delivered, r.read, _json(r.ahead)) for whose, r in merged.items() if there.get(whose) != r
        ]
        if changed:
            _write_rows(db, _WRITE_RECEIPTS, changed)


def _put_users(db: sqlite3.Connection, users: Sequence[UserRow]) -> None:
    with _transaction(db):
        db.executemany(_PUT_USER, map(_columns, users))


def _columns(user: UserRow) -> dict[str, Any]:
    return {**msgspec.structs.asdict(user), "blocked": None if user.blocked is None else _json(user.blocked)}


def _put_groups(db: sqlite3.Connection, groups: Sequence[GroupRow]) -> None:
    with _transaction(db):
        for group in groups:
            conversation_id, members = names.group(group.id), _json(group.members)
            db.execute(_PUT_GROUP, (group.id, conversation_id, group.name))
            db.execute(_REMOVE_MEMBERS, (conversation_id, members))
            db.execute(_ADD_MEMBERS, {"conversation_id": conversation_id, "members": members})


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has rolled it back already
            db.execute("ROLLBACK")
        raise


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


def _write_rows(db: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """How many rows were written, in one step for each 64.

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


@cache
def _shape(statement: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return statement.format(", ".join([row] * rows))


def _read(db: sqlite3.Connection, query: str, parameters: Sequence[object] | Mapping[str, object]) -> str:
    """The `shape` of every row, as one JSON array; their order may not survive the gathering."""
    (text,) = db.execute(_gathered(query), parameters).fetchone()
    return str(text)


@cache
def _gathered(query: str) -> str:
    return f"SELECT '[' || coalesce(group_concat(shape), '') || ']' FROM ({query})"  # noqa: S608 - only constants


def _in_order(text: str) -> list[Message]:
    return sorted(map(_message, _shapes.decode(text)), key=lambda message: message.seq)


def _message(shape: list[Any]) -> Message:
    metadata = shape[_METADATA]
    if metadata is not None:
        shape[_METADATA] = metadata.encode()
    return Message(*shape)


def _json(value: object) -> str:
    return _encoder.encode(value).decode()
