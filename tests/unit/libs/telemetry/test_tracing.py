"""Stations as spans: in memory, where nothing is traced, and where whoever collects them is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from threading import Event

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.lifecycle import Unstartable
from libs.telemetry import tracing
from libs.telemetry.tracing import Tracing, open_tracing


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where spans go."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "processor", lambda: SimpleSpanProcessor(exporter))
    return exporter


@pytest_asyncio.fixture
async def traced(told: InMemorySpanExporter) -> AsyncIterator[Tracing]:
    """A process that traces everything."""
    async with open_tracing("otlp", "gateway", "g1-0a", 1.0) as traced:
        yield traced


async def test_stations_are_children_of_who_took_the_message(traced: Tracing, told: InMemorySpanExporter) -> None:
    """With their times, and links to what they were together with."""
    mine, other = traced.take(), traced.take()
    traced.note(mine, "save", 5_000, 9_000, together=[mine, other], message="m1", batch=2)
    take, taken, save = told.get_finished_spans()
    assert (take.name, taken.name, save.name) == ("take", "take", "save")
    assert save.parent is not None
    assert save.parent.span_id == take.context.span_id
    assert save.context.trace_id == take.context.trace_id != taken.context.trace_id
    assert (save.start_time, save.end_time) == (5_000, 9_000)
    assert dict(save.attributes or {}) == {"talowa.message": "m1", "talowa.batch": 2}
    assert [link.context.trace_id for link in save.links] == [taken.context.trace_id]
    assert dict(save.resource.attributes)["service.name"] == "talowa-gateway"
    assert dict(save.resource.attributes)["service.instance.id"] == "g1-0a"


async def test_no_station_ends_before_it_began(traced: Tracing, told: InMemorySpanExporter) -> None:
    """Though the clock that it began by is ahead."""
    ahead_ns = time.time_ns() + 10**12
    traced.note(traced.take(), "send", ahead_ns, sockets=1)
    assert told.get_finished_spans()[-1].end_time == ahead_ns


async def test_a_share_of_messages_is_traced(told: InMemorySpanExporter) -> None:
    """None, or all."""
    for share, count in ((0.0, 0), (1.0, 50)):
        async with open_tracing("otlp", "gateway", "g1", share) as traced:
            assert len([trace for trace in (traced.take() for _ in range(50)) if trace]) == count


@given(trace=st.text(max_size=80) | st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-9]", fullmatch=True))
def test_whatever_a_frame_says_is_noted_or_passed_over(trace: str) -> None:
    """A frame may be of a newer version."""

    async def note() -> None:
        async with open_tracing("otlp", "router", "r1") as traced:
            traced.note(trace, "read", 1, 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "processor", lambda: SimpleSpanProcessor(InMemorySpanExporter()))
        asyncio.run(note())


async def test_off_begins_nothing() -> None:
    """And notes nothing of what others began."""
    async with open_tracing("off", "gateway", "g1", 1.0) as untraced:
        assert not untraced.is_on
        assert untraced.take() == ""
        untraced.note("00-" + "1" * 32 + "-" + "2" * 16 + "-01", "save", 1)


async def test_who_is_to_trace_and_cannot_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable and the remedy are said."""
    monkeypatch.setattr(tracing, "find_spec", lambda _: None)
    with pytest.raises(Unstartable, match=r"TRACING=otlp.*requirements/tracing\.txt"):
        async with open_tracing("otlp", "gateway", "g1"):
            pass


async def test_who_collects_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the loop nor the end of a process: last words are waited for so long."""

    class Away(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
            asked.set()
            back.wait()
            return SpanExportResult.FAILURE

    asked, back = Event(), Event()
    monkeypatch.setattr(tracing, "processor", lambda: BatchSpanProcessor(Away()))
    monkeypatch.setattr(tracing, "_LAST_WORDS_S", 0.1)
    async with open_tracing("otlp", "gateway", "g1", 1.0) as traced:
        traced.take()
    assert asked.wait(10)
    back.set()
