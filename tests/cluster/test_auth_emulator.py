"""A cluster that believes the tokens of Firebase's own Auth emulator, which it starts, and looks at its accounts."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from services.local import state
from tests.support import auth
from tests.support.clients import RawClient
from tests.support.cluster import live_cluster

# Accounts are gathered for two seconds, and asked about across processes.
_SOON_S: Final = 30.0


@pytest.fixture(autouse=True)
def installed(tmp_path: Path) -> None:
    """Skips where it is not."""
    auth.command(tmp_path, 1)


async def test_whoever_is_disabled_at_firebase_is_signed_out(tmp_path: Path) -> None:
    """Within seconds of a sign-in, told why, and does not come back with the same token; others stay."""
    environment = {"AUTH": "firebase-emulator"}
    async with (
        live_cluster(tmp_path, gateways=1, routers=1, environment=environment) as cluster,
        aiohttp.ClientSession() as http,
    ):
        (port,) = (one.ports["auth"] for one in cluster.processes.state().processes if one.role == "auth")
        firebase = auth.Firebase(http, f"127.0.0.1:{port}")
        await cluster.people(["asha", "bala"])
        tokens = {}
        for person in ("asha", "bala"):
            await firebase.make(person)
            tokens[person] = await firebase.sign_in(person)
        await firebase.change("bala", disableUser=True)
        async with (
            await RawClient.connect(cluster.urls[0], {"token": tokens["asha"]}) as asha,
            await RawClient.connect(cluster.urls[0], {"token": tokens["bala"]}) as bala,
        ):
            assert (await asha.expect_event("auth_success"))["userId"] == "asha"
            assert (await bala.expect_event("auth_success"))["userId"] == "bala"
            assert (await bala.expect_event("auth_failed", _SOON_S))["code"] == "token_revoked"
            async with await RawClient.connect(cluster.urls[0], {"token": tokens["bala"]}) as again:
                assert "token_revoked" in await again.expect("44")
            await asha.send_event("sync", {}, 1)
            await asha.expect_answer(1)


async def test_the_terminal_gives_tokens_of_the_emulator(tmp_path: Path) -> None:
    """As of any other cluster; a lifetime that Firebase does not have is refused."""
    environment = {"AUTH": "firebase-emulator"}
    async with live_cluster(tmp_path, gateways=1, routers=1, environment=environment) as cluster:
        state.write(cluster.home, cluster.processes.state())
        token, problem = await _talowa(cluster.home, "token", "asha", "--role", "coordinator")
        assert problem == ""
        async with await RawClient.connect(cluster.urls[0], {"token": token.strip()}) as asha:
            welcome = await asha.expect_event("auth_success")
            assert (welcome["userId"], welcome["userRole"]) == ("asha", "coordinator")
        assert "leave out --ttl" in (await _talowa(cluster.home, "token", "asha", "--ttl", "60"))[1]


async def _talowa(home: Path, *arguments: str) -> tuple[str, str]:
    """What the command says, on both channels."""
    command = (sys.executable, "-m", "services.local", *arguments)
    environment = os.environ | {"DATA_DIR": str(home)}
    running = await asyncio.create_subprocess_exec(*command, env=environment, stdout=PIPE, stderr=PIPE)
    said, problem = await running.communicate()
    return said.decode(), problem.decode()
