"""A store in memory, which can be away, and people to fill it with."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from libs.wire import names
from libs.wire.events import KeyBundle
from libs.wire.frames import DuePosition
from services.router.store import (
    Broadcast,
    DueBroadcast,
    End,
    Group,
    Message,
    Moves,
    Outcome,
    Owed,
    Place,
    Published,
    Reached,
    Receipt,
    ReceiptRow,
    Saved,
    StoreAway,
    TakenKeys,
    Tally,
    User,
    position_of,
)

RAMA_SITA = names.direct("rama", "sita")
FIELD = names.group("field")


def message(seq: int, conversation_id: str = RAMA_SITA, sender_id: str = "rama", **fields: object) -> Message:
    """A message that is itself by its place, unless told otherwise."""
    client_id = str(fields.pop("client_id", f"{conversation_id}/{seq}"))
    given: dict[str, object] = {
        "id": names.message_id(sender_id, client_id, conversation_id),
        "key": names.message_key(sender_id, client_id),
        "conversation_id": conversation_id,
        "seq": seq,
        "sender_id": sender_id,
        "sender_name": sender_id.title(),
        "sender_role": "member",
        "type": "text",
        "content": "The survey is on Monday.",
        "client_id": client_id,
        "client_message_id": client_id,
        "timestamp_ms": 5,
        "server_time_ms": 1000 + seq,
    }
    return Message(**(given | fields))  # type: ignore[arg-type]


class FakeStore:
    """`store.Store` in dicts. `away` names the methods that find it away now; `broken`, those with a bug."""

    def __init__(self) -> None:
        self.busy_s = 0.0
        self.away: set[str] = set()
        self.broken: set[str] = set()
        self.asked: list[str] = []
        self.people = {
            user.id: user
            for user in (
                User("rama", "Rama"),
                User("sita", "Sita"),
                User("lata", "Lata", role="coordinator"),
                User("ravi", "Ravi", blocked=frozenset({"rama"})),
            )
        }
        self.teams = {"field": Group("field", "Field", frozenset({"rama", "sita", "lata"}))}
        self.messages: dict[tuple[str, int], Message] = {}
        self.notes: dict[str, int] = {}
        self.retired: list[str] = []
        self.marks: dict[tuple[str, str], Receipt] = {}
        # Who is a member of nothing, though they should be.
        self.forgotten: set[str] = set()
        # What the key directory says next, and what it was asked.
        self.keys_asked: list[tuple[object, ...]] = []
        self.published = Published(Outcome.KEPT)
        self.taken: list[TakenKeys] = []
        # What a search finds next, and what was searched for.
        self.found: list[Message] = []
        self.searched: list[tuple[object, ...]] = []
        self.broadcasts: dict[str, Broadcast] = {}
        self.moved: list[str] = []

    def put(self, *messages: Message) -> None:
        """Have these as if they had been saved."""
        self.messages.update({(one.conversation_id, one.seq): one for one in messages})

    def log(self, conversation_id: str = RAMA_SITA) -> list[Message]:
        """A conversation, void messages included."""
        return [one for place, one in sorted(self.messages.items()) if place[0] == conversation_id]

    async def users(self, ids: Collection[str]) -> dict[str, User]:
        self._ask("users")
        return {i: self.people[i] for i in ids if i in self.people}

    async def groups(self, ids: Collection[str]) -> dict[str, Group]:
        self._ask("groups")
        return {i: self.teams[i] for i in ids if i in self.teams}

    async def revoke(self, user_id: str, valid_after_ms: int) -> bool:
        self._ask("revoke")
        user = self.people.get(user_id)
        if user is not None:
            valid_after_ms = max(valid_after_ms, user.valid_after_ms)
            self.people[user_id] = msgspec.structs.replace(user, valid_after_ms=valid_after_ms)
        return user is not None

    async def forget_push_tokens(self, user_id: str, tokens: Collection[str]) -> None:
        self._ask("forget_push_tokens")
        user = self.people.get(user_id)
        if user is not None:
            left = user.push_tokens.difference(tokens)
            self.people[user_id] = msgspec.structs.replace(user, push_tokens=left)

    async def find(self, keys: Collection[str]) -> dict[str, Message]:
        self._ask("find")
        return {one.key: one for one in self.messages.values() if one.key in keys and not one.is_void}

    async def ends(self, conversation_ids: Collection[str]) -> dict[str, End]:
        self._ask("ends")
        logs = {i: self.log(i) for i in conversation_ids}
        return {i: End(log[-1].seq, log[-1].server_time_ms) if log else End() for i, log in logs.items()}

    async def save(self, messages: Sequence[Message]) -> list[Saved]:
        self._ask("save")
        outcomes = []
        for one in messages:
            place = (one.conversation_id, one.seq)
            there = [other for other in self.messages.values() if other.key == one.key and not one.is_void]
            if there:
                outcomes.append(Saved.SAVED if (there[0].conversation_id, there[0].seq) == place else Saved.REPEAT)
            elif place in self.messages:
                outcomes.append(Saved.TAKEN)
            else:
                self.put(one)
                outcomes.append(Saved.SAVED)
        return outcomes

    async def history(
        self,
        conversation_id: str,
        limit: int,
        *,
        before_seq: int | None = None,
        before_ms: int | None = None,
        after_seq: int | None = None,
    ) -> list[Message]:
        self._ask("history")
        shown = [one for one in self.log(conversation_id) if not one.is_void]
        shown = [one for one in shown if before_seq is None or one.seq < before_seq]
        shown = [one for one in shown if before_ms is None or one.server_time_ms < before_ms]
        return shown[-limit:] if after_seq is None else [one for one in shown if one.seq > after_seq][:limit]

    async def at(self, conversation_id: str, seqs: Collection[int]) -> list[Message]:
        self._ask("at")
        return [one for one in self.log(conversation_id) if one.seq in seqs and not one.is_void]

    async def receipts(self, conversation_id: str, user_ids: Collection[str] | None = None) -> dict[str, Receipt]:
        self._ask("receipts")
        return {
            user: receipt
            for (where, user), receipt in self.marks.items()
            if where == conversation_id and (user_ids is None or user in user_ids)
        }

    async def receipts_of(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        self._ask("receipts")
        return {whose: self.marks[whose] for whose in members if whose in self.marks}

    async def save_receipts(self, rows: Sequence[ReceiptRow]) -> None:
        self._ask("save_receipts")
        for row in rows:
            whose = (row.conversation_id, row.user_id)
            self.marks[whose] = self.marks.get(whose, Receipt()).merge(row.receipt)

    async def due(
        self,
        user_id: str,
        limit: int,
        *,
        after: DuePosition | None = None,
        cursors: Mapping[str, int] | None = None,
    ) -> Owed:
        self._ask("due")
        known = cursors or {}
        as_of = after.as_of if after is not None and after.as_of else len(self.messages)
        owed = []
        for one in list(self.messages.values())[:as_of]:
            mark = self.marks.get((one.conversation_id, user_id), Receipt())
            is_past = one.seq > known.get(one.conversation_id, mark.delivered)
            is_after = after is None or _key(position_of(one)) > _key(after)
            if is_past and is_after and one.sender_id != user_id and not one.is_void:
                owed.append((one, mark))
        return Owed(sorted(owed, key=lambda row: _key(position_of(row[0])))[:limit], as_of)

    async def due_to(self, user_ids: Collection[str]) -> frozenset[str]:
        self._ask("due_to")
        return frozenset(user_ids)

    async def settled(self, wanted: Mapping[str, str]) -> frozenset[str]:
        self._ask("settled")
        found = await self.find(wanted.keys())
        return frozenset(
            key
            for key, one in found.items()
            if any(user not in (one.sender_id, *self.forgotten) for user in self._members(one.conversation_id))
        )

    async def places(self, keys: Collection[str]) -> dict[str, Place]:
        self._ask("places")
        found = await self.find(keys)
        return {key: Place(one.conversation_id, one.seq, one.sender_id) for key, one in found.items()}

    async def memberships(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Receipt]:
        self._ask("memberships")
        return {
            (where, user): self.marks.get((where, user), Receipt())
            for where, user in members
            if user in self._members(where) and user not in self.forgotten
        }

    async def reach(self, conversation_id: str, seq: int, but: str) -> tuple[int, int]:
        self._ask("reach")
        others = [user for user in self._members(conversation_id) if user != but]
        return len(others), sum(self.marks.get((conversation_id, user), Receipt()).has(seq) for user in others)

    def _members(self, conversation_id: str) -> Collection[str]:
        group = self.teams.get(names.group_of(conversation_id) or "")
        return names.direct_pair(conversation_id) or (group.members if group is not None else ())

    async def publish_keys(self, user_id: str, bundle: KeyBundle, request: str, now_ms: int) -> Published:
        self._ask("publish_keys")
        self.keys_asked.append((user_id, bundle, request, now_ms))
        return self.published

    async def take_keys(self, owner_id: str, request: str) -> list[TakenKeys]:
        self._ask("take_keys")
        self.keys_asked.append((owner_id, request))
        return self.taken

    async def search(
        self, user_id: str, query: str, limit: int, *, conversation_id: str | None = None
    ) -> list[Message]:
        self._ask("search")
        self.searched.append((user_id, query, limit, conversation_id))
        return self.found

    async def save_broadcasts(self, broadcasts: Sequence[Broadcast]) -> frozenset[str]:
        self._ask("save_broadcasts")
        for one in broadcasts:
            self.broadcasts.setdefault(one.id, one)
        return frozenset(one.id for one in broadcasts if self.broadcasts[one.id].at_ms == one.at_ms)

    async def due_broadcasts(self, user_id: str, limit: int, *, after: DuePosition | None = None) -> list[DueBroadcast]:
        self._ask("due_broadcasts")
        found = [
            DueBroadcast(one.id, one.at_ms, one.body)
            for one in sorted(self.broadcasts.values(), key=lambda one: (one.at_ms, one.id))
            if user_id in self._residents(one.level, one.place_ids)
            and (names.broadcast(one.id), user_id) not in self.marks
        ]
        return [one for one in found if after is None or _key(one.position) > _key(after)][:limit]

    async def audience(self, level: str, place_ids: Collection[str]) -> int:
        self._ask("audience")
        return len(self._residents(level, place_ids))

    async def tally(self, broadcast_id: str) -> Tally | None:
        self._ask("tally")
        one = self.broadcasts.get(broadcast_id)
        if one is None:
            return None
        reached = {user for id_, user in self.marks if id_ == names.broadcast(broadcast_id)}
        there = [(place, self._residents(one.level, [place])) for place in one.place_ids]
        counted = tuple(Reached(place, len(users), len(users & reached)) for place, users in there)
        return Tally(one.level, one.priority, one.at_ms, counted)

    async def moves(self, after: int | None, limit: int) -> Moves:
        self._ask("moves")
        rows = self.moved[after or 0 :][:limit]
        return Moves((after or 0) + len(rows), tuple(dict.fromkeys(rows)))

    def _residents(self, level: str, place_ids: Collection[str]) -> set[str]:
        return {user.id for user in self.people.values() if getattr(user.places, level) in place_ids}

    async def notice(self, now_ms: int, limit: int, *, after: str = "") -> str | None:
        self._ask("notice")
        conversations = sorted({conversation_id for conversation_id, _ in self.messages if conversation_id > after})
        self.notes.update((conversation_id, now_ms) for conversation_id in conversations[:limit])
        return conversations[:limit][-1] if conversations else None

    async def retire(self, noticed_before_ms: int, limit: int) -> int | None:
        self._ask("retire")
        old = [conversation_id for conversation_id, at_ms in self.notes.items() if at_ms <= noticed_before_ms]
        for conversation_id in old[:limit]:
            del self.notes[conversation_id]
        self.retired += old[:limit]
        return len(old[:limit]) or None

    def _ask(self, method: str) -> None:
        self.asked.append(method)
        if method in self.broken:
            raise RuntimeError(f"a bug in {method}")
        if method in self.away:
            raise StoreAway(method)


EVERYTHING = {
    "users", "groups", "find", "ends", "save", "history", "at", "receipts", "save_receipts", "due",
    "publish_keys", "take_keys", "search",
    "save_broadcasts", "due_broadcasts", "audience", "tally", "moves",
    "revoke", "notice", "retire",
}  # fmt: skip


def _key(position: DuePosition) -> tuple[int, int, str, int]:
    return position.rank, position.server_time_ms, position.conversation_id, position.seq
