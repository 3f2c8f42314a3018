"""Traces: the stations of one message, each a span, on every process that it came through. Off unless asked for.

What travels is W3C's `traceparent`, in the last field of `Send` and `Emit`; for what is not traced, and that is nearly
everything, it is empty. A station is noted when it is over, all of one message under the span of who took it in:
docs/life-of-a-message.md has the stations by these names. A span tells numbers and the id of the message: no content,
no token, no user, no conversation. What is anonymous is never traced (docs/adr/0030).

The only file that knows OpenTelemetry, which is an extra: `requirements/tracing.txt`.
"""

from __future__ import annotations  # the names of what may not be installed

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING, Final, Literal

from libs.lifecycle import Unstartable
from libs.settings import Traced

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import SpanContext

Station = Literal["take", "read", "decide", "save", "publish", "send"]
# Of one that is on its way. Empty: it is not traced.
Trace = str

_HEADER: Final = "traceparent"
# What has not been told when a process ends is told within this time, or not at all.
_LAST_WORDS_S: Final = 2.0
# Others that were in the same batch, at most: to follow one of them is enough.
_LINKS_MAX: Final = 8


class Tracing:
    """Off: begins nothing, and passes on what others began."""

    is_on = False

    def take(self) -> Trace:
        """A message was taken in: its trace, for the few that have one."""
        return ""

    def note(
        self,
        trace: Trace,
        station: Station,
        began_ns: int,
        until_ns: int | None = None,
        *,
        together: Sequence[Trace] = (),
        **figures: int | str,
    ) -> None:
        """A message that has a trace was at a station from `began_ns` until then, or now; `together` with others."""


class _On(Tracing):
    is_on = True

    def __init__(self, provider: TracerProvider, share: float) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._tracer = provider.get_tracer("talowa")
        self._share = share
        self._written = TraceContextTextMapPropagator()

    def take(self) -> Trace:
        if random.random() >= self._share:  # noqa: S311 - a sample, not a secret
            return ""
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415 - it is there, as this is

        span = self._tracer.start_span("take")
        span.end()
        headers: dict[str, str] = {}
        self._written.inject(headers, set_span_in_context(span))
        return headers[_HEADER]

    def note(
        self,
        trace: Trace,
        station: Station,
        began_ns: int,
        until_ns: int | None = None,
        *,
        together: Sequence[Trace] = (),
        **figures: int | str,
    ) -> None:
        from opentelemetry.trace import Link  # noqa: PLC0415

        context = self._written.extract({_HEADER: trace})
        if not _of(context).is_valid:
            return  # of a version that is to come
        links = [
            Link(_of(self._written.extract({_HEADER: other}))) for other in together[:_LINKS_MAX] if other != trace
        ]
        attributes = {f"talowa.{name}": figure for name, figure in figures.items()}
        # A broker's clock may be ahead of ours: no station ends before it began.
        span = self._tracer.start_span(station, context, attributes=attributes, links=links, start_time=began_ns)
        span.end(max(began_ns, until_ns or time.time_ns()))


def _of(context: object) -> SpanContext:
    from opentelemetry.context import Context  # noqa: PLC0415
    from opentelemetry.trace import get_current_span  # noqa: PLC0415

    return get_current_span(context if isinstance(context, Context) else None).get_span_context()


@asynccontextmanager
async def open_tracing(kind: Traced, service: str, instance: str, share: float = 0.0) -> AsyncIterator[Tracing]:
    """What a process notes its stations with; `share` of the messages that it takes in are traced.

    Where they go is said by OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT. Raises `Unstartable`.
    """
    if kind == "off":
        yield Tracing()
        return
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise Unstartable(
            f"TRACING={kind}: OpenTelemetry is not installed. Install requirements/tracing.txt beside this service's, "
            "or set TRACING=off."
        )
    # Here, for they take half a second and 20 MB, of which a process that is not traced needs nothing.
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    about = Resource.create({"service.name": f"talowa-{service}", "service.instance.id": instance})
    provider = TracerProvider(resource=about, shutdown_on_exit=False)
    provider.add_span_processor(processor())
    try:
        yield _On(provider, share)
    finally:
        await _shut_down(provider)


async def _shut_down(provider: TracerProvider) -> None:
    """Say the last words. Whoever collects them may be away: a thread waits for them, and nobody for it for long."""
    loop, said = asyncio.get_running_loop(), asyncio.Event()

    def say() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop is over
            loop.call_soon_threadsafe(said.set)

    Thread(target=say, daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_S):
            await said.wait()


def processor() -> SpanProcessor:
    """What tells of spans: in a thread of its own, from a queue that drops what is too much."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    return BatchSpanProcessor(OTLPSpanExporter())
