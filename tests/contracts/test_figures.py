"""What processes say of themselves is there while they live, and gone soon after, whatever server holds it."""

import pytest

from libs import figures, keys
from libs.broker import Broker
from libs.figures import GatewayFigures, PresenceFigures, Reporter, RouterFigures, of_kind, reported
from tests.support.waiting import until


async def test_what_each_process_says_is_read_by_kind(broker: Broker) -> None:
    """The last word of each, by name; what this version does not read is left out."""
    assert await reported(broker) == []
    for said in (RouterFigures(id="r1"), GatewayFigures(id="g1", connections=1), PresenceFigures(id="p1")):
        await Reporter(broker, said.id, lambda said=said: said).report()  # type: ignore[misc]
    await Reporter(broker, "g1", lambda: GatewayFigures(id="g1", connections=2)).report()
    found = await reported(broker)
    assert of_kind(found, GatewayFigures) == [GatewayFigures(id="g1", connections=2)]
    assert of_kind(found, RouterFigures) == [RouterFigures(id="r1")]
    await broker.command("HSET", keys.figures(), "r1", '{"kind":"oracle"}')
    assert [each.id for each in await reported(broker)] == ["g1", "p1"]


async def test_who_leaves_or_falls_silent_is_forgotten(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs to clear up after them but who reports next."""
    stays, leaves = (Reporter(broker, name, lambda: PresenceFigures(id="p")) for name in ("stays", "leaves"))
    await leaves.report()
    await leaves.forget()
    monkeypatch.setattr(figures, "_TTL_MS", 1)
    await Reporter(broker, "dies", lambda: PresenceFigures(id="p")).report()
    monkeypatch.undo()

    async def is_silent() -> bool:
        return not await reported(broker)

    await until(is_silent, 5, "figures that lapse")
    await stays.report()
    assert await broker.command("HKEYS", keys.figures()) == [b"stays"]
    assert await broker.command("ZRANGE", keys.figures_lapse(), 0, -1) == [b"stays"]
