"""OpenTelemetry traces of a call (`spec.tracing`): the SDK's own spans of the session, below one span of the call.

A call process has one call, so its tracer provider belongs to that call. Without the declaration nothing is recorded.
"""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from typing import Final

from livekit.agents import JobContext, telemetry
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agentspec.names import tracing_header_variable
from agentspec.report import TracingSpec
from agentspec.wire import CallOutcome, DispatchMetadata, WorkerConfig, agent_key

logger = logging.getLogger(__name__)

CALL_SPAN: Final = "call"
"""Name of the span that contains all others of the call."""
JOIN_SPAN: Final = "join"
"""Name of the span from the caller's request to the gateway until the agent is in the room."""
FLUSH_SECONDS: Final = 5.0
"""How long a call that has ended waits for its last spans to be sent."""
_EXPORT_SECONDS: Final = 4
_PREFIX: Final = "avatar_agent."


class CallTrace:
    """The trace of one call. Does nothing when the agent declares no traces."""

    def __init__(self, config: WorkerConfig, metadata: DispatchMetadata) -> None:
        self._config = config
        self._metadata = metadata
        self._provider: TracerProvider | None = None
        self._span: trace.Span | None = None

    def start(self, context: JobContext, *, requested_at: float | None) -> None:
        """Start the call's span and make it the parent of what the current task starts; the session starts later.

        `requested_at`: when the caller asked a gateway for the call, in Unix seconds; None: unknown. The span begins
        there. A failure costs the traces, not the call.
        """
        if self._config.tracing is None:
            return
        try:
            self._start(self._config.tracing, context, None if requested_at is None else int(requested_at * 1e9))
        except Exception as error:
            logger.error("no traces of the call", extra={"error": type(error).__name__})

    def _start(self, declared: TracingSpec, context: JobContext, requested_ns: int | None) -> None:
        attributes = {
            "call_id": self._metadata.call_id,
            "agent": agent_key(self._config.namespace, self._config.name),
            "room": context.job.room.name,
            "job_id": context.job.id,
        }
        service = {SERVICE_NAME: "avatar-agent-worker", SERVICE_NAMESPACE: self._config.namespace}
        provider = TracerProvider(resource=Resource.create(service), shutdown_on_exit=False)
        telemetry.set_tracer_provider(
            provider,
            metadata={f"{_PREFIX}{name}": value for name, value in attributes.items() if value},
            allow_pii=declared.include_text,
        )
        cause = TraceContextTextMapPropagator().extract({"traceparent": self._metadata.traceparent})
        tracer = provider.get_tracer("avatar-agent")
        self._span = tracer.start_span(CALL_SPAN, context=cause, start_time=requested_ns)
        self._provider = provider
        trace_id = self._span.get_span_context().trace_id
        provider.add_span_processor(_SpansOfTrace(make_exporter(declared), trace_id))  # after the one that removes text
        contexts.attach(trace.set_span_in_context(self._span))
        if requested_ns is not None:
            tracer.start_span(JOIN_SPAN, start_time=requested_ns).end()

    async def finish(self, outcome: CallOutcome) -> None:
        """End the call's span and send what is left, for at most FLUSH_SECONDS."""
        if self._span is None or self._provider is None:
            return
        self._span.set_attribute(f"{_PREFIX}outcome", outcome.value)
        self._span.end()
        try:
            await asyncio.wait_for(_in_thread(self._provider.shutdown), FLUSH_SECONDS)
        except TimeoutError:
            logger.warning("traces of the call not sent in time", extra={"seconds": FLUSH_SECONDS})


class _SpansOfTrace(BatchSpanProcessor):
    """Exports the spans of one trace. The SDK's spans of a job's end have no parent and would be traces of their own.

    The SDK starts their parent, `job_entrypoint`, before a call can set a tracer provider (livekit-agents 1.8.9,
    ipc/job_proc_lazy_main.py).
    """

    def __init__(self, exporter: SpanExporter, trace_id: int) -> None:
        super().__init__(exporter)
        self._trace_id = trace_id

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_id == self._trace_id:
            super().on_end(span)


def make_exporter(declared: TracingSpec) -> SpanExporter:
    """Return the exporter to the declared receiver, with the values of its headers from the environment."""
    headers = {
        header.name: os.environ[tracing_header_variable(position)].strip()
        for position, header in enumerate(declared.headers)
    }
    endpoint = f"{declared.otlp_endpoint.rstrip('/')}/v1/traces"
    return OTLPSpanExporter(endpoint=endpoint, headers=headers, timeout=_EXPORT_SECONDS)


async def _in_thread(work: Callable[[], None]) -> None:
    """Do blocking work in a thread that does not keep the process alive, as threads of asyncio do."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        work()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="traces", daemon=True).start()
    await done.wait()
