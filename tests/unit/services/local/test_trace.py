"""`talowa trace` and `talowa ledger` print what a gateway tells, in one screen."""

from io import StringIO

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from libs.wire import payloads
from libs.wire.traces import LedgerSums, MessageTrace, Recipient, RecipientCounts, Station
from services.local import trace
from services.local.operators import CannotOperate
from services.local.state import Running, State

_ID = "3f1c6f1ed002ab5595859014ebf0951522d9"
_PEOPLE = [
    *(Recipient(f"member{number}", "delivered", None, 5_000, "g2") for number in range(150)),
    Recipient("lata", "refused", "left"),
    Recipient("ravi", "due"),
]
_TRACE = MessageTrace(
    _ID,
    "group:team",
    7,
    "saved",
    "text",
    False,
    "g1",
    [Station("take", 1_000, 0), Station("read", 1_004, 4)],
    RecipientCounts(152, 150, 1, 0, 1, 0),
    _PEOPLE,
)


async def _printed(command: str, status: int, body: bytes) -> tuple[bool, str]:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        return web.Response(status=status, body=body, content_type="application/json")

    app, said = web.Application(), StringIO()
    app.router.add_get(f"/ledger/{_ID}" if command == "trace" else "/ledger", answer)
    console = Console(file=said, width=100, highlight=False)
    async with TestServer(app) as server:
        port = server.port or 0
        state = State(1, [Running("g1", "gateway", "127.0.0.1", 1, {"internal": port}, "")])
        if command == "trace":
            return await trace.show_message(state, "secret", _ID, console), said.getvalue()
        return await trace.show_sums(state, "secret", console), said.getvalue()


async def test_a_message_is_shown_in_one_screen() -> None:
    """Of many people those first of whom there is something to say; of the others how many they are."""
    is_right, text = await _printed("trace", 200, payloads.encode(_TRACE))
    assert is_right
    lines = text.splitlines()
    assert len(lines) <= 40
    for word in ("group:team", "seq 7", "take (g1)", "+4", "for 152", "refused (left)", "… 140 more"):
        assert word in text, text
    assert text.index("ravi") < text.index("lata") < text.index("member0")


async def test_a_message_nobody_accounts_for_is_not_right() -> None:
    """The command fails, and says so."""
    lost = MessageTrace(_ID, "group:team", 7, "unaccounted", None, None, None, [], RecipientCounts(3), [])
    is_right, text = await _printed("trace", 200, payloads.encode(lost))
    assert not is_right
    assert "unaccounted" in text
    assert "no times" in text


@pytest.mark.parametrize("unaccounted", [0, 2])
async def test_sums_are_right_when_all_are_accounted_for(unaccounted: int) -> None:
    """In three lines."""
    sums = LedgerSums(10, 10 - unaccounted, 0, unaccounted, since=5_000, recipients=9, delivered=9, partitions=16)
    is_right, text = await _printed("ledger", 200, payloads.encode(sums))
    assert is_right == (unaccounted == 0)
    assert len(text.splitlines()) == 3
    assert f"unaccounted {unaccounted}" in text


async def test_a_refusal_is_said_in_words() -> None:
    """Of an id that nobody was given."""
    body = b'{"ok":false,"error":{"code":"not_found","message":"There is nothing of this name."}}'
    with pytest.raises(CannotOperate, match="There is nothing of this name"):
        await _printed("trace", 404, body)
