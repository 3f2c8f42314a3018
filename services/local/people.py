"""Users and groups: what a file to import says of them, and writing them to the store.

A file is `{"users": [...], "groups": [...]}`, with the fields of the user and group documents; fields
that are not named here are let be, as documents have more of them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from libs.wire.names import is_id
from services.router.store import Group, GroupRow, Registry, User, UserRow

RoleName = Literal["member", "coordinator", "admin", "founder"]
# Rows to one transaction: large enough that the disk is not what counts, small enough to let routers write.
_BATCH: Final = 1000
_SHOWN_PROBLEMS: Final = 20
_ID_RULE: Final = "an id is 1 to 128 characters without colon, space or control character"


class BadFile(Exception):
    """A file cannot be imported. The message names every entry that is wrong, and how."""


class Location(Struct, rename="camel", frozen=True):
    state_id: str | None = None
    district_id: str | None = None
    mandal_id: str | None = None
    village_id: str | None = None


class UserEntry(Struct, rename="camel", frozen=True):
    """A user document, as far as the cluster reads it. What is absent stays as it is in the store."""

    id: str
    name: str | None = None
    full_name: str | None = None
    role: RoleName | None = None
    location: Location = Location()
    disabled: bool | None = None
    blocked: list[str] | None = None
    fcm_token: str | None = None
    fcm_tokens: list[str] | None = None


class GroupEntry(Struct, rename="camel", frozen=True):
    """A group document. Its members are all of its members: who is not named is out."""

    id: str
    members: list[str]
    name: str | None = None


Entry = TypeVar("Entry", UserEntry, GroupEntry)


class People(Struct, frozen=True):
    """A file that holds."""

    users: list[UserEntry]
    groups: list[GroupEntry]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    """A file as it comes, its entries not looked at yet: each is read alone, so that errors can name it."""

    users: list[Any] = []
    groups: list[Any] = []


def read_file(path: Path) -> People:
    """Read and check a whole file. Raises `BadFile`."""
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}. Name a JSON file that can be read.") from error
    except BadFile as error:
        raise BadFile(f"{path}: {error}") from error


def parse(text: bytes) -> People:
    """Check the content of a file. Raises `BadFile` with a line for each entry that is wrong."""
    try:
        file = msgspec.json.decode(text, type=_File)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadFile(f'not {{"users": [...], "groups": [...]}}: {_words(error)}') from error
    problems: list[str] = []
    users = _entries("users", file.users, UserEntry, problems)
    groups = _entries("groups", file.groups, GroupEntry, problems)
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        shown = [*problems[:_SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
        raise BadFile("nothing was imported, because\n  " + "\n  ".join(shown))
    return People(users, groups)


async def put_users(store: Registry, entries: Sequence[UserEntry]) -> None:
    """Create or update users; one who is new and has no name is named after the id. Raises `StoreAway`."""
    for start in range(0, len(entries), _BATCH):
        batch = entries[start : start + _BATCH]
        known = await store.users([entry.id for entry in batch])
        await store.put_users([_user_row(entry, known.get(entry.id)) for entry in batch])


async def put_groups(store: Registry, entries: Sequence[GroupEntry]) -> None:
    """Create groups, or set their members. Raises `StoreAway`."""
    for start in range(0, len(entries), _BATCH):
        batch = entries[start : start + _BATCH]
        known = await store.groups([entry.id for entry in batch])
        await store.put_groups([_group_row(entry, known.get(entry.id)) for entry in batch])


async def join(store: Registry, group_id: str, user_id: str) -> bool:
    """Make a user a member of a group, which is created if need be; whether that was news. Raises `StoreAway`."""
    group = (await store.groups([group_id])).get(group_id)
    members = frozenset[str]() if group is None else group.members
    if user_id in members:
        return False
    await put_groups(store, [GroupEntry(group_id, [*members, user_id])])
    return True


async def strangers(store: Registry, groups: Iterable[GroupEntry]) -> list[str]:
    """Members that are no users (yet), in order."""
    named = sorted({member for group in groups for member in group.members})
    found: list[str] = []
    for start in range(0, len(named), _BATCH):
        batch = named[start : start + _BATCH]
        known = await store.users(batch)
        found += [member for member in batch if member not in known]
    return found


def _user_row(entry: UserEntry, known: User | None) -> UserRow:
    place = entry.location
    return UserRow(
        id=entry.id,
        name=entry.name or entry.full_name or (entry.id if known is None else known.name),
        role=entry.role,
        disabled=entry.disabled,
        blocked=None if entry.blocked is None else frozenset(entry.blocked),
        state_id=place.state_id,
        district_id=place.district_id,
        mandal_id=place.mandal_id,
        village_id=place.village_id,
        push_tokens=None if entry.fcm_token is None and entry.fcm_tokens is None else _tokens(entry),
    )


def _tokens(entry: UserEntry) -> frozenset[str]:
    return frozenset(token for token in (entry.fcm_token, *(entry.fcm_tokens or ())) if token)


def _group_row(entry: GroupEntry, known: Group | None) -> GroupRow:
    return GroupRow(
        id=entry.id,
        name=entry.name or (entry.id if known is None else known.name),
        members=frozenset(entry.members),
    )


def _entries(list_name: str, raw: list[Any], kind: type[Entry], problems: list[str]) -> list[Entry]:
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for index, value in enumerate(raw):
        where = f"{list_name}[{index}]{_called(value)}"
        try:
            entry = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            problems.append(f"{where}: {_words(error)}")
            continue
        problems += [f"{where}: {wrong}" for wrong in _wrong_ids(entry)]
        if entry.id in seen:
            problems.append(f"{where}: the id stands at {list_name}[{seen[entry.id]}] already")
        seen.setdefault(entry.id, index)
        entries.append(entry)
    return entries


def _wrong_ids(entry: UserEntry | GroupEntry) -> list[str]:
    others = entry.members if isinstance(entry, GroupEntry) else entry.blocked or []
    field = "members" if isinstance(entry, GroupEntry) else "blocked"
    wrong = [] if is_id(entry.id) else [f"id {entry.id!r} cannot be used: {_ID_RULE}"]
    return wrong + [f"{field} has {other!r}: {_ID_RULE}" for other in others if not is_id(other)]


def _called(value: object) -> str:
    return f" (id {value['id']!r})" if isinstance(value, dict) and isinstance(value.get("id"), str) else ""


def _words(error: Exception) -> str:
    return str(error).replace("`", "")
