"""Sign-in as Firebase has it, on its own Auth emulator: its tokens, and what becomes of its accounts."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from libs.identity.verifier import EmulatorVerifier
from services.local import leash, ports
from services.local.process import connect
from services.router.accounts import Accounts
from services.router.firebase import FirebaseIdentity
from services.router.metrics import RouterMetrics
from tests.support.auth import PROJECT, READY_S, Firebase, command
from tests.support.waiting import until


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where one listens, as soon as it does; skips where it is not installed, and fails in CI."""
    home = tmp_path_factory.mktemp("auth")
    port = ports.free(1, "127.0.0.1")[0]
    # It dies with the tests, however they end.
    leashed = (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command(home, port))
    with (home / "auth.log").open("wb") as log:
        running = subprocess.Popen(leashed, stdout=log, stderr=log, cwd=home)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()


@pytest.fixture
async def firebase(emulator: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Firebase]:
    """With whom services are told to speak."""
    host, _, port = emulator.partition(":")
    await until(lambda: _listens(host, int(port)), READY_S, "the emulator")
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", emulator)
    async with aiohttp.ClientSession() as http:
        yield Firebase(http, emulator)


async def _listens(host: str, port: int) -> bool:
    try:
        await connect(host, port)
    except OSError:
        return False
    return True


async def test_its_tokens_sign_in_and_its_disabled_accounts_are_found(firebase: Firebase) -> None:
    """And those that are revoked there, or by an operator here; who is good is left alone."""
    verifier = EmulatorVerifier(PROJECT)
    issued: dict[str, int] = {}
    for user in ("asha", "bala", "chitra", "dev"):
        await firebase.make(user)
        claims = await verifier.verify(await firebase.sign_in(user))
        assert claims.user_id == user
        issued[user] = claims.issued_at_ms
    await firebase.change("bala", disableUser=True)
    await firebase.change("chitra", validSince=str(issued["chitra"] // 1000 + 60))
    revoked: list[str] = []

    async def revoke(user_id: str, valid_after_ms: int) -> None:
        assert valid_after_ms > issued[user_id]
        revoked.append(user_id)

    identity = FirebaseIdentity(PROJECT, is_emulated=True)
    accounts = Accounts(identity, revoke, RouterMetrics(CollectorRegistry()))
    for user, at_ms in issued.items():
        accounts.note_nowait(user, at_ms)
    accounts.note_nowait("nobody", 0)
    issued["nobody"] = 0
    await accounts.turn()
    assert sorted(revoked) == ["bala", "chitra", "nobody"]
    accounts.note_revoked_nowait("dev")
    await accounts.turn()
    assert (await identity.look(["dev"]))["dev"].valid_after_ms >= issued["dev"]
