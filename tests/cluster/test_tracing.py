"""One message's trace, from gateway to router to store to gateway: in memory, and as a collector is told of it.

In memory two gateways and a router run on one loop, as their composition roots make them, on a real broker and store.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import test_utils, web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs import settings
from libs.telemetry import logs, tracing
from services.gateway import app as gateway
from services.local.issuer import Issuer
from services.local.keyring import Keyring
from services.local.plan import make_plan, socket_url
from services.local.settings import LocalSettings
from services.router import app as router
from services.router.sqlite import open_store
from services.router.store import UserRow
from tests.support.broker import running_broker
from tests.support.clients import PythonClient
from tests.support.cluster import in_a_row, live_cluster
from tests.support.history import History
from tests.support.waiting import until

_SOON_S: Final = 15.0
_STATIONS: Final = {"take", "read", "decide", "save", "publish", "send"}
_FIGURES: Final = {"talowa.message", "talowa.partition", "talowa.batch", "talowa.sockets"}
_CONTENT: Final = "quince-నమస్తే"
_PEOPLE: Final = ("ashaqqx", "raviqqx", "devaqqx")
_TRACED: Final = {"TRACING": "otlp", "TRACING_SHARE": "1"}


class Together:
    """Two gateways and a router in this process, and what they told."""

    def __init__(self, urls: Sequence[str], issuer: Issuer, exporter: InMemorySpanExporter) -> None:
        self.urls = urls
        self.issuer = issuer
        self.history = History()
        self._exporter = exporter

    async def phone(self, person: str, gateway: int) -> PythonClient:
        """Somebody's, signed in."""
        auth = {"token": self.issuer.token(person)}
        client = await PythonClient.open(self.history, person, self.urls[gateway], auth, transports=["websocket"])
        await client.wait_for("auth_success")
        return client

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """What was told so far."""
        return self._exporter.get_finished_spans()

    def named(self, *names: str) -> list[ReadableSpan]:
        """Those of some stations."""
        return [span for span in self.spans if span.name in names]


@asynccontextmanager
async def _together(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Together]:
    exporter, load = InMemorySpanExporter(), settings.load
    monkeypatch.setattr(tracing, "processor", lambda: SimpleSpanProcessor(exporter))
    monkeypatch.setattr(logs, "configure", lambda *_: logs.ErrorCount())  # of the whole process, which is a test's
    async with running_broker(home) as redis_url:
        port = in_a_row(2)
        local = LocalSettings(gateways=2, routers=1, data_dir=str(home), redis_url=redis_url, websocket_port=port)
        plan = make_plan(local, {**_TRACED, "DRAIN_WINDOW_S": "0"})
        mains = {"gateway": gateway.main, "router": router.main}
        processes = [process for process in plan.processes if process.role in mains]
        environments = (process.environment for process in processes)
        monkeypatch.setattr(settings, "load", lambda kind: load(kind, next(environments)))
        async with open_store(local.database, patience_s=_SOON_S) as store:
            await store.put_users([UserRow(id=person, name=person.title()) for person in _PEOPLE])
        urls = [socket_url("127.0.0.1", port) for port in local.websocket_ports]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for process in processes:  # each loads its settings in its first step, so in this order
                tasks.create_task(mains[process.role](stop))
            try:
                for url in urls:
                    await until(partial(_is_ready, url), _SOON_S, "a gateway", despite=(aiohttp.ClientError,))
                yield Together(urls, Issuer(Keyring(local.home).signing_key()), exporter)
            finally:
                stop.set()


async def test_a_message_is_one_trace_from_gateway_to_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every station under the one that took it in, on the process where it was; nothing in it names anybody."""
    async with _together(tmp_path, monkeypatch) as cluster:
        asha = await cluster.phone(_PEOPLE[0], 0)
        ravi = await cluster.phone(_PEOPLE[1], 1)
        answer = await asha.send_message({"clientId": "c1", "recipientId": _PEOPLE[1], "content": _CONTENT})
        await ravi.wait_for_messages(1)
        await until(lambda: {span.name for span in cluster.spans} == _STATIONS, _SOON_S, "every station to be noted")
        by_name = {span.name: span for span in cluster.spans}
        assert len(by_name) == len(cluster.spans)
        take = by_name.pop("take")
        assert take.parent is None
        for span in by_name.values():
            assert span.parent is not None
            assert (span.parent.trace_id, span.parent.span_id) == (take.context.trace_id, take.context.span_id)
        where = {name: str(span.resource.attributes["service.instance.id"])[:2] for name, span in by_name.items()}
        assert where == {"read": "r1", "decide": "r1", "save": "r1", "publish": "r1", "send": "g2"}
        assert str(take.resource.attributes["service.instance.id"]).startswith("g1")
        began = [by_name[name].start_time or 0 for name in ("decide", "save", "publish")]
        assert began == sorted(began)
        assert (by_name["save"].attributes or {})["talowa.message"] == answer["messageId"]
        _check_hush(cluster.spans)
        await asha.close()
        await ravi.close()


async def test_what_is_anonymous_is_not_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a message nor what is tried in return: it would say by which gateway its author came."""
    async with _together(tmp_path, monkeypatch) as cluster:
        asha = await cluster.phone(_PEOPLE[0], 0)
        ravi = await cluster.phone(_PEOPLE[1], 1)
        said = {"clientId": "c1", "recipientId": _PEOPLE[1], "content": _CONTENT, "isAnonymous": True}
        await asha.send_message(said)
        came = (await ravi.wait_for("new_message")).data
        await ravi.send_message({"clientId": "c2", "conversationId": came["conversationId"], "content": _CONTENT})
        await ravi.emit("mark_as_read", {"conversationId": came["conversationId"], "seq": 1})
        await asha.wait_for("message_read")
        assert cluster.spans == ()
        await ravi.send_message({"clientId": "c3", "recipientId": _PEOPLE[2], "content": _CONTENT})
        await until(lambda: cluster.named("publish"), _SOON_S, "one that is not to be traced")
        assert len(cluster.named("take")) == 1
        await asha.close()
        await ravi.close()


async def test_messages_that_were_saved_together_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is written at once, and each message's trace says with how many, and leads to others."""
    async with _together(tmp_path, monkeypatch) as cluster:
        asha = await cluster.phone(_PEOPLE[0], 0)
        said = ({"clientId": f"c{n}", "recipientId": _PEOPLE[1], "content": _CONTENT} for n in range(20))
        await asyncio.gather(*(asha.send_message(message) for message in said))
        await until(lambda: len(cluster.named("save")) == 20, _SOON_S, "all to be noted")
        together = [span for span in cluster.named("save") if span.links]
        assert together
        for span in together:
            size = (span.attributes or {})["talowa.batch"]
            assert isinstance(size, int)
            assert len(span.links) < size
            assert span.context.trace_id not in {link.context.trace_id for link in span.links}
        await asha.close()


async def test_a_collector_is_told_of_every_process(tmp_path: Path) -> None:
    """Over OTLP, from real processes; and not a word in it of what was said, by whom, to whom."""
    bodies: list[bytes] = []

    async def collect(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    async with test_utils.TestServer(app) as collector:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": str(collector.make_url("")), "OTEL_BSP_SCHEDULE_DELAY": "200"}
        history = History()
        async with live_cluster(tmp_path, routers=1, environment={**_TRACED, **told}) as cluster:
            await cluster.people(_PEOPLE, {"sanghamqqx": _PEOPLE})
            clients = [
                await PythonClient.open(
                    history,
                    person,
                    cluster.urls[n % 2],
                    {"token": cluster.token(person)},
                    transports=["websocket"],
                )
                for n, person in enumerate(_PEOPLE)
            ]
            for client in clients:
                await client.wait_for("auth_success")
            for n in range(10):
                for to in ({"recipientId": _PEOPLE[1]}, {"groupId": "sanghamqqx"}):
                    message = {"clientId": f"c{n}-{len(to)}-{next(iter(to))}", "content": _CONTENT, **to}
                    assert (await clients[0].send_message(message))["ok"]
            await until(lambda: len(_whole(bodies)) == 20, _SOON_S, "a whole trace of each message")
            tokens = [cluster.token(person) for person in _PEOPLE]
            for client in clients:
                await client.close()
    everything = b"".join(bodies)
    for hidden in (_CONTENT, "sanghamqqx", *_PEOPLE, *tokens, *(person.title() for person in _PEOPLE)):
        assert hidden.encode() not in everything
    services = {name.rpartition("-")[0].partition("-")[0] for name, _ in _spans(bodies)}
    assert services == {"g1", "g2", "r1"}


async def _is_ready(url: str) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as response:
        return response.status == 200


def _spans(bodies: Sequence[bytes]) -> Iterator[tuple[str, Any]]:
    """Each with the process that told of it."""
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    yield about["service.instance.id"], span


def _whole(bodies: Sequence[bytes]) -> set[bytes]:
    stations: dict[bytes, set[str]] = {}
    for _, span in _spans(bodies):
        stations.setdefault(span.trace_id, set()).add(span.name)
        assert {one.key for one in span.attributes} <= _FIGURES
    return {trace for trace, found in stations.items() if found == _STATIONS}


def _check_hush(spans: Sequence[ReadableSpan]) -> None:
    for span in spans:
        assert set(span.attributes or {}) <= _FIGURES
        told = span.to_json()
        assert not any(hidden in told for hidden in (*_PEOPLE, "quince"))
