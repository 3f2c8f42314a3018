"""Looking other gateways up: seldom, all at once, and never a wrong no."""

import asyncio
from typing import Any

import pytest

from libs import keys
from services.gateway import neighbours
from services.gateway.neighbours import Neighbours


class FakeBroker:
    """Figures, and how often they were asked for."""

    def __init__(self) -> None:
        self.figures: dict[bytes, bytes] = {}
        self.looks = 0
        self.is_away = False

    async def command(self, *command: Any) -> Any:
        """HGETALL, and nothing else."""
        assert command == ("HGETALL", keys.figures())
        self.looks += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise ConnectionError
        return dict(self.figures)

    def add(self, gateway: str, address: str) -> None:
        """A gateway that says where it is."""
        self.figures[gateway.encode()] = b'{"connections":3,"relayAddress":"%s"}' % address.encode()


@pytest.fixture
def broker() -> FakeBroker:
    """Two gateways, one of an older version that does not say where it is."""
    made = FakeBroker()
    made.add("g1", "10.0.0.1:9100")
    made.figures[b"old"] = b'{"connections":3}'
    return made


@pytest.fixture
def table(broker: FakeBroker) -> Neighbours:
    """Nothing was looked up yet."""
    return Neighbours(broker)  # type: ignore[arg-type]


async def test_what_is_known_is_not_looked_up_again(table: Neighbours, broker: FakeBroker) -> None:
    """A gateway's address is good for its life."""
    for _ in range(3):
        assert await table.address_of("g1") == "10.0.0.1:9100"
    assert broker.looks == 1


async def test_who_does_not_say_where_it_is_cannot_be_asked(table: Neighbours) -> None:
    """As one that never was."""
    assert await table.address_of("old") is None
    assert await table.address_of("never") is None


async def test_many_who_ask_at_once_cost_one_look(table: Neighbours, broker: FakeBroker) -> None:
    """Whatever they ask for; the next look comes a tenth of a second later."""
    found = await asyncio.gather(*(table.address_of(name) for name in ["g1", *(f"never{n}" for n in range(100))]))
    assert found == ["10.0.0.1:9100", *[None] * 100]
    assert broker.looks == 1
    async with asyncio.timeout(1):
        await asyncio.gather(*(table.address_of(f"never{n}") for n in range(100)))
    assert broker.looks == 2


async def test_who_came_since_the_last_look_is_found(table: Neighbours, broker: FakeBroker) -> None:
    """A look that was made before the question does not answer it."""
    assert await table.address_of("g2") is None
    broker.add("g2", "10.0.0.2:9100")
    assert await table.address_of("g2") == "10.0.0.2:9100"


async def test_who_was_forgotten_is_looked_up(table: Neighbours, broker: FakeBroker) -> None:
    """Gone, or there again; forgetting twice does no harm."""
    assert await table.address_of("g1")
    table.forget("g1")
    table.forget("g1")
    assert await table.address_of("g1") == "10.0.0.1:9100"
    broker.figures.clear()
    table.forget("g1")
    assert await table.address_of("g1") is None


async def test_while_the_broker_is_away_what_is_known_is_used(table: Neighbours, broker: FakeBroker) -> None:
    """And who is not known counts as gone."""
    assert await table.address_of("g1")
    broker.is_away = True
    assert await table.address_of("g2") is None
    assert await table.address_of("g1") == "10.0.0.1:9100"


def test_a_gateway_says_the_host_it_listens_on_or_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that stands for all is nobody's."""
    assert neighbours.address("127.0.0.1", 9100) == "127.0.0.1:9100"
    assert neighbours.address("fd00::7", 9100) == "[fd00::7]:9100"
    any_host = "0.0.0.0"  # noqa: S104 - a pod listens on every address it has
    host, _, port = neighbours.address(any_host, 9100).rpartition(":")
    assert port == "9100"
    assert host not in ("", any_host)
    monkeypatch.setattr(neighbours, "_ELSEWHERE", ())
    assert neighbours.address("::", 9100) == "127.0.0.1:9100"
