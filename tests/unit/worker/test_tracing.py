"""Traces of a call: one trace with the SDK's spans, without text unless the manifest wants it."""

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from livekit.agents import JobContext, telemetry
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentspec.names import tracing_header_variable
from agentspec.wire import CallOutcome, DispatchMetadata, WorkerConfig
from tests.unit.worker.builders import make_config
from tests.unit.worker.conversation import conversation, speech
from tests.waiting import soon
from worker.call import tracing
from worker.call.tracing import CallTrace

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
METADATA = DispatchMetadata(call_id="c1", traceparent=f"00-{TRACE_ID}-{PARENT_ID}-01")
CONTEXT = cast(JobContext, SimpleNamespace(job=SimpleNamespace(id="AJ_1", room=SimpleNamespace(name="ornina-c1"))))
SAID = ("What are your opening hours?", "From nine to five.", "Answer briefly.")


def declared(endpoint: str = "http://127.0.0.1:1", **more: Any) -> WorkerConfig:
    return make_config(language="en", tracing={"otlpEndpoint": endpoint, **more})


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The SDK's tracer belongs to the process."""
    before = telemetry.tracer._tracer_provider
    yield
    telemetry.tracer.set_provider(before)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "make_exporter", lambda _: exporter)
    return exporter


async def traced_conversation(config: WorkerConfig) -> None:
    """Hold a conversation of one turn in a trace, as a call does."""
    trace = CallTrace(config, METADATA)
    async with conversation(config, before_start=lambda _: trace.start(CONTEXT, requested_at=time.time() - 2)) as talk:
        talk.microphone.play(speech(1.2))
        await talk.until(lambda: talk.messages("assistant"), "the agent has replied")
    with telemetry.tracer.start_as_current_span("after the call", context=Context()):
        pass
    await trace.finish(CallOutcome.CALLER_LEFT)


def all_text(spans: tuple[ReadableSpan, ...]) -> str:
    return " ".join(span.to_json() for span in spans)


async def test_session_is_one_trace_below_the_callers_request(exported: InMemorySpanExporter) -> None:
    await traced_conversation(declared())
    spans = exported.get_finished_spans()
    by_name = {span.name: span for span in spans}
    assert {"call", "join", "agent_session", "llm_node", "tts_node", "user_turn", "agent_speaking"} <= set(by_name)
    assert "after the call" not in by_name
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE_ID}
    call = by_name["call"]
    assert call.parent is not None and f"{call.parent.span_id:016x}" == PARENT_ID
    for name in ("join", "agent_session"):
        parent = by_name[name].parent
        assert parent is not None and parent.span_id == call.context.span_id
    assert by_name["join"].start_time == call.start_time
    assert all(call.start_time <= span.start_time and span.end_time <= call.end_time for span in spans)  # type: ignore[operator]
    for span in spans:
        assert dict(span.attributes or {}) | {
            "avatar_agent.call_id": "c1",
            "avatar_agent.agent": "default/ornina",
            "avatar_agent.room": "ornina-c1",
            "avatar_agent.job_id": "AJ_1",
        } == dict(span.attributes or {})
    assert (call.attributes or {})["avatar_agent.outcome"] == "caller_left"
    assert not [text for text in SAID if text in all_text(spans)]


async def test_traces_contain_text_when_the_manifest_wants_it(exported: InMemorySpanExporter) -> None:
    await traced_conversation(declared(includeText=True))
    assert all(text in all_text(exported.get_finished_spans()) for text in SAID)


async def test_call_without_a_request_begins_its_own_trace(exported: InMemorySpanExporter) -> None:
    trace = CallTrace(declared(), DispatchMetadata())
    trace.start(CONTEXT, requested_at=None)
    await trace.finish(CallOutcome.CALLER_ABSENT)
    (call,) = exported.get_finished_spans()
    assert (call.name, call.parent) == ("call", None)
    assert "avatar_agent.call_id" not in (call.attributes or {})


async def test_agent_without_the_declaration_makes_no_spans() -> None:
    before = telemetry.tracer._tracer_provider
    trace = CallTrace(make_config(), METADATA)
    trace.start(CONTEXT, requested_at=None)
    await trace.finish(CallOutcome.CALLER_LEFT)
    assert telemetry.tracer._tracer_provider is before


class Collector:
    """An OTLP receiver."""

    def __init__(self) -> None:
        self.spans: list[str] = []
        self.headers: dict[str, str] = {}
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def receive(self, request: web.Request) -> web.Response:
        export = ExportTraceServiceRequest.FromString(await request.read())
        self.spans += [span.name for one in export.resource_spans for scope in one.scope_spans for span in scope.spans]
        self.headers.update(request.headers)
        await self.may_answer.wait()
        return web.Response(body=b"", content_type="application/x-protobuf")


@pytest.fixture
async def collector(unused_tcp_port: int) -> Any:  # noqa: ANN401 - an asynchronous generator of (Collector, url)
    found = Collector()
    app = web.Application()
    app.router.add_post("/otlp/v1/traces", found.receive)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield found, f"http://127.0.0.1:{unused_tcp_port}/otlp/"
    found.may_answer.set()
    await runner.cleanup()


async def test_spans_are_sent_with_the_headers_from_secrets(
    collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, url = collector
    monkeypatch.setenv(tracing_header_variable(0), "Bearer traces\n")
    header = {"name": "Authorization", "secretKeyRef": {"name": "traces", "key": "token"}}
    trace = CallTrace(declared(url, headers=[header]), METADATA)
    trace.start(CONTEXT, requested_at=None)
    await trace.finish(CallOutcome.CALLER_LEFT)
    assert (found.spans, found.headers["Authorization"]) == (["call"], "Bearer traces")


async def test_receiver_that_hangs_delays_the_end_for_a_bounded_time(
    collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found, url = collector
    found.may_answer.clear()
    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.2)
    trace = CallTrace(declared(url), METADATA)
    trace.start(CONTEXT, requested_at=None)
    await trace.finish(CallOutcome.CALLER_LEFT)
    assert "traces of the call not sent in time" in caplog.text
    found.may_answer.set()
    await soon(lambda: found.spans)


async def test_missing_header_costs_the_traces_not_the_call(caplog: pytest.LogCaptureFixture) -> None:
    header = {"name": "Authorization", "secretKeyRef": {"name": "traces", "key": "token"}}
    trace = CallTrace(declared(headers=[header]), METADATA)
    trace.start(CONTEXT, requested_at=None)
    await trace.finish(CallOutcome.CALLER_LEFT)
    assert "no traces of the call" in caplog.text
