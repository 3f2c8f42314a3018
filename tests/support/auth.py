"""Firebase's own Auth emulator, where `make emulators` has installed it, and those who ask it beside the cluster."""

import os
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from libs.lifecycle import Unstartable
from services.local import auth

PROJECT: Final = "demo-talowa"
# It takes ten seconds of CPU to start.
READY_S: Final = 120.0
_PASSWORD: Final = "not a secret"  # noqa: S105 - of nobody


def command(home: Path, port: int) -> tuple[str, ...]:
    """What runs it; skips where it is not installed, and fails in CI."""
    try:
        return auth.command(home, port)
    except Unstartable as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))
        raise


class Firebase:
    """The emulator, as the app and its console ask it."""

    def __init__(self, http: aiohttp.ClientSession, host: str) -> None:
        self._http = http
        self._url = f"http://{host}/identitytoolkit.googleapis.com/v1"

    async def make(self, user_id: str) -> None:
        """An account, as the console makes one."""
        await self._ask(f"projects/{PROJECT}/accounts", localId=user_id, email=_mail(user_id), password=_PASSWORD)

    async def sign_in(self, user_id: str) -> str:
        """A token for its app."""
        given = {"email": _mail(user_id), "password": _PASSWORD, "returnSecureToken": True}
        return str((await self._ask("accounts:signInWithPassword?key=any", **given))["idToken"])

    async def change(self, user_id: str, **fields: Any) -> None:
        """Change an account, as the console does."""
        await self._ask(f"projects/{PROJECT}/accounts:update", localId=user_id, **fields)

    async def _ask(self, path: str, **given: Any) -> dict[str, Any]:
        owner = {"Authorization": "Bearer owner"} if path.startswith("projects") else {}
        async with self._http.post(f"{self._url}/{path}", json=given, headers=owner) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found


def _mail(user_id: str) -> str:
    return f"{user_id}@example.org"
