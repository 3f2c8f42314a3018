"""`talowa chat` as it is used: lines into its standard input, lines out of its standard output."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.local import state
from tests.support.waiting import until
from tests.unit.services.local.fake_gateway import FakeGateway, fake_gateway

DEADLINE_S = 15.0
MESSAGE = {"id": "m1", "seq": 4, "conversationId": "direct:asha:ravi", "type": "text", "senderId": "ravi"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One DATA_DIR for all: making a key takes a while."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    """A gateway that is not one."""
    async with fake_gateway() as gateway:
        yield gateway


async def test_lines_are_sent_and_their_ticks_are_shown(gateway: FakeGateway, home: Path) -> None:
    """Stored, then on a device, then read; a tick never goes back."""
    chat = await _chat(home, gateway.url, "--to", "ravi")
    await _line(chat, "signed in")
    await _type(chat, "నమస్తే")
    await _line(chat, "…  నమస్తే")
    await _line(chat, "✓  నమస్తే")
    assert gateway.sent[0] | {"id": "", "clientId": ""} == {
        "id": "",
        "clientId": "",
        "type": "text",
        "content": "నమస్తే",
        "recipientId": "ravi",
    }
    for status in ("delivered", "sent", "read"):
        await gateway.status(0, status)
    assert await _line(chat, "✓✓") == "  ✓✓  నమస్తే"
    assert await _line(chat, "✓✓") == "  ✓✓ read  నమస్తే"
    await _type(chat, "/quit")
    assert await _left(chat) == 0


async def test_a_refusal_is_shown_with_its_code(gateway: FakeGateway, home: Path) -> None:
    """And the next line is sent all the same; end of input leaves when all was answered."""
    chat = await _chat(home, gateway.url, "--group", "v12")
    await _line(chat, "asha is a member of v12 now")
    await _type(chat, "no")
    await _type(chat, "yes")
    assert chat.stdin is not None
    chat.stdin.close()
    await _line(chat, "✗  no   access_denied: You may not.")
    await _line(chat, "✓  yes")
    assert await _left(chat) == 0


async def test_what_comes_in_is_shown_once_confirmed_and_marked_read(gateway: FakeGateway, home: Path) -> None:
    """Also what waited; control characters do not reach the terminal. The first to write is answered."""
    chat = await _chat(home, gateway.url)
    await _line(chat, "signed in")
    message = MESSAGE | {"senderName": "Ravi", "content": "come\x1b[2J at six"}
    await gateway.say("new_message", message)
    assert await _line(chat, "Ravi") == "Ravi: come�[2J at six"
    await asyncio.wait_for(gateway.confirmed.wait(), DEADLINE_S)
    later = MESSAGE | {"id": "m2", "seq": 5, "senderName": "Ravi", "content": "or seven"}
    await gateway.say("offline_messages", {"messages": [message, later], "hasMore": False})
    assert await _line(chat, "Ravi") == "Ravi: or seven"
    await asyncio.wait_for(gateway.confirmed.wait(), DEADLINE_S)
    marks = [{"conversationId": "direct:asha:ravi", "seq": seq} for seq in (4, 5)]
    await until(lambda: gateway.read == marks, DEADLINE_S, "the marks")
    await _type(chat, "six")
    await _line(chat, "✓  six")
    assert gateway.sent[0]["conversationId"] == "direct:asha:ravi"
    chat.terminate()
    assert await _left(chat) == 0


async def test_a_refused_sign_in_says_why(gateway: FakeGateway, home: Path) -> None:
    """On standard error, with the code."""
    gateway.refuses = True
    chat = await _chat(home, gateway.url, "--to", "ravi")
    _, said = await asyncio.wait_for(chat.communicate(), DEADLINE_S)
    assert chat.returncode == 1
    assert "sign-in refused: user_disabled: This account is disabled." in said.decode()


async def test_a_gateway_that_is_not_there_is_named(home: Path) -> None:
    """With what to do."""
    chat = await _chat(home, "http://127.0.0.1:1", "--to", "ravi")
    _, said = await asyncio.wait_for(chat.communicate(), DEADLINE_S)
    assert chat.returncode == 1
    (line,) = said.decode().splitlines()
    assert "no connection to http://127.0.0.1:1" in line
    assert "talowa up" in line


async def test_the_cluster_on_the_same_folder_is_found_on_any_port(gateway: FakeGateway, tmp_path: Path) -> None:
    """Whoever chose another WEBSOCKET_PORT for `talowa up` need not say it again."""
    port = int(gateway.url.rpartition(":")[2])
    running = state.Running("g1", "gateway", "127.0.0.1", os.getpid(), {"socket": port, "internal": 1}, "g1.log")
    state.write(tmp_path, state.State(os.getpid(), [running]))
    chat = await _chat(tmp_path, None, "--to", "ravi")
    await _line(chat, "signed in")


async def _chat(home: Path, url: str | None, *arguments: str) -> Process:
    where = () if url is None else ("--url", url)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.local", "chat", "asha", *where, *arguments),
        env=dict(os.environ) | {"DATA_DIR": str(home)},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


async def _type(chat: Process, line: str) -> None:
    assert chat.stdin is not None
    chat.stdin.write(f"{line}\n".encode())
    await chat.stdin.drain()


async def _line(chat: Process, part: str) -> str:
    """The next line with `part` in it."""
    assert chat.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        while line := (await chat.stdout.readline()).decode():
            if part in line:
                return line.rstrip("\n")
    raise AssertionError(f"it ended without a line with {part!r}")


async def _left(chat: Process) -> int:
    async with asyncio.timeout(DEADLINE_S):
        _, said = await chat.communicate()
    assert said == b""
    assert chat.returncode is not None
    return chat.returncode
