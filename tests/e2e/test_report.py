"""The example agent with reports and traces: both arrive, with the ids of the call and without text in the traces."""

import copy
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from devkit.demo import manifests
from devkit.demo.caller import Caller, request_call
from devkit.demo.conversation import SAME
from devkit.demo.product import AGENTS_NAMESPACE
from devkit.paths import REPOSITORY
from devkit.providers.speech import similarity
from tests.e2e import agents
from tests.e2e.callers import answered
from tests.e2e.conftest import Platform
from tests.receiver import SIGNING_KEY, receiving
from tests.waiting import eventually_in_thread

EXAMPLE = REPOSITORY / "examples/report"
COLLECTOR_TOKEN = "Bearer collector"
TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
QUESTION = "When are you open?"
FACT = "We are open from nine in the morning until six in the evening."

pytestmark = pytest.mark.timeout(400)


@asynccontextmanager
async def collecting(host: str) -> AsyncIterator[tuple[list[Span], str]]:
    """Run an OTLP receiver; yields the spans that it gets, and its base URL."""
    spans: list[Span] = []

    async def receive(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == COLLECTOR_TOKEN
        export = ExportTraceServiceRequest.FromString(await request.read())
        spans.extend(span for one in export.resource_spans for scope in one.scope_spans for span in scope.spans)
        return web.Response(body=b"", content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", receive)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0).start()
        yield spans, f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def own_address(node_ip: str) -> str:
    """Return the address of this machine in the node's network, at which pods reach servers of this process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((node_ip, 9))  # sends nothing: the kernel chooses the route
        return str(probe.getsockname()[0])


def pointed(platform: Platform, receiver: str, collector: str) -> list[dict[str, Any]]:
    """Return the example's objects with the addresses and keys of this node."""
    documents, _ = manifests.retarget(manifests.load(EXAMPLE), platform.targets)
    documents = copy.deepcopy(documents)
    for document in documents:
        if document["metadata"]["name"] == "support-report":
            document["stringData"] = {"signingKey": SIGNING_KEY, "collectorToken": COLLECTOR_TOKEN}
    spec = documents[-1]["spec"]
    spec |= {"dispatch": {"access": "Public"}, "scaling": agents.ONE_WORKER}
    spec["report"]["url"] = receiver
    spec["tracing"]["otlpEndpoint"] = collector
    return documents


async def test_call_is_reported_and_traced(platform: Platform) -> None:
    host = own_address(platform.cluster.node_ip)
    async with receiving(host) as receiver, collecting(host) as (spans, collector):
        *secrets, agent = pointed(platform, receiver.url, collector)
        platform.product.apply(secrets)
        with agents.declared(platform.product, agent) as name:
            async with AsyncExitStack() as stack:
                traced = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
                opened, moments = await request_call(platform.gateway, name, "Layla", language="en", headers=traced)
                caller = await stack.enter_async_context(
                    Caller("Layla", opened["url"], opened["token"], moments, language="en")
                )
                await caller.first_word(90)
                await caller.hear(30)
                await answered(caller, QUESTION, FACT)
            # A caller who has left may return for 10 s.
            await eventually_in_thread(lambda: receiver.reports, "the report has arrived", 60)
            await eventually_in_thread(lambda: "call" in {span.name for span in spans}, "the trace has arrived", 60)
            lines = agents.logs(platform.product, name)
    (ended,) = [line for line in lines if line["message"] == "call ended"]
    assert receiver.faults == []
    (report,) = [report["data"] for report in receiver.reports]
    check_report(report, ended)
    check_spans(spans, ended)


def check_report(report: dict[str, Any], ended: dict[str, Any]) -> None:
    """Check the report of the call against the worker's log line about its end."""
    for field, key in (("callID", "call_id"), ("jobID", "job_id"), ("room", "room"), ("outcome", "outcome")):
        assert report[field] == ended[key]
    assert (report["agent"], report["outcome"]) == (f"{AGENTS_NAMESPACE}/support", "caller_left")
    greeting, *_, question, reply = report["turns"]  # more than three when the caller was misheard, and asked again
    assert [turn["speaker"] for turn in (greeting, question, reply)] == ["agent", "caller", "agent"]
    assert greeting["text"] == "Hello, this is the furniture shop. How can I help you?"
    assert similarity(question["text"], QUESTION) >= SAME
    assert similarity(reply["text"], FACT) >= SAME
    used = {usage["stage"]: usage for usage in report["usage"]}
    assert [used[stage]["model"] for stage in ("stt", "llm", "tts")] == ["whisper-1", "gpt-4o-mini", "tts-1"]
    assert used["llm"]["inputTokens"] > used["llm"]["outputTokens"] > 0
    assert used["tts"]["characters"] >= len(FACT)
    assert used["stt"]["audioSeconds"] > 0
    latency = report["latencies"][-1]
    stages = [latency[f"{stage}Seconds"] for stage in ("stt", "endOfTurn", "llm", "tts")]
    assert all(seconds is not None for seconds in stages) and latency["totalSeconds"] > 0
    cost = report["cost"]
    assert (cost["currency"], cost["modelsWithoutPrice"]) == ("USD", [])
    assert Decimal(cost["models"]["tts-1"]) == Decimal(used["tts"]["characters"]) * 15 / 1_000_000
    assert Decimal(cost["total"]) == sum(map(Decimal, cost["models"].values()))


def check_spans(spans: list[Span], ended: dict[str, Any]) -> None:
    """Check that the spans are one trace below the request, with the call's id and without its words."""
    by_name = {span.name: span for span in spans}
    assert {"call", "join", "agent_session", "user_turn", "llm_node", "tts_node"} <= set(by_name)
    assert {span.trace_id.hex() for span in spans} == {TRACE_ID}
    root = by_name["call"]
    assert root.parent_span_id.hex() == PARENT_ID
    join, last_words = by_name["join"], max(span.end_time_unix_nano for span in spans if span.name == "agent_speaking")
    assert root.start_time_unix_nano == join.start_time_unix_nano < join.end_time_unix_nano < last_words
    assert last_words <= root.end_time_unix_nano
    for span in spans:
        attributes = {attribute.key: attribute.value.string_value for attribute in span.attributes}
        assert attributes["avatar_agent.call_id"] == ended["call_id"]
        assert not any("nine in the morning" in value for value in attributes.values())
