"""`docs/redis.md`, the catalogue in `libs/keys.py`, its functions, and what the services really write: all the same."""

import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry

from libs import cluster, keys, lifecycle
from libs.broker import Broker, connect
from libs.directory import Directory, Seat, Watchers, standing
from libs.figures import GatewayFigures, PresenceFigures, Reporter
from libs.keys import CATALOGUE, Key
from libs.limits import Limiter
from libs.streams.producer import Producer
from libs.wire.events import Draft
from libs.wire.frames import Broadcast, Confirm, Origin, Places, Send, Sender
from services.gateway.fence import Fence
from services.gateway.heartbeat import Heartbeat
from services.gateway.metrics import GatewayMetrics
from services.gateway.rebalance import Rebalance
from services.gateway.sessions import Sessions
from services.gateway.uplink import Uplink
from services.presence.announcer import Announcer
from services.presence.cold import Cold
from services.presence.metrics import PresenceMetrics
from services.router.aside import Aside
from services.router.audit import Audit
from services.router.broadcasts import Broadcasts
from services.router.conversations import Conversations
from services.router.delivery import Delivery
from services.router.due import DuePages
from services.router.ledger import Notes
from services.router.metrics import RouterMetrics
from services.router.moves import Moves
from services.router.partition import Partition
from services.router.people import People
from services.router.pushes import LogSender, Pushes
from services.router.rates import Rates
from services.router.requests import Requests
from services.router.sayings import Sayings
from services.router.tallies import Tallies
from services.router.typing_notices import TypingNotices
from services.router.worker import Worker
from tests.support.broker import running_broker
from tests.support.waiting import until
from tests.unit.services.presence.fakes import FakeLastSeen
from tests.unit.services.router.fakes import RAMA_SITA, FakeStore

PAGE: Final = (Path(__file__).parents[3] / "docs" / "redis.md").read_text(encoding="utf-8")
PARTITIONS: Final = 4
# What the placeholders of a pattern stand for. The longer ones come first.
_PLACEHOLDERS: Final = (
    ("{pNN}", r"\{p\d\d\}"),
    ("{dN}", r"\{d\d\}"),
    ("{rN}", r"\{r\d\}"),
    ("{gw:G}", r"\{gw:[^}]+\}"),
    (":L:H", r":[a-z_]+:[0-9a-f]{24}"),
    (":G", r":.+"),
    (":B", r":\d+"),
    (":S", r":(gateway|router)"),
)
_ARGUMENTS: Final[dict[str, int | str]] = {
    "partition": 7,
    "bucket": 2_999_999,
    "shard": 3,
    "gateway": "gateway-1-ab12",
    "service": "router",
    "limit_shard": 5,
    "limit": "sign_ins",
    "digest": "0123456789ab" * 2,
}


def expression(pattern: str) -> re.Pattern[str]:
    """What a pattern of the catalogue matches."""
    text = re.escape(pattern)
    for placeholder, stands_for in _PLACEHOLDERS:
        text = text.replace(re.escape(placeholder), stands_for)
    return re.compile(text)


def rows_for(key: str) -> list[Key]:
    """The rows of the catalogue that a key of a broker matches."""
    return [row for row in CATALOGUE if expression(row.pattern).fullmatch(key)]


def functions() -> dict[str, Callable[..., str]]:
    """The functions that name keys."""
    public = inspect.getmembers(keys, inspect.isfunction)
    return {name: made for name, made in public if made.__module__ == keys.__name__ and not name.startswith("_")}


def named_by(function: Callable[..., str]) -> str:
    """A key as a function names it."""
    return function(**{name: _ARGUMENTS[name] for name in inspect.signature(function).parameters})


def table() -> list[Key]:
    """The rows of the page's table."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| `talowa:")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [
        Key(pattern.strip(" `"), kind, life, tuple(writers.split(", ")), tuple(readers.split(", ")))
        for pattern, kind, life, writers, readers, *_ in cells
    ]


def test_the_page_and_the_catalogue_have_the_same_rows() -> None:
    """Key, type, life, writers and readers: word for word, in the same order, none more and none less."""
    assert table() == list(CATALOGUE)


def test_every_row_says_what_the_key_holds_and_what_happens_when_it_is_lost() -> None:
    """An operator looks for the last column first."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| `talowa:")]
    for line in lines:
        *_, holds, lost = (cell.strip() for cell in line.strip().strip("|").split(" | "))
        assert holds.endswith("."), line
        assert lost.endswith("."), line


@pytest.mark.parametrize("name", functions())
def test_every_function_has_a_row(name: str) -> None:
    """A key that is in no row is one that nobody documented."""
    key = named_by(functions()[name])
    assert len(rows_for(key)) == 1, key


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.pattern)
def test_every_row_has_a_function(row: Key) -> None:
    """A row without one is of a key that is gone."""
    assert sum(row in rows_for(named_by(function)) for function in functions().values()) == 1


def test_keys_of_one_script_share_a_hash_tag() -> None:
    """What belongs to a partition, a shard or a gateway is tagged with it, so that a cluster can run the scripts."""
    for name, function in functions().items():
        parameters = inspect.signature(function).parameters
        tag = re.search(r"\{(.+)\}", named_by(function))
        if "partition" in parameters:
            assert tag, name
            assert tag[1] == "p07"
        elif "shard" in parameters:
            assert tag, name
            assert tag[1] == "d3"
        elif "gateway" in parameters:
            assert tag, name
            assert tag[1] == "gw:gateway-1-ab12"
        elif "limit_shard" in parameters:
            assert tag, name
            assert tag[1] == "r5"


@pytest.mark.parametrize(
    "key", ["talowa:unheard", "talowa:{p1}:in", "talowa:{p01}:in:more", "other:{p01}:in", "talowa:{p01}:recent:x"]
)
def test_a_key_that_is_not_catalogued_is_found_out(key: str) -> None:
    """The check below would not pass over it."""
    assert rows_for(key) == []


# A real run


async def found(broker: Broker) -> dict[str, str]:
    """Every key of the broker, and its type as the catalogue calls it."""
    names = [key.decode() for key in await broker.command("KEYS", "*")]
    types = await broker.batch([("TYPE", name) for name in names])
    words = {b"zset": "sorted set"}
    return {
        name: words.get(kind, kind.decode())
        for name, kind in zip(names, types, strict=True)
        if kind != b"none"  # it went between the two questions
    }


def _worker(broker: Broker, reader: Broker, store: FakeStore) -> tuple[Worker, Pushes]:
    metrics = RouterMetrics(CollectorRegistry())
    people = People(store, 5.0)
    conversations = Conversations(store, people, 100)
    pages = DuePages(store, broker, partitions=PARTITIONS, messages=50, bytes_=32_768)
    typing = TypingNotices(people, conversations, members_max=100)
    requests = Requests(store, people, conversations, pages, metrics, typing)
    aside = Aside(requests, broker, metrics)
    sayings = Sayings(conversations, requests, aside, metrics, partitions=PARTITIONS)
    rates = Rates(Limiter(broker), dict.fromkeys(("text", "image", "document", "voice", "emergency"), 3))
    directory = Directory(broker)
    pushes = Pushes(
        broker,
        store,
        people,
        conversations,
        LogSender(),
        metrics,
        lambda: worker.partitions,
        after_s=3600.0,
        per_s=100,
        counted_members=100,
    )
    delivery = Delivery(store, people, directory, broker, sayings, metrics, rates, pushes=pushes)
    broadcasts = Broadcasts(store, directory, broker, Tallies(store, broker, metrics), rates, metrics)
    given: dict[str, Any] = {
        "read_entries": 100,
        "linger_s": 0.0,
        "receipt_gather_s": 0.1,
        "receipt_rest_s": 0.0,
        "parked_frames_max": 100,
    }
    given["notes"] = lambda: Notes(100)
    worker = Worker(broker, reader, delivery, broadcasts, store, metrics, router="r1", partitions=PARTITIONS, **given)
    return worker, pushes


async def _order(broker: Broker) -> None:
    """Two gateways, one of them empty: sockets are to be spread evenly."""
    await Reporter(broker, "g1", lambda: GatewayFigures(id="g1", connections=100)).report()
    await Reporter(broker, "g2", lambda: GatewayFigures(id="g2")).report()
    nobody: Any = SimpleNamespace(is_leaving=False)
    given: dict[str, Any] = {"sign_ins_per_s": 100, "rest_s": 60.0, "every_s": 0.0}
    await Rebalance(
        broker, "g1", nobody, Sessions(), nobody, nobody, GatewayMetrics(CollectorRegistry()), **given
    ).ask()


async def test_the_services_write_what_is_catalogued_and_nothing_else(tmp_path: Path) -> None:
    """A message is saved and confirmed, another is queued: each key has its row, and each row its key."""
    store = FakeStore()
    store.away = {"save_receipts"}  # so that receipts can be seen where they wait
    async with (
        running_broker(tmp_path) as url,
        connect(url) as broker,
        connect(url, blocking_s=1) as reader,
        asyncio.TaskGroup() as tasks,
    ):
        await cluster.agree_on_partitions(broker, PARTITIONS)
        assert await cluster.may_give_up(broker, "router", "r2")
        directory = Directory(broker)
        producer = Producer(broker, limit=100, linger_s=0)
        counts = GatewayMetrics(CollectorRegistry())
        uplink = Uplink(producer, partitions=PARTITIONS, overload_lag_s=10, overload_entries=1000, metrics=counts)
        heartbeat = Heartbeat(
            broker,
            directory,
            "g1",
            Sessions(),
            uplink,
            partitions=PARTITIONS,
            linger_s=0,
            presence_grace_s=0.6,
            fence=Fence(),
            read_up_to=lambda: dict.fromkeys((keys.alarms("g1"), keys.downlink("g1")), "0-0"),
            reviving=lambda: None,
            revived=lambda: None,
        )
        await heartbeat.beat()
        await directory.touch("g1", ["sita"])
        await directory.settle({"sita": Places(village="v1")})
        worker, pushes = _worker(broker, reader, store)
        bounds: dict[str, Any] = {"every_s": 1.0, "window_s": 60, "max_mb": 16, "partitions": PARTITIONS}
        bounds |= {"settle_s": 0, "share": 1}
        silent = RouterMetrics(CollectorRegistry())
        audit = Audit(store, broker, silent, lambda: worker.partitions, lambda: False, **bounds)
        running = [
            tasks.create_task(work)
            for work in (
                worker.run(),
                audit.run(),
                uplink.run(),
                heartbeat.run(),
                Reporter(broker, "presence-1", lambda: PresenceFigures(id="presence-1")).run(),
            )
        ]
        seen: dict[str, str] = {}

        async def has(*patterns: str) -> bool:
            seen.update(await found(broker))
            there = {row.pattern for key in seen for row in rows_for(key)}
            return there >= set(patterns)

        origin = Origin("g1", "socket", 1)
        send = Send(origin, Sender("rama", "Rama", "member"), Draft(RAMA_SITA, "a", "a", "text", "Monday"), 1000)
        try:
            await directory.change("g1", dict.fromkeys(("rama", "ravi"), Seat.SHOWN))
            await directory.change("g1", {"ravi": Seat.DROPPED})
            await standing.choose(broker, {"rama": "away"})
            await Watchers(broker).change("g1", {"rama": True})
            await has()
            metrics = PresenceMetrics(CollectorRegistry())
            await Announcer(broker, Cold(FakeLastSeen(), metrics), metrics).announce()
            await has()
            await _order(broker)
            store.moved = ["sita"]
            alarms = Partition(PARTITIONS, 1, "r1")
            await Moves(store, directory, broker, RouterMetrics(CollectorRegistry()), lambda: alarms).look()
            uplink.publish_for_conversation(RAMA_SITA, send)
            await until(lambda: has("talowa:{pNN}:recent:B"), 10, "the first message to be saved")
            warning = Broadcast(origin, send.sender, "b1", "Flood", "Leave now", "village", ("v1",), "high", 5)
            await pushes.note_broadcasts(next(iter(worker.partitions)), [warning])
            uplink.publish_for_conversation(RAMA_SITA, Confirm(origin, "sita", RAMA_SITA, (1,)))
            await until(lambda: has("talowa:{pNN}:receipts"), 10, "the receipt to be journaled")
            store.away.add("save")
            another = Send(origin, send.sender, Draft(RAMA_SITA, "b", "b", "text", "Tuesday"), 1000)
            uplink.publish_for_conversation(RAMA_SITA, another)
            await until(lambda: has(*(row.pattern for row in CATALOGUE)), 10, "every key of the catalogue")
        finally:
            await lifecycle.cancel(running)
    assert {key: [row.type for row in rows_for(key)] for key in seen} == {key: [kind] for key, kind in seen.items()}
