"""Moving house: looks through a database that the server before this one wrote, and gives its messages their places.

The look writes nothing to Firestore. What it found is in a file, page by page, so that it goes on where it was
interrupted. Filling gives the messages of a conversation their seqs in the order of their time, a commit at a time,
each with the receipts that go with it: whoever had a message is not owed it. One that is interrupted goes on.

For a database that no cluster writes to: a conversation that has messages of a router's is left as it is.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from libs.storage.firestore import values
from libs.storage.firestore.client import Client, Conflict
from libs.storage.firestore.ids import is_name, readable
from libs.storage.firestore.query import Query
from libs.storage.firestore.values import Found, Stamp
from libs.wire import names
from services.router.firestore import documents, old, receipts
from services.router.firestore.documents import CONVERSATIONS, GROUPS, MESSAGES, USERS
from services.router.firestore.marks import members_of
from services.router.firestore.old import OldMessage
from services.router.store import Receipt

_PAGE: Final = 1000
# One document a message, and a few with receipts.
_COMMIT: Final = 200
_EXAMPLES: Final = 5
_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS findings (what TEXT NOT NULL, id TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS groups_ (id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS last (conversation_id TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS ours (conversation_id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS old (
        conversation_id TEXT NOT NULL, at_ms INTEGER NOT NULL, id TEXT NOT NULL, sender_id TEXT NOT NULL,
        rank INTEGER NOT NULL, is_had INTEGER NOT NULL, is_read INTEGER NOT NULL,
        PRIMARY KEY (conversation_id, at_ms, id)
    ) WITHOUT ROWID;
"""
# The order of the look: groups are known when messages are looked at.
_LOOKS: Final = {
    USERS: old.USER_FIELDS,
    GROUPS: old.GROUP_FIELDS,
    CONVERSATIONS: ("conversationId",),
    MESSAGES: old.MESSAGE_FIELDS,
}

# Told of progress: what is done, how much of it, of how much.
Told = Callable[[str, int, int], None]


class Finding(Struct, frozen=True):
    """Something that would not fit, how often, and where for example."""

    what: str
    count: int
    examples: tuple[str, ...]


class Report(Struct, frozen=True):
    """What a look found."""

    documents: dict[str, int]
    findings: tuple[Finding, ...]
    fitting: int  # messages that are to be given a place
    conversations: int  # that they are in


class Filled(Struct, frozen=True):
    """What filling did."""

    messages: int
    # Conversations that somebody wrote to meanwhile: another look and another go find the rest.
    changed: int


class Moving:
    """One database, and the file with what was found in it."""

    def __init__(self, client: Client, path: Path) -> None:
        self._client = client
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Leave the file as it is."""
        self._db.close()

    @property
    def is_looked_through(self) -> bool:
        """Whether a look came to its end, and nothing was filled since that would make another one necessary."""
        return self._state("looked") == "1"

    def forget(self) -> None:
        """The next look begins anew."""
        for table in ("state", "findings", "groups_", "last", "ours", "old"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of this file

    async def look(self, told: Told) -> None:
        """Look through everything, or go on with it. Raises `StoreAway`; what was found until then is kept."""
        for collection, fields in _LOOKS.items():
            total = await self._client.count(Query(collection=collection))
            seen = int(self._state(f"seen {collection}") or 0)
            after = self._state(f"after {collection}") or ""
            told(collection, seen, max(seen, total))
            while self._state(f"whole {collection}") is None:
                page = await self._client.page(collection, _PAGE, after=after, only=fields)
                self._db.execute("BEGIN")
                for document in page:
                    self._note(collection, document)
                seen, after = seen + len(page), page[-1].id if page else after
                self._set(f"seen {collection}", str(seen))
                self._set(f"after {collection}", after)
                if len(page) < _PAGE:
                    self._set(f"whole {collection}", "1")
                self._db.execute("COMMIT")
                told(collection, seen, max(seen, total))
        self._db.execute(
            "INSERT INTO findings SELECT 'messages in conversations that a cluster writes to already', id FROM old "
            "WHERE conversation_id IN (SELECT conversation_id FROM ours)"
        )
        self._db.execute("DELETE FROM old WHERE conversation_id IN (SELECT conversation_id FROM ours)")
        self._set("looked", "1")

    def report(self) -> Report:
        """What the look found."""
        seen = {collection: int(self._state(f"seen {collection}") or 0) for collection in _LOOKS}
        fitting, conversations = self._db.execute(
            "SELECT count(*), count(DISTINCT conversation_id) FROM old"
        ).fetchone()
        rows = self._db.execute("SELECT what, count(*) FROM findings GROUP BY what ORDER BY what").fetchall()
        findings = tuple(Finding(what, count, self._examples(what)) for what, count in rows)
        return Report(seen, findings, fitting, conversations)

    async def fill(self, owed_after_ms: int, told: Told) -> Filled:
        """Give messages their places; who has none from before `owed_after_ms` is owed none of those.

        Raises `StoreAway`; what was filled until then is, and the next call goes on.
        """
        (total,) = self._db.execute("SELECT count(*) FROM old").fetchone()
        found, done, changed = self.report().conversations, 0, 0
        after = ""
        for _ in range(found):
            (conversation_id,) = self._db.execute(
                "SELECT min(conversation_id) FROM old WHERE conversation_id > ?", (after,)
            ).fetchone()
            after = conversation_id
            try:
                async for count in self._fill(conversation_id, owed_after_ms):
                    done += count
                    told(MESSAGES, done, total)
            except Conflict:
                changed += 1
        self._set("looked", "0")
        return Filled(done, changed)

    # --- the look ------------------------------------------------------------------------------

    def _note(self, collection: str, document: Found) -> None:
        match collection:
            case "users":
                self._found(document, old.of_user(document))
            case "groups":
                self._db.execute("INSERT OR IGNORE INTO groups_ VALUES (?)", (document.id,))
                self._found(document, old.of_group(document))
            case "conversations":
                if not documents.text(document.fields, "conversationId"):
                    self._found(
                        document, ("conversations of the app's own: each is a read at every sign-in of its members",)
                    )
            case _:
                self._note_message(document)

    def _note_message(self, document: Found) -> None:
        fields = document.fields
        where, seq = documents.text(fields, "conversationId"), documents.number(fields, "seq")
        if where and seq:
            self._db.execute(
                "INSERT INTO last VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)", (where, seq)
            )
            if old.is_ours(document):
                self._db.execute("INSERT OR IGNORE INTO ours VALUES (?)", (where,))
            return
        group_id = documents.text(fields, "groupId")
        is_there = self._db.execute("SELECT 1 FROM groups_ WHERE id = ?", (group_id,)).fetchone() is not None
        message, wrong = old.of_message(document, {group_id} if is_there else ())
        self._found(document, wrong)
        if message is not None:
            row: tuple[Any, ...] = (message.conversation_id, message.at_ms, document.id, message.sender_id)
            row += (message.rank, message.is_had, message.is_read)
            self._db.execute("INSERT OR REPLACE INTO old VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _found(self, document: Found, wrong: Any) -> None:
        self._db.executemany("INSERT INTO findings VALUES (?, ?)", [(what, document.id) for what in wrong])

    def _examples(self, what: str) -> tuple[str, ...]:
        rows = self._db.execute("SELECT id FROM findings WHERE what = ? ORDER BY id LIMIT ?", (what, _EXAMPLES))
        return tuple(id_ for (id_,) in rows)

    # --- filling -------------------------------------------------------------------------------

    async def _fill(self, where: str, owed_after_ms: int) -> AsyncIterator[int]:
        """Commit by commit, how many messages got their places. Raises `Conflict`, `StoreAway`."""
        members = await self._members(where)
        has = await self._receipts(where, members)
        version = await self._met(where)
        while True:
            rows = self._db.execute(
                "SELECT id, sender_id, at_ms, rank, is_had, is_read FROM old WHERE conversation_id = ? "
                "ORDER BY at_ms, id LIMIT ?",
                (where, _COMMIT),
            ).fetchall()
            if not rows:
                return
            first = self._last(where) + 1
            chunk = {
                first + number: (
                    id_,
                    OldMessage(where, sender, at_ms, rank, bool(is_had) or at_ms < owed_after_ms, bool(is_read)),
                )
                for number, (id_, sender, at_ms, rank, is_had, is_read) in enumerate(rows)
            }
            has = {user: _grown(receipt, user, chunk) for user, receipt in has.items()}
            writes = [*self._messages(chunk), *self._rest(where, members, has, max(chunk), version)]
            (version,) = await self._client.commit(writes, versions_of_last=1)
            self._db.execute("BEGIN")
            self._db.executemany(
                "DELETE FROM old WHERE conversation_id = ? AND at_ms = ? AND id = ?",
                [(where, at_ms, id_) for id_, _, at_ms, *_ in rows],
            )
            self._db.execute("INSERT OR REPLACE INTO last VALUES (?, ?)", (where, max(chunk)))
            self._db.execute("COMMIT")
            yield len(rows)

    def _last(self, where: str) -> int:
        (last,) = self._db.execute("SELECT max(seq) FROM last WHERE conversation_id = ?", (where,)).fetchone()
        return last or 0

    async def _met(self, where: str) -> Stamp | None:
        """The version of a conversation's document, if no router wrote to its log. Raises `Conflict`, `StoreAway`.

        Beyond the last place there is nothing by then but what a commit gave a place to of which nobody heard.
        """
        name = self._client.name(CONVERSATIONS, readable(where))
        document = (await self._client.get([name], ("isOpen",))).get(name)
        if document is not None and document.fields.get("isOpen") is True:
            raise Conflict("a router is at it")
        query = Query(
            collection=MESSAGES,
            where=(("conversationId", "==", where), ("seq", ">", self._last(where))),
            order=("seq",),
            only=("seq",),
        )
        for one in await self._client.query(query):
            if self._db.execute("SELECT 1 FROM old WHERE conversation_id = ? AND id = ?", (where, one.id)).fetchone():
                continue
            raise Conflict("a router was at it")
        return document.updated if document is not None else None

    async def _members(self, where: str) -> frozenset[str]:
        pair = names.direct_pair(where)
        if pair is not None:
            return frozenset(pair)
        name = self._client.name(GROUPS, names.group_of(where) or "")
        group = (await self._client.get([name], ("members",))).get(name)
        return documents.texts(group.fields, "members") if group is not None else frozenset()

    async def _receipts(self, where: str, members: Collection[str]) -> dict[str, Receipt]:
        """What everybody has by now: of a run before, or of nothing."""
        found = await self._client.get(receipts.parts(self._client, where))
        there: dict[str, Receipt] = {}
        for one in found.values():
            there |= receipts.receipts_in(one)
        return {user: there.get(user, Receipt()) for user in members if is_name(user)}

    def _messages(self, chunk: Mapping[int, tuple[str, OldMessage]]) -> Iterable[bytes]:
        for seq, (id_, message) in chunk.items():
            fields = {
                "conversationId": message.conversation_id,
                "seq": seq,
                "rank": message.rank,
                "serverTimeMs": message.at_ms,
            }
            yield values.put(self._client.name(MESSAGES, id_), fields, only=tuple(fields), if_there=True)

    def _rest(
        self, where: str, members: Collection[str], has: Mapping[str, Receipt], last: int, version: Stamp | None
    ) -> Iterable[bytes]:
        """Who is in it and what they have, and at the end how far the log goes, if nobody has said so meanwhile."""
        parts: dict[str, dict[str, Receipt]] = {}
        for user, receipt in has.items():
            parts.setdefault(receipts.part_of(self._client, where, user), {})[user] = receipt
        for name, of_part in parts.items():
            yield receipts.write(name, where, of_part)
        fields: dict[str, Any] = {"conversationId": where, "isOpen": False, "isUnsettled": True}
        if names.direct_pair(where) is None:
            fields |= {"groupId": names.group_of(where), "participantIds": sorted(members)}
        fields |= members_of(where)
        yield values.put(
            self._client.name(CONVERSATIONS, readable(where)),
            fields,
            only=tuple(fields),
            maximum={"lastSeq": last},
            stamped=("lastAt",),
            if_version=version,
            if_there=False if version is None else None,
        )

    # --- the file ------------------------------------------------------------------------------

    def _state(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return row[0] if row is not None else None

    def _set(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))


def _grown(receipt: Receipt, user: str, chunk: Mapping[int, tuple[str, OldMessage]]) -> Receipt:
    """A receipt, with what its user had of these messages or wrote."""
    had = [seq for seq, (_, message) in chunk.items() if message.is_had or message.sender_id == user]
    read = [seq for seq, (_, message) in chunk.items() if message.is_read and message.sender_id != user]
    return receipt.merge(Receipt(0, max(read, default=0), tuple(had)))
