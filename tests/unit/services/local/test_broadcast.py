"""`talowa broadcast` says what became of it, or why nothing did."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from services.local import broadcast
from services.local.operators import CannotOperate
from services.local.state import Running, State
from tests.unit.services.local.fakes import free_port

_ID = "0" * 32


@asynccontextmanager
async def operators_port(answer: Callable[[str, str, Any], web.Response]) -> AsyncIterator[State]:
    """A cluster whose first gateway is not there, and whose second answers operators so."""

    async def take(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        return answer(request.method, request.path, await request.json() if request.can_read_body else None)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    gateways = [
        Running(name, "gateway", "127.0.0.1", os.getpid(), {"internal": internal}, "")
        for name, internal in (("g1", free_port()), ("g2", port))
    ]
    try:
        yield State(1, [Running("r1", "router", "127.0.0.1", 1, {"internal": 1}, ""), *gateways])
    finally:
        await runner.cleanup()


async def _send(state: State) -> list[str]:
    return await broadcast.send(
        state, "secret", level="village", place_ids=["v1"], priority="high", title="Flood", text="Go."
    )


@pytest.mark.parametrize(
    ("offline", "words"), [(3, "3 will get it"), (None, "an unknown number, as the store is away")]
)
async def test_what_became_of_it_is_told(offline: int | None, words: str) -> None:
    """The id, and how many it is for."""
    asked: list[Any] = []

    def answer(method: str, path: str, body: Any) -> web.Response:
        asked.append((method, path, body))
        reach = {"online": 2, "offline": offline}
        return web.json_response({"broadcastId": _ID, "status": "sent", "reach": reach})

    async with operators_port(answer) as state:
        lines = await _send(state)
    assert lines[0] == f"sent: {_ID}"
    assert "2 are online" in lines[1]
    assert words in lines[1]
    body = {
        "title": "Flood",
        "content": "Go.",
        "locationLevel": "village",
        "locationIds": ["v1"],
        "priority": "high",
    }
    assert asked == [("POST", "/emergency-broadcast", body)]


async def test_a_tally_is_told_place_by_place() -> None:
    """All of them first."""
    counts = {"recipients": 3, "delivered": 2, "due": 1}

    def answer(method: str, path: str, _: Any) -> web.Response:
        assert (method, path) == ("GET", f"/broadcasts/{_ID}")
        return web.json_response({**counts, "locations": [{"locationId": "v1", **counts}]})

    async with operators_port(answer) as state:
        lines = await broadcast.tally(state, "secret", _ID)
    assert lines == ["all: for 3, reached 2, still due to 1", "v1: for 3, reached 2, still due to 1"]


async def test_a_refusal_is_told_with_its_words() -> None:
    """They say what to do."""
    error = {"code": "no_places", "message": "Say for which places.", "retryable": False}
    async with operators_port(lambda *_: web.json_response({"ok": False, "error": error}, status=400)) as state:
        with pytest.raises(CannotOperate, match=r"answers 400: Say for which places\."):
            await _send(state)


async def test_without_a_gateway_nothing_is_sent() -> None:
    """And it is said."""
    with pytest.raises(CannotOperate, match="no gateway runs"):
        await _send(State(1, []))
