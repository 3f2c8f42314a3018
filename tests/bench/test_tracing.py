"""What tracing costs a message: nothing where it is off, a little where it is on and the message is not traced."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.telemetry import tracing
from libs.telemetry.tracing import Tracing, open_tracing
from libs.wire import codec
from libs.wire.events import Draft
from libs.wire.frames import Origin, Send, Sender

Benchmark = Callable[..., Any]


class _Nowhere(InMemorySpanExporter):
    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS


@pytest.mark.parametrize("share", [None, 0.0, 1.0], ids=["off", "on, not traced", "traced"])
def test_tracing_of_a_message_that_is_taken(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, share: float | None
) -> None:
    """As a gateway asks, and packs it; with its six stations if it is traced."""
    monkeypatch.setattr(tracing, "processor", lambda: BatchSpanProcessor(_Nowhere()))
    draft = Draft("direct:asha:ravi", "c1", "c1", "text", "నమస్తే")
    origin, sender = Origin("g1", "s1", 1), Sender("asha", "Asha", "member")

    def take(traced: Tracing) -> bytes:
        trace = traced.take() if traced.is_on else ""
        if trace:
            for station in ("read", "decide", "save", "publish", "send"):
                traced.note(trace, station, 1, 2, message="m", partition=1, batch=3)
        return codec.pack_frame(Send(origin, sender, draft, 1000, trace))

    async def run() -> None:
        async with _opened(share) as traced:
            benchmark(take, traced)

    asyncio.run(run())


@asynccontextmanager
async def _opened(share: float | None) -> AsyncIterator[Tracing]:
    async with open_tracing("off" if share is None else "otlp", "gateway", "g1", share or 0.0) as traced:
        yield traced
