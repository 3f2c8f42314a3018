"""The index of words in SQLite: what a search finds messages by. Written with them, in one transaction.

The index (FTS5) holds no text. Its entry for a message is its words and a mark of its conversation, so that a
search looks at the conversations of one user and not at everybody's; its number is that of a row in
`searchable`, which names the message.

SQLite's tokenizer is given words with spaces between them; with `ascii` it takes all that is not ASCII for letters.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from hashlib import blake2b
from typing import Final

import msgspec

from libs.lifecycle import Unstartable
from libs.storage.sqlite import json_of, read
from services.router.store import Message
from services.router.words import words

# In no word: what looks like a mark in a text does not become one.
_MARK: Final = "§"
_MARK_BYTES: Final = 8
_SHORT_PREFIXES: Final = 2


def entry(conversation_id: str, content: str) -> str:
    """What the index holds of a message; empty for one without words."""
    found = dict.fromkeys(words(content))
    return " ".join([*found, _mark(conversation_id)]) if found else ""


FUNCTIONS: Final = {"entry": entry}
TABLES: Final = (
    "CREATE TABLE searchable (number INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, seq INTEGER NOT NULL)",
    "CREATE VIRTUAL TABLE words USING fts5 (text, content = '', columnsize = 0, detail = none, tokenize = ascii)",
    """
    INSERT INTO searchable (conversation_id, seq)
    SELECT conversation_id, seq FROM messages WHERE NOT is_void AND encryption_level = 'standard'
    ORDER BY server_time_ms, conversation_id, seq
    """,
    """
    INSERT INTO words (rowid, text)
    SELECT number, entry(conversation_id, content)
    FROM searchable CROSS JOIN messages USING (conversation_id, seq) ORDER BY number
    """,
)

# Rows are numbered upwards: the new ones are the last.
_WRITTEN: Final = """
    SELECT json_array(rowid, conversation_id, seq, content) AS shape FROM messages
    WHERE rowid > last_insert_rowid() - ? AND NOT is_void AND encryption_level = 'standard'
"""
_NUMBER: Final = "INSERT INTO searchable (conversation_id, seq) SELECT value ->> 0, value ->> 1 FROM json_each(?)"
_INDEX: Final = "INSERT INTO words (rowid, text) SELECT ? + key, value FROM json_each(?)"
_written: Final = msgspec.json.Decoder(list[tuple[int, str, int, str]])


def check() -> None:
    """Raises `Unstartable` where SQLite cannot search."""
    with closing(sqlite3.connect(":memory:")) as db:
        if not db.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone():
            raise Unstartable(
                "The SQLite of this Python was built without FTS5, which search needs. Use another build."
            )


def index(db: sqlite3.Connection, messages: Sequence[Message], written: int) -> None:
    """Index those of `messages` that the last insert wrote, in its transaction. It wrote nearly always all."""
    if written == len(messages):
        found = [
            (one.conversation_id, one.seq, one.content)
            for one in messages
            if not one.is_void and one.encryption_level == "standard"
        ]
    else:
        found = [row[1:] for row in sorted(_written.decode(read(db, _WRITTEN, (written,))))] if written else []
    entries = [(conversation_id, seq, entry(conversation_id, text)) for conversation_id, seq, text in found]
    entries = [one for one in entries if one[2]]
    if entries:
        last = db.execute(_NUMBER, (json_of([one[:2] for one in entries]),)).lastrowid or 0
        db.execute(_INDEX, (last + 1 - len(entries), json_of([one[2] for one in entries])))


def expression(asked: Iterable[str], conversations: Iterable[str]) -> str:
    """What the index is asked: each word begins one of a message's, which is in one of the conversations.

    What a single letter begins is a twentieth of the index, and a hundred of them fit a query: few are looked for
    so, the others are words of their own.
    """
    marks = " OR ".join(f'"{_mark(conversation_id)}"' for conversation_id in conversations)
    once = list(dict.fromkeys(asked))
    short = [word for word in once if len(word) == 1][_SHORT_PREFIXES:]
    terms = (f'"{word}"' if word in short else f'"{word}" *' for word in once)
    return " AND ".join([*terms, f"({marks})"])


def _mark(conversation_id: str) -> str:
    return _MARK + blake2b(conversation_id.encode(), digest_size=_MARK_BYTES).hexdigest()
