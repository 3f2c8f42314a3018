"""The tables of the record, and the views that queries read."""

from typing import Final

from libs.storage.sqlite import Schema
from services.router.sqlite import broadcasts, keys, words

# Messages have a rowid: conversations come in no order, and inserting among them in one wide tree took
# twice the time of appending, with 300,000 there. `due` walks the primary key.
_VERSION_1: Final = (
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

_VERSION_2: Final = (
    "ALTER TABLE messages ADD COLUMN sealed TEXT",
    # Up to `retired_up_to` nothing is due. A note waits (`noticed_at_ms`) until what it covers may be retired.
    """
    CREATE TABLE retention (
        conversation_id TEXT PRIMARY KEY, confirmed_up_to INTEGER NOT NULL, noticed_at_ms INTEGER,
        retired_up_to INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID
    """,
    "CREATE INDEX retention_noticed ON retention (noticed_at_ms) WHERE noticed_at_ms IS NOT NULL",
    *broadcasts.TABLES,
    *keys.TABLES,
    *words.TABLES,
)

_VERSION_3: Final = ("ALTER TABLE users ADD COLUMN push_tokens TEXT NOT NULL DEFAULT '[]'",)

# `shape` holds the fields of a Message in their order; `number` rises with each that is saved.
_VIEWS: Final = (
    """
    CREATE TEMP VIEW shown AS
    SELECT rowid AS number, conversation_id, seq, key, sender_id, server_time_ms, type <> 'emergency' AS rank,
    json_array(
        id, key, conversation_id, seq, sender_id, sender_name, sender_role, type, content, client_id,
        client_message_id, timestamp_ms, server_time_ms, media_url, CAST(media_metadata AS TEXT),
        encryption_level, json(iif(is_anonymous, 'true', 'false')), sealed
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

SCHEMA: Final = Schema((_VERSION_1, _VERSION_2, _VERSION_3), _VIEWS, words.FUNCTIONS)
