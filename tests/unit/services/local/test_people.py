"""A file to import is checked whole, its errors name the entry, and doing it twice changes nothing."""

from pathlib import Path

import pytest

from services.local import people
from services.local.people import BadFile, Location, UserEntry
from services.router.sqlite import open_store

FILE = """
{"users": [{"id": "asha", "fullName": "ఆశ", "role": "admin", "blocked": ["kiran"], "fcmToken": "x",
            "location": {"stateId": "TS", "districtId": "d", "mandalId": "m", "villageId": "v"}},
           {"id": "ravi", "disabled": true}],
 "groups": [{"id": "v12", "name": "Village 12", "members": ["asha", "ravi", "stranger"]}]}
""".encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"users:", r"not \{\"users\".*malformed"),
        (b'{"user": []}', "not .*unknown field user"),
        (b'{"users": [{"name": "A"}]}', r"users\[0\]: Object missing required field id"),
        (b'{"users": [{"id": "a"}, {"id": "b", "role": "boss"}]}', r"users\[1\] \(id 'b'\): .*'boss'.*role"),
        (b'{"users": [{"id": "a:b"}]}', r"users\[0\] \(id 'a:b'\): id 'a:b' cannot be used"),
        (b'{"users": [{"id": "a"}, {"id": "a"}]}', r"users\[1\] \(id 'a'\): the id stands at users\[0\]"),
        (b'{"users": [{"id": "a", "blocked": ["b c"]}]}', r"users\[0\] .*blocked has 'b c'"),
        (b'{"groups": [{"id": "g"}]}', r"groups\[0\] \(id 'g'\): .*members"),
        (b'{"groups": [{"id": "g", "members": [7]}]}', r"groups\[0\] .*Expected str, got int"),
        (b'{"groups": [7]}', r"groups\[0\]: Expected object"),
    ],
)
def test_an_entry_that_is_wrong_is_named(text: bytes, words: str) -> None:
    """With its list, its place, and its id if it has one."""
    with pytest.raises(BadFile, match=words):
        people.parse(text)


def test_all_wrong_entries_are_named_at_once() -> None:
    """One round of mending, not one per error."""
    with pytest.raises(BadFile) as error:
        people.parse(b'{"users": [{}, {"id": ""}], "groups": [{}]}')
    assert [part in str(error.value) for part in ("users[0]", "users[1]", "groups[0]")] == [True, True, True]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """So a typing error is seen at a glance."""
    with pytest.raises(BadFile, match=r"nowhere\.json: No such file"):
        people.read_file(tmp_path / "nowhere.json")


async def test_importing_twice_changes_nothing_more(tmp_path: Path) -> None:
    """Users, groups and members are as the file says."""
    file = people.parse(FILE)
    async with open_store(tmp_path / "store.db") as store:
        seen = []
        for _ in range(2):
            await people.put_users(store, file.users)
            await people.put_groups(store, file.groups)
            seen.append((await store.users(["asha", "ravi"]), await store.groups(["v12"])))
        assert seen[0] == seen[1]
        users, groups = seen[0]
        assert (users["asha"].name, users["asha"].role, users["asha"].blocked) == ("ఆశ", "admin", frozenset({"kiran"}))
        assert (users["ravi"].name, users["ravi"].disabled) == ("ravi", True)
        assert groups["v12"].members == frozenset({"asha", "ravi", "stranger"})
        assert await people.strangers(store, file.groups) == ["stranger"]


async def test_what_is_not_named_stays_as_it_is(tmp_path: Path) -> None:
    """A token for someone who exists does not rename or demote them."""
    async with open_store(tmp_path / "store.db") as store:
        await people.put_users(store, [UserEntry("asha", name="Asha Rao", role="admin")])
        await people.put_users(store, [UserEntry("asha", location=Location(village_id="v"))])
        asha = (await store.users(["asha"]))["asha"]
        assert (asha.name, asha.role) == ("Asha Rao", "admin")


async def test_who_joins_a_group_puts_nobody_out(tmp_path: Path) -> None:
    """The group is created by the first, and keeps its name."""
    async with open_store(tmp_path / "store.db") as store:
        assert await people.join(store, "v12", "asha")
        assert await people.join(store, "v12", "ravi")
        assert not await people.join(store, "v12", "asha")
        assert (await store.groups(["v12"]))["v12"].members == frozenset({"asha", "ravi"})
