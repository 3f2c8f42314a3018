"""What the app may read beside the server, and that it writes nothing of the server's: asked of the emulator."""

from typing import Any, Final

import aiohttp
import jwt
import pytest

from libs.wire import names
from services.router.store import Group, User
from tests.contracts.conftest import FirestoreRecord
from tests.contracts.test_store import FIELD, message

_DIRECT: Final = names.direct("rama", "sita")


class App:
    """The app of one user, or of nobody."""

    def __init__(self, record: FirestoreRecord, http: aiohttp.ClientSession, user_id: str | None) -> None:
        root = f"projects/{record.project_id}/databases/(default)/documents"
        self._url = f"http://127.0.0.1:{record.port}/v1/{root}"
        self._http = http
        claims = {
            "sub": user_id,
            "aud": record.project_id,
            "iss": f"https://securetoken.google.com/{record.project_id}",
        }
        token = jwt.encode(claims, "", "none") if user_id else ""
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def may_read(self, path: str) -> bool:
        """Whether a document may be got."""
        async with self._http.get(f"{self._url}/{path}", headers=self._headers) as answer:
            assert answer.status in (200, 403), await answer.text()
            return answer.status == 200

    async def may_write(self, path: str, field: str, value: Any) -> bool:
        """Whether a field may be set."""
        url = f"{self._url}/{path}?updateMask.fieldPaths={field}"
        body = {"fields": {field: {"stringValue": value}}}
        async with self._http.patch(url, headers=self._headers, json=body) as answer:
            assert answer.status in (200, 403), await answer.text()
            return answer.status == 200


async def test_people_read_what_is_theirs_and_write_nothing_of_the_servers(firestore_record: FirestoreRecord) -> None:
    """Members and the two of a conversation read it; strangers and nobody do not; only one's own profile is written."""
    direct, group = message(1, _DIRECT), message(1, FIELD)
    await firestore_record.put_users([User(user, user) for user in ("rama", "sita", "ravana")])
    await firestore_record.put_groups([Group("field", "Field", frozenset({"rama", "sita"}))])
    async with firestore_record.open() as store:
        await store.save([direct, group])
    theirs = (f"messages/{direct.key}", f"messages/{group.key}", f"conversations/{_DIRECT}", "groups/field")
    servers = (*theirs, "receipts/x", "broadcasts/x", "devices/x", "message_places/x", "user_presence/sita")
    async with aiohttp.ClientSession() as http:
        sita, ravana, nobody = (App(firestore_record, http, user) for user in ("sita", "ravana", None))
        for path in theirs:
            assert [await app.may_read(path) for app in (sita, ravana, nobody)] == [True, False, False], path
        for path in servers:
            assert not await sita.may_write(path, "content", "mine"), path
        for path in ("receipts/x", "devices/x", "broadcasts/x", "taken_keys/x", "residences/x"):
            assert not await sita.may_read(path), path
        assert await sita.may_write("users/sita", "fullName", "Sita R.")
        assert not await sita.may_write("users/ravana", "fullName", "Nobody")
        assert not await sita.may_write("users/sita", "role", "founder")
        assert await sita.may_read("users/rama")
        assert not await nobody.may_read("users/rama")


@pytest.mark.parametrize("field", ["disabled", "tokensValidAfterMs", "location"])
async def test_nobody_lets_themselves_in_again(firestore_record: FirestoreRecord, field: str) -> None:
    """What operators decide stays theirs."""
    await firestore_record.put_users([User("sita", "Sita", disabled=True)])
    async with aiohttp.ClientSession() as http:
        assert not await App(firestore_record, http, "sita").may_write("users/sita", field, "x")
