"""Users and groups in Firestore: the app's documents, read with defaults, and what follows from their changes.

The app writes them without asking a server. So whoever reads one here compares: who is a member, or lives somewhere,
that was not noted yet is noted then. `conversations/group:…` holds the members that are noted, and newcomers get a
receipt that says they have all that was said before; where people live is `residences.py`'s.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from libs.storage.firestore import values
from libs.storage.firestore.client import COMMIT_WRITES, Client, Conflict
from libs.storage.firestore.ids import readable
from libs.storage.firestore.values import Found
from libs.wire import names
from libs.wire.events import LEVELS
from libs.wire.frames import Places
from services.router.firestore import documents, receipts
from services.router.firestore.documents import CONVERSATIONS, GROUPS, USERS
from services.router.firestore.residences import Residences
from services.router.store import End, Group, GroupRow, Receipt, StoreAway, User, UserRow

# Where the app keeps the token of a user's only phone, or those of all their phones.
_PUSH_TOKEN: Final = "fcmToken"  # noqa: S105 - the name of a field
_PUSH_TOKENS: Final = "fcmTokens"
_USER_FIELDS: Final = (
    "name",
    "fullName",
    "role",
    "disabled",
    "blocked",
    "tokensValidAfterMs",
    "location",
    _PUSH_TOKEN,
    _PUSH_TOKENS,
)
_GROUP_FIELDS: Final = ("name", "members")
_ROLES: Final = ("member", "coordinator", "admin", "founder")
_REMEMBERED: Final = 100_000
_TRUSTED_S: Final = 5.0
_TRIES: Final = 8


class People:
    """`store.People`, and the writes of operators."""

    _client: Client
    _residences: Residences
    # Members as this process noted them, with when.
    _noted: OrderedDict[str, tuple[frozenset[str], float]]

    async def ends(self, conversation_ids: Collection[str]) -> dict[str, End]:
        """See `store.Messages`."""
        raise NotImplementedError

    async def users(self, ids: Collection[str]) -> dict[str, User]:
        asked = [self._client.name(USERS, id_) for id_ in ids if readable(id_) == id_]
        found = list((await self._client.get(asked, _USER_FIELDS)).values())
        users = {one.id: _user(one) for one in found}
        await self._residences.note({one.id: (users[one.id].places, one) for one in found})
        return users

    async def groups(self, ids: Collection[str]) -> dict[str, Group]:
        asked = [self._client.name(GROUPS, id_) for id_ in ids if readable(id_) == id_]
        found = await self._client.get(asked, _GROUP_FIELDS)
        groups = {one.id: _group(one) for one in found.values()}
        await self._note_members(groups.values())
        return groups

    async def revoke(self, user_id: str, valid_after_ms: int) -> bool:
        if readable(user_id) != user_id:
            return False
        name = self._client.name(USERS, user_id)
        latest = {"tokensValidAfterMs": valid_after_ms}
        try:
            await self._client.commit([values.put(name, {}, only=(), maximum=latest, if_there=True)])
        except Conflict:
            return False
        return True

    async def forget_push_tokens(self, user_id: str, tokens: Collection[str]) -> None:
        if not tokens or readable(user_id) != user_id:
            return
        name = self._client.name(USERS, user_id)
        for _ in range(_TRIES):
            there = (await self._client.get([name], (_PUSH_TOKEN, _PUSH_TOKENS))).get(name)
            if there is None or not _push_tokens(there.fields) & frozenset(tokens):
                return
            only = (_PUSH_TOKEN,) if documents.text(there.fields, _PUSH_TOKEN) in tokens else ()
            # An array that is none becomes one by taking from it: one that lacks them all is left alone.
            gone = sorted(documents.texts(there.fields, _PUSH_TOKENS) & frozenset(tokens))
            without = {_PUSH_TOKENS: gone} if gone else {}
            try:
                # Whatever token the app writes meanwhile stands.
                await self._client.commit([values.put(name, {}, only=only, without=without, if_version=there.updated)])
            except Conflict:
                continue
            return
        raise StoreAway("the tokens of a user were changed each time")

    async def put_users(self, users: Sequence[UserRow]) -> None:
        """Create users, or change what their rows name; what else their documents say stays."""
        writes = [_put(self._client.name(USERS, user.id), user) for user in users]
        for start in range(0, len(writes), COMMIT_WRITES):
            await self._client.commit(writes[start : start + COMMIT_WRITES])
        await self.users([user.id for user in users])

    async def put_groups(self, groups: Sequence[GroupRow]) -> None:
        """Create groups, or give them exactly these members. Who joins is owed what is said from then on."""
        writes = [
            values.put(
                self._client.name(GROUPS, group.id),
                {"name": group.name, "members": sorted(group.members)},
                only=_GROUP_FIELDS,
            )
            for group in groups
        ]
        for start in range(0, len(writes), COMMIT_WRITES):
            await self._client.commit(writes[start : start + COMMIT_WRITES])
        await self._note_members(groups)

    async def members(self, group_id: str) -> frozenset[str]:
        """A group's members, as they were within the last few seconds."""
        known, at = self._noted.get(group_id, (frozenset[str](), -_TRUSTED_S))
        if time.monotonic() - at < _TRUSTED_S:
            return known
        group = (await self.groups([group_id])).get(group_id)
        return frozenset() if group is None else group.members

    async def _note_members(self, groups: Collection[Group]) -> None:
        now = time.monotonic()
        changed: list[Group] = []
        for group in groups:
            if self._noted.get(group.id, (None, 0.0))[0] == group.members:
                self._remember(group, now)
            else:
                changed.append(group)
        if not changed:
            return
        named = {group.id: self._client.name(CONVERSATIONS, _conversation(group.id)) for group in changed}
        there = await self._client.get(named.values(), ("participantIds",))
        new = [group for group in changed if named[group.id] not in there]
        for start in range(0, len(new), COMMIT_WRITES):
            await self._begin(new[start : start + COMMIT_WRITES])
        await asyncio.gather(*(self._bring_up_to_date(g) for g in changed if named[g.id] in there))
        for group in changed:
            self._remember(group, now)

    def _remember(self, group: Group, now: float) -> None:
        self._noted[group.id] = group.members, now
        self._noted.move_to_end(group.id)
        if len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)

    async def _begin(self, groups: Sequence[Group]) -> None:
        """Groups of which nothing was said yet: nobody is owed anything, and nobody has any more than others."""
        writes = [
            values.create(
                self._client.name(CONVERSATIONS, _conversation(group.id)),
                {
                    "conversationId": names.group(group.id),
                    "groupId": group.id,
                    "participantIds": sorted(group.members),
                    "lastSeq": 0,
                    "isOpen": False,
                },
            )
            for group in groups
        ]
        try:
            await self._client.commit(writes)
        except Conflict:  # somebody noted one of them meanwhile, or saved its first message
            for group in groups:
                await self._bring_up_to_date(group)

    async def _bring_up_to_date(self, group: Group) -> None:
        """Note who came and who left. Repeated, it changes nothing."""
        where = names.group(group.id)
        name = self._client.name(CONVERSATIONS, _conversation(group.id))
        for _ in range(_TRIES):
            conversation = (await self._client.get([name], ("participantIds",))).get(name)
            noted = documents.texts(conversation.fields, "participantIds") if conversation else frozenset[str]()
            joined, left = group.members - noted, noted - group.members
            if not joined and not left:
                return
            last = (await self.ends([where]))[where].seq if joined else 0
            # Before the members, so that who is noted has a receipt.
            await self._client.write_each(self._receipts_of(where, joined if last else frozenset(), left, last))
            fields: dict[str, Any] = {
                "conversationId": where,
                "groupId": group.id,
                "participantIds": sorted(group.members),
            }
            version = conversation.updated if conversation else None
            is_there = None if conversation else False
            try:
                await self._client.commit(
                    [values.put(name, fields, only=tuple(fields), if_version=version, if_there=is_there)]
                )
            except Conflict:
                continue
            return
        raise StoreAway("the members of a group were changed each time")

    def _receipts_of(self, where: str, joined: Collection[str], left: Collection[str], last: int) -> list[bytes]:
        """Writes that give newcomers all up to `last`, and take from who left what they had."""
        touched: dict[str, tuple[dict[str, Receipt], list[str]]] = {}
        for user in joined:
            touched.setdefault(receipts.part_of(self._client, where, user), ({}, []))[0][user] = Receipt(last, last)
        for user in left:
            touched.setdefault(receipts.part_of(self._client, where, user), ({}, []))[1].append(user)
        return [receipts.write(name, where, has, gone=gone) for name, (has, gone) in touched.items()]


def _conversation(group_id: str) -> str:
    return readable(names.group(group_id))


def _user(document: Found) -> User:
    fields = document.fields
    role = documents.text(fields, "role", "member")
    location = fields.get("location")
    return User(
        id=document.id,
        name=documents.text(fields, "name", documents.text(fields, "fullName", document.id)),
        role=role if role in _ROLES else "member",
        disabled=fields.get("disabled") is True,
        blocked=documents.texts(fields, "blocked"),
        valid_after_ms=documents.number(fields, "tokensValidAfterMs"),
        places=_places(location if isinstance(location, Mapping) else {}),
        push_tokens=_push_tokens(fields),
    )


def _push_tokens(fields: Mapping[str, Any]) -> frozenset[str]:
    only = documents.text(fields, _PUSH_TOKEN)
    return frozenset(each for each in (only, *documents.texts(fields, _PUSH_TOKENS)) if each)


def _places(location: Mapping[str, Any]) -> Places:
    return Places(*(documents.text(location, f"{level}Id") for level in LEVELS))


def _put(name: str, user: UserRow) -> bytes:
    given = {
        "role": user.role,
        "disabled": user.disabled,
        "blocked": None if user.blocked is None else sorted(user.blocked),
        "tokensValidAfterMs": user.valid_after_ms,
        _PUSH_TOKENS: None if user.push_tokens is None else sorted(user.push_tokens),
    }
    places = {f"{level}Id": getattr(user, f"{level}_id") for level in LEVELS}
    fields: dict[str, Any] = {"name": user.name} | {field: each for field, each in given.items() if each is not None}
    location = {field: id_ for field, id_ in places.items() if id_ is not None}
    # Those that are written are all there are.
    gone = () if user.push_tokens is None else (_PUSH_TOKEN,)
    only = (*fields, *gone, *(f"location.{field}" for field in location))
    return values.put(name, fields | ({"location": location} if location else {}), only=only)


def _group(document: Found) -> Group:
    fields = document.fields
    return Group(document.id, documents.text(fields, "name", document.id), documents.texts(fields, "members"))
