"""Users and groups in SQLite: what the router asks of them, and what operators write."""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from libs.clock import now_ms
from libs.storage.sqlite import Lane, json_of, transaction
from libs.wire import names
from services.router.sqlite.broadcasts import note_residences
from services.router.store import Group, GroupRow, User, UserRow

_USERS: Final = """
    SELECT json_object(
        'id', id, 'name', name, 'role', role, 'disabled', json(iif(disabled, 'true', 'false')),
        'blocked', json(blocked), 'valid_after_ms', valid_after_ms, 'places', json_array(
            coalesce(state_id, ''), coalesce(district_id, ''), coalesce(mandal_id, ''), coalesce(village_id, '')
        ), 'push_tokens', json(push_tokens)) AS shape
    FROM users WHERE id IN (SELECT value FROM json_each(?))
"""
_GROUPS: Final = """
    SELECT json_object('id', id, 'name', name, 'members', json((
        SELECT json_group_array(user_id) FROM members WHERE members.conversation_id = groups_.conversation_id
    ))) AS shape
    FROM groups_ WHERE id IN (SELECT value FROM json_each(?))
"""
_PUT_USER: Final = """
    INSERT INTO users VALUES (
        :id, :name, coalesce(:role, 'member'), coalesce(:disabled, 0), coalesce(:blocked, '[]'),
        coalesce(:valid_after_ms, 0), :state_id, :district_id, :mandal_id, :village_id, coalesce(:push_tokens, '[]')
    ) ON CONFLICT DO UPDATE SET
        name = :name, role = coalesce(:role, role), disabled = coalesce(:disabled, disabled),
        blocked = coalesce(:blocked, blocked), valid_after_ms = coalesce(:valid_after_ms, valid_after_ms),
        state_id = coalesce(:state_id, state_id), district_id = coalesce(:district_id, district_id),
        mandal_id = coalesce(:mandal_id, mandal_id), village_id = coalesce(:village_id, village_id),
        push_tokens = coalesce(:push_tokens, push_tokens)
"""
_REVOKE: Final = "UPDATE users SET valid_after_ms = max(valid_after_ms, ?) WHERE id = ?"
_FORGET_TOKENS: Final = """
    UPDATE users SET push_tokens = (
        SELECT json_group_array(value) FROM json_each(push_tokens)
        WHERE value NOT IN (SELECT value FROM json_each(:tokens))
    ) WHERE id = :user_id
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

_users: Final = msgspec.json.Decoder(list[User])
_groups: Final = msgspec.json.Decoder(list[Group])


class People:
    """`store.People`, and the writes of operators."""

    _writer: Lane
    _reader: Lane

    async def users(self, ids: Collection[str]) -> dict[str, User]:
        found = _users.decode(await self._reader.read(_USERS, json_of(ids)))
        return {user.id: user for user in found}

    async def groups(self, ids: Collection[str]) -> dict[str, Group]:
        found = _groups.decode(await self._reader.read(_GROUPS, json_of(ids)))
        return {group.id: group for group in found}

    async def revoke(self, user_id: str, valid_after_ms: int) -> bool:
        return await self._writer.run(lambda db: db.execute(_REVOKE, (valid_after_ms, user_id)).rowcount) > 0

    async def forget_push_tokens(self, user_id: str, tokens: Collection[str]) -> None:
        asked = {"user_id": user_id, "tokens": json_of(tokens)}
        await self._writer.run(lambda db: db.execute(_FORGET_TOKENS, asked))

    async def put_users(self, users: Sequence[UserRow]) -> None:
        """Create users, or change what their rows name. All or nothing; 10,000 take about 0.4 s."""
        await self._writer.run(lambda db: _put_users(db, users))

    async def put_groups(self, groups: Sequence[GroupRow]) -> None:
        """Create groups, or give them exactly these members. Who joins is owed what is said from then on."""
        await self._writer.run(lambda db: _put_groups(db, groups))


def _put_users(db: sqlite3.Connection, users: Sequence[UserRow]) -> None:
    with transaction(db):
        db.executemany(_PUT_USER, map(_columns, users))
        note_residences(db, {user.id for user in users}, now_ms())


def _columns(user: UserRow) -> dict[str, Any]:
    sets = {"blocked": user.blocked, "push_tokens": user.push_tokens}
    return {**msgspec.structs.asdict(user), **{name: None if of is None else json_of(of) for name, of in sets.items()}}


def _put_groups(db: sqlite3.Connection, groups: Sequence[GroupRow]) -> None:
    with transaction(db):
        for group in groups:
            conversation_id, members = names.group(group.id), json_of(group.members)
            db.execute(_PUT_GROUP, (group.id, conversation_id, group.name))
            db.execute(_REMOVE_MEMBERS, (conversation_id, members))
            db.execute(_ADD_MEMBERS, {"conversation_id": conversation_id, "members": members})
