"""The key directory in SQLite.

A one-time key that was handed out stays, with the request it went to: a repeated request is given the same
one, and a device that publishes it again does not bring it back.
"""

import sqlite3
from typing import Any, Final

import msgspec

from libs.storage.sqlite import Lane, json_of, read, transaction
from libs.wire.events import KeyBundle, PreKey, SignedPreKey
from services.router.store import Outcome, Published, TakenKeys
from services.router.store.keys import MAX_DEVICES, MAX_KEPT_KEYS, REMEMBERED_PUBLICATIONS, SILENT_DEVICE_MS

TABLES: Final = (
    """
    CREATE TABLE devices (
        id TEXT PRIMARY KEY, user_id TEXT NOT NULL, identity_key TEXT NOT NULL, signed_pre_key TEXT NOT NULL,
        requests TEXT NOT NULL, published_at_ms INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX devices_of_user ON devices (user_id)",
    """
    CREATE TABLE one_time_keys (
        device_id TEXT NOT NULL, key_id INTEGER NOT NULL, public_key TEXT NOT NULL, taken_by TEXT,
        PRIMARY KEY (device_id, key_id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX one_time_keys_free ON one_time_keys (device_id, key_id) WHERE taken_by IS NULL",
    "CREATE INDEX one_time_keys_taken ON one_time_keys (taken_by) WHERE taken_by IS NOT NULL",
)

_DEVICE: Final = "SELECT user_id, identity_key, requests FROM devices WHERE id = ?"
_DEVICES_OF: Final = "SELECT id, published_at_ms FROM devices WHERE user_id = ? ORDER BY published_at_ms"
_FREE: Final = "SELECT count(*) FROM one_time_keys WHERE device_id = ? AND taken_by IS NULL"
_THERE: Final = """
    SELECT json_array(key_id, public_key) AS shape
    FROM one_time_keys WHERE device_id = ? AND key_id IN (SELECT value FROM json_each(?))
"""
_PUT_DEVICE: Final = """
    INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        identity_key = excluded.identity_key, signed_pre_key = excluded.signed_pre_key,
        requests = excluded.requests, published_at_ms = excluded.published_at_ms
"""
_ADD_KEYS: Final = """
    INSERT INTO one_time_keys (device_id, key_id, public_key)
    SELECT ?, value ->> 0, value ->> 1 FROM json_each(?)
"""
_TAKE: Final = """
    UPDATE one_time_keys SET taken_by = :request WHERE (device_id, key_id) IN (
        SELECT id, (
            SELECT min(key_id) FROM one_time_keys AS free WHERE free.device_id = devices.id AND taken_by IS NULL)
        FROM devices WHERE user_id = :owner_id AND NOT EXISTS (
            SELECT 1 FROM one_time_keys AS mine WHERE mine.device_id = devices.id AND taken_by = :request)
    )
"""
_TAKEN: Final = """
    SELECT json_array(
        id, identity_key, json(signed_pre_key), json((
            SELECT json_object('keyId', key_id, 'publicKey', public_key)
            FROM one_time_keys WHERE device_id = devices.id AND taken_by = :request)),
        (SELECT count(*) FROM one_time_keys WHERE device_id = devices.id AND taken_by IS NULL)
    ) AS shape
    FROM devices WHERE user_id = :owner_id
"""

_requests: Final = msgspec.json.Decoder(list[str])
_there: Final = msgspec.json.Decoder(list[tuple[int, str]])
_taken: Final = msgspec.json.Decoder(list[tuple[str, str, SignedPreKey, PreKey | None, int]])


class Keys:
    """`store.Keys`."""

    _writer: Lane

    async def publish_keys(self, user_id: str, bundle: KeyBundle, request: str, now_ms: int) -> Published:
        return await self._writer.run(lambda db: _publish(db, user_id, bundle, request, now_ms))

    async def take_keys(self, owner_id: str, request: str) -> list[TakenKeys]:
        text = await self._writer.run(lambda db: _take(db, {"owner_id": owner_id, "request": request}))
        return [TakenKeys(*fields) for fields in sorted(_taken.decode(text), key=lambda fields: fields[0])]


def _publish(db: sqlite3.Connection, user_id: str, bundle: KeyBundle, request: str, now_ms: int) -> Published:
    device_id = bundle.device_id
    with transaction(db):
        owner, identity, known = db.execute(_DEVICE, (device_id,)).fetchone() or (None, None, "[]")
        requests = _requests.decode(known)
        if owner not in (None, user_id):
            return Published(Outcome.DEVICE_TAKEN)
        if request in requests:
            return Published(Outcome.KEPT, _free(db, device_id))
        if owner is None and not _has_room(db, user_id, now_ms):
            return Published(Outcome.TOO_MANY_DEVICES)
        if identity != bundle.identity_key:
            db.execute("DELETE FROM one_time_keys WHERE device_id = ?", (device_id,))
        offered = {key.key_id: key.public_key for key in bundle.one_time_pre_keys}
        there = dict(_there.decode(read(db, _THERE, (device_id, json_of(list(offered))))))
        if any(offered[key_id] != public_key for key_id, public_key in there.items()):
            return Published(Outcome.KEY_CHANGED)
        added = [pair for pair in offered.items() if pair[0] not in there]
        remaining = _free(db, device_id) + len(added)
        if remaining > MAX_KEPT_KEYS:
            return Published(Outcome.TOO_MANY_KEYS)
        signed, last = json_of(bundle.signed_pre_key), json_of([*requests, request][-REMEMBERED_PUBLICATIONS:])
        db.execute(_PUT_DEVICE, (device_id, user_id, bundle.identity_key, signed, last, now_ms))
        db.execute(_ADD_KEYS, (device_id, json_of(added)))
    return Published(Outcome.KEPT, remaining)


def _has_room(db: sqlite3.Connection, user_id: str, now_ms: int) -> bool:
    """Whether the user may have another device; one that has long been silent gives way to it."""
    devices: list[tuple[str, int]] = db.execute(_DEVICES_OF, (user_id,)).fetchall()
    if len(devices) < MAX_DEVICES:
        return True
    device_id, published_at_ms = devices[0]
    if published_at_ms > now_ms - SILENT_DEVICE_MS:
        return False
    db.execute("DELETE FROM one_time_keys WHERE device_id = ?", (device_id,))
    db.execute("DELETE FROM devices WHERE id = ?", (device_id,))
    return True


def _free(db: sqlite3.Connection, device_id: str) -> int:
    (count,) = db.execute(_FREE, (device_id,)).fetchone()
    return int(count)


def _take(db: sqlite3.Connection, asked: dict[str, Any]) -> str:
    with transaction(db):
        db.execute(_TAKE, asked)
        return read(db, _TAKEN, asked)
