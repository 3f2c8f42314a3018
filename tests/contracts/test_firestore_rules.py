"""What the app may do beside the server, asked of the emulator by Firebase's own library of tests for rules."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec import UNSET, Struct, UnsetType

from libs.wire import names
from services.router.store import Group, User
from tests.contracts.conftest import FirestoreRecord
from tests.contracts.test_store import FIELD, message
from tests.support.firestore import HOST, RULES

_FOLDER: Final = Path(__file__).parent / "rules"
_INSTALLED: Final = _FOLDER / "node_modules" / "@firebase" / "rules-unit-testing"
_WITHIN_S: Final = 60.0
_DIRECT: Final = names.direct("rama", "sita")
_PROFILE: Final = {"name": "Sita", "language": "te", "fcmTokens": ["phone"], "blocked": ["ravana"]}
_HOME: Final = {"stateId": "TS", "districtId": "d1", "mandalId": "m1", "villageId": "v1"}
_SERVERS: Final = ("receipts", "broadcasts", "broadcast_receipts", "devices", "taken_keys", "residences", "odd")


class Ask(Struct, frozen=True):
    """Something that the app of `by` does; of nobody if that is None. See `rules/rules.mjs`."""

    by: str | None
    does: str
    path: str
    data: dict[str, Any] | UnsetType = UNSET
    where: list[tuple[str, str, Any]] | UnsetType = UNSET


async def allowed(record: FirestoreRecord, asked: Sequence[Ask]) -> list[bool]:
    """Whether each is, in order. Skips where the library is not installed, and fails in CI."""
    node = shutil.which("node")
    if node is None or not _INSTALLED.is_dir():
        missed = f"Firebase's tests of rules are not installed: run `npm ci` in {_FOLDER} (Node 20, npm)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missed)
    given = {
        "projectId": record.project_id,
        "host": HOST,
        "port": record.port,
        "rules": RULES.read_text(encoding="utf-8"),
        "asked": asked,
    }
    running = await asyncio.create_subprocess_exec(
        node,
        str(_FOLDER / "rules.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(running.communicate(msgspec.json.encode(given)), _WITHIN_S)
    finally:
        if running.returncode is None:
            running.kill()
    assert running.returncode == 0, errors.decode()
    return msgspec.json.decode(out, type=list[bool])


async def agreed(record: FirestoreRecord, expected: Sequence[tuple[Ask, bool]]) -> None:
    """The rules say of each what is expected."""
    found = await allowed(record, [ask for ask, _ in expected])
    assert [(ask, is_) for (ask, _), is_ in zip(expected, found, strict=True)] == list(expected)


async def _people(record: FirestoreRecord) -> tuple[str, ...]:
    """Rama and Sita, who wrote to each other and in a group, and Ravana; the paths of what is theirs."""
    direct, group = message(1, _DIRECT), message(1, FIELD)
    await record.put_users([User(user, user) for user in ("rama", "sita", "ravana")])
    await record.put_groups([Group("field", "Field", frozenset({"rama", "sita"}))])
    async with record.open() as store:
        await store.save([direct, group])
    return f"messages/{direct.key}", f"messages/{group.key}", f"conversations/{_DIRECT}", "groups/field"


async def test_people_read_what_is_theirs(firestore_record: FirestoreRecord) -> None:
    """Members and the two of a conversation read it; strangers and nobody do not, and what is the server's no one."""
    theirs = await _people(firestore_record)
    expected = [(Ask(by, "get", path), by == "sita") for path in theirs for by in ("sita", "ravana", None)]
    expected += [(Ask(by, "get", "users/rama"), by is not None) for by in ("sita", None)]
    expected += [(Ask(by, "get", "user_presence/rama"), by is not None) for by in ("sita", None)]
    expected += [(Ask("sita", "list", collection), False) for collection in _SERVERS]
    expected += [(Ask("sita", "get", f"{collection}/x"), False) for collection in _SERVERS]
    await agreed(firestore_record, expected)


async def test_people_list_no_more_than_they_may_read(firestore_record: FirestoreRecord) -> None:
    """A query is allowed where all that it could find is one's own; nobody gets a list of people."""
    await _people(firestore_record)
    mine, others = ("senderId", "==", "sita"), ("senderId", "==", "rama")
    to_me = ("recipientId", "==", "sita")
    with_me, with_them = ("participantIds", "array-contains", "sita"), ("participantIds", "array-contains", "ravana")
    member = ("members", "array-contains", "sita")
    await agreed(
        firestore_record,
        [
            (Ask("sita", "list", "messages", where=[mine]), True),
            (Ask("sita", "list", "messages", where=[to_me]), True),
            (Ask("sita", "list", "messages", where=[others]), False),
            (Ask("sita", "list", "messages"), False),
            (Ask(None, "list", "messages", where=[mine]), False),
            (Ask("sita", "list", "conversations", where=[with_me]), True),
            (Ask("sita", "list", "conversations", where=[with_them]), False),
            (Ask("sita", "list", "conversations"), False),
            (Ask("sita", "list", "groups", where=[member]), True),
            (Ask("sita", "list", "groups"), False),
            (Ask("sita", "list", "users"), False),
            (Ask("sita", "list", "user_presence"), False),
        ],
    )


async def test_nobody_writes_what_the_server_owns(firestore_record: FirestoreRecord) -> None:
    """Not those whose messages they are, in no way of writing; nor makes, changes or removes what nobody has yet."""
    theirs = await _people(firestore_record)
    places = (*theirs, "user_presence/sita", "messages/new", "groups/new", *(f"{one}/x" for one in _SERVERS))
    writes: list[tuple[str, dict[str, Any] | UnsetType]] = [
        ("set", {"senderId": "sita", "members": ["sita"], "participantIds": ["sita"]}),
        ("delete", UNSET),
    ]
    expected = [(Ask("sita", does, path, data), False) for path in places for does, data in writes]
    expected += [(Ask("sita", "update", path, {"content": "mine"}), False) for path in theirs]
    await agreed(firestore_record, expected)


async def test_who_registers_makes_their_own_profile_once(firestore_record: FirestoreRecord) -> None:
    """Theirs alone, as what operators have not decided yet; it is neither removed nor made again."""
    await agreed(
        firestore_record,
        [
            (Ask(None, "set", "users/sita", {**_PROFILE}), False),
            (Ask("ravana", "set", "users/sita", {**_PROFILE}), False),
            (
                Ask("sita", "set", "users/sita", {**_PROFILE, "location": _HOME, "role": "member", "disabled": False}),
                True,
            ),
            (Ask("rama", "set", "users/rama", {"fullName": "Rama", "fcmToken": "phone"}), True),
            (Ask("sita", "delete", "users/sita"), False),
            (Ask("sita", "set", "users/sita", {**_PROFILE}), False),  # which would take role and place away
        ],
    )


_CLAIMS: Final[Sequence[dict[str, Any]]] = (
    {"role": "coordinator"},
    {"role": "founder"},
    {"role": ["member"]},
    {"disabled": True},
    {"disabled": None},
    {"tokensValidAfterMs": 1},
    {"location": "TS"},
    {"location": {"stateId": "TS", "everywhere": "yes"}},
    {"location": {"villageId": ["v1", "v2"]}},
    {"name": 7},
    {"name": "S" * 501},
    {"fcmTokens": "phone"},
    {"fcmTokens": ["phone"] * 21},
    {"blocked": ["ravana"] * 5001},
    {f"field{number}": number for number in range(60)},
)


async def test_no_profile_says_of_itself_what_others_decide(firestore_record: FirestoreRecord) -> None:
    """A role, a standing, a place that is none, or more than a router should read for each message."""
    asked = [Ask(f"u{n}", "set", f"users/u{n}", _PROFILE | claim) for n, claim in enumerate(_CLAIMS)]
    await agreed(firestore_record, [(ask, False) for ask in asked])


async def test_people_change_their_own_profile_and_what_operators_decide_stays(
    firestore_record: FirestoreRecord,
) -> None:
    """Also that of somebody who was disabled, who lets nobody in again."""
    await firestore_record.put_users([User("sita", "Sita", disabled=True), User("rama", "Rama")])
    refused: list[dict[str, Any]] = [
        {"role": "founder"},
        {"role": "admin", "fullName": "Sita"},
        {"disabled": False},
        {"tokensValidAfterMs": 1},
        {"location": _HOME},
        {"location.villageId": "v2"},
        {"fcmTokens": ["phone"] * 21},
    ]
    allowed_: list[dict[str, Any]] = [
        {"fullName": "Sita R."},
        {"fcmTokens": ["phone", "tablet"]},
        {"blocked": ["ravana"]},
        {"language": "te"},
    ]
    await agreed(
        firestore_record,
        [
            *[(Ask("sita", "update", "users/sita", data), False) for data in refused],
            *[(Ask("sita", "update", "users/sita", data), True) for data in allowed_],
            (Ask("sita", "update", "users/rama", {"fullName": "Nobody"}), False),
            (Ask(None, "update", "users/rama", {"fullName": "Nobody"}), False),
        ],
    )
