"""The gateway's metrics: each call counted once, series of declared agents only, requests by route and by method."""

import asyncio
from dataclasses import replace

import aiohttp
import httpx
import pytest
from aiohttp import web

from agentspec.wire import CallOutcome, JobReport, WorkerCalls
from gateway.agents import InvalidAgent
from gateway.calls.call import OUTCOMES, CallReason, CallState, Cause
from gateway.calls.metrics import _endings
from gateway.calls.step import AGENT_GRACE_SECONDS
from gateway.cluster.members import Members
from gateway.cluster.supply import SupplyExchange
from gateway.errors import ErrorReason
from gateway.livekit.server import LiveKitError, LiveKitServer
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from process.health import exposition_of
from tests.unit.gateway.fakes import CREDENTIALS, World, example_agent
from tests.unit.gateway.scenes import (
    BODY,
    JOINED,
    WAITING,
    becomes_true,
    current,
    livekit_server,
    open_call,
    reaches,
    report_outcome,
)

PREFIX = "avatar_agent_gateway_"
LABELS = {"agent_namespace": "agents", "agent": "ornina"}
OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(PREFIX + name, labels)


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """The samples of the agent that are not 0, by the values of their other labels in alphabetical order."""
    found = [one for family in metrics.registry.collect() for one in family.samples if one.name == PREFIX + name]
    return {
        tuple(value for label, value in sorted(one.labels.items()) if label not in LABELS): one.value
        for one in found
        if one.value
    }


def agents_of(metrics: Metrics) -> set[str]:
    """The agents that have series."""
    found = [one.labels.get("agent") for family in metrics.registry.collect() for one in family.samples]
    return {agent for agent in found if agent is not None}


@pytest.mark.usefixtures("virtual_clock")
async def test_call_is_counted_once_where_it_opens_and_once_where_it_ends(world: World) -> None:
    metrics = world.gateway.metrics
    call = await open_call(world, key="one-and-the-same")
    await open_call(world, key="one-and-the-same", caller=False)  # the same call again
    assert sample(metrics, "calls_opened_total", **LABELS) == 1
    await reaches(world, call, CallState.JOINED)
    assert samples(metrics, "calls_ended_total") == {}
    assert samples(metrics, "calls") == {("joined",): 1}
    report_outcome(world, call, CallOutcome.PROVIDER_FAILED)
    world.livekit.disconnect(call.room, world.livekit.agents_in(call.room)[0])
    await reaches(world, call, CallState.FAILED)
    await world.gateway.dispatcher.hang_up(call)  # it is over already
    assert samples(metrics, "calls_ended_total") == {("true", "failed", "ProviderFailed"): 1}
    assert samples(metrics, "calls") == {}
    assert sample(metrics, "calls_opened_total", **LABELS) == 1
    assert sample(metrics, "join_duration_seconds_count", **LABELS) == 1


@pytest.mark.usefixtures("virtual_clock")
async def test_call_without_an_agent_ends_unjoined(world: World) -> None:
    metrics = world.gateway.metrics
    world.supply.free = 0
    call = await open_call(world)
    assert samples(metrics, "calls") == {("waiting",): 1}
    await reaches(world, call, CallState.FAILED)
    assert samples(metrics, "calls_ended_total") == {("false", "failed", "NoFreeSlot"): 1}
    assert sample(metrics, "join_duration_seconds_count", **LABELS) == 0


@pytest.mark.usefixtures("virtual_clock")
async def test_call_without_a_seat_is_counted_once(world: World) -> None:
    world.supply.seats = 0
    world.livekit.joins = False
    call = await open_call(world)
    failed = await reaches(world, call, CallState.FAILED)
    assert len(failed.causes) > 1, "it was dispatched again"
    assert sample(world.gateway.metrics, "calls_without_seat_total", **LABELS) == 1


async def test_series_of_each_agent_start_at_zero(world: World) -> None:
    metrics = world.gateway.metrics
    world.agents.listed = [example_agent(), InvalidAgent("agents", "broken", "spec.colour: unknown field")]
    for agent in ("ornina", "broken"):
        own = LABELS | {"agent": agent}
        durations = ("join_duration_seconds_count", "rescue_duration_seconds_count")
        for name in ("calls_opened_total", "calls_without_seat_total", *durations):
            assert sample(metrics, name, **own) == 0
        waits = [sample(metrics, "wait_duration_seconds_count", **own, joined=joined) for joined in ("true", "false")]
        assert waits == [0, 0]
        assert all(sample(metrics, "dispatches_total", **own, cause=cause) == 0 for cause in Cause)
        assert {sample(metrics, "calls", **own, state=state) for state in ("waiting", "dispatched", "joined")} == {0}
        for outcome, reason, joined in _endings():
            assert sample(metrics, "calls_ended_total", **own, outcome=outcome, reason=reason, joined=joined) == 0
    assert all(sample(metrics, "requests_rejected_total", reason=reason) == 0 for reason in ErrorReason)
    assert sample(metrics, "livekit_request_duration_seconds_count", method="CreateRoom", code="unreachable") == 0


def test_endings_agree_with_the_outcomes_of_workers() -> None:
    known = {(outcome, reason) for outcome, reason, _ in _endings()}
    assert {(state.value, reason.value) for state, reason in OUTCOMES.values()} <= known
    assert {reason for _, reason in known} == {reason.value for reason in CallReason if reason is not CallReason.NONE}


@pytest.mark.usefixtures("virtual_clock")
async def test_deleted_agent_leaves_no_series(world: World) -> None:
    metrics = world.gateway.metrics
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    assert agents_of(metrics) == {"ornina"}
    world.agents.listed = []
    assert agents_of(metrics) == set()
    await world.gateway.dispatcher.hang_up(call)  # counted after the agent's series have gone
    assert agents_of(metrics) == set()


async def test_join_duration_has_the_call_as_exemplar() -> None:
    metrics = Metrics()
    metrics.calls.follow(lambda: [example_agent()], dict, lambda agent_key: True)
    joined = replace(JOINED, id="call-7", state_since=JOINED.created_at + 1.2)
    metrics.calls.record_join(replace(joined, state=CallState.DISPATCHED, state_since=JOINED.created_at), joined)
    body, content_type = await exposition_of(metrics.registry)(OPEN_METRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    name = "avatar_agent_gateway_join_duration_seconds_bucket"
    (line,) = [line for line in body.decode().splitlines() if "#" in line[1:] and line.startswith(name)]
    assert 'agent="ornina"' in line
    assert 'le="1.5"} 1.0 # {call_id="call-7"} 1.2' in line
    assert body.endswith(b"# EOF\n")
    text, content_type = await exposition_of(metrics.registry)("")
    assert content_type.startswith("text/plain")
    assert b"call-7" not in text


async def test_requests_are_measured_by_route(http: httpx.AsyncClient, world: World) -> None:
    call = await open_call(world)
    await http.get(f"/v1/calls/{call.id}")
    await http.get("/nothing")
    await http.request("BREW", "/v1/calls")
    await http.options("/v1/calls", headers={"Origin": "http://gateway.example"})
    await http.get("/")
    counted = samples(world.gateway.metrics, "http_request_duration_seconds_count")
    assert {(code, method, route) for code, method, route in counted} == {
        ("404", "GET", "/v1/calls/{call_id}"),
        ("404", "GET", "unmatched"),
        ("405", "other", "/v1/calls"),
        ("405", "OPTIONS", "/v1/calls"),
        ("200", "GET", "/"),
    }
    assert sample(world.gateway.metrics, "requests_rejected_total", reason="NotFound") == 1


async def test_unexpected_error_is_measured_as_500(
    http: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.gateway.ledger, "admission", lambda *_: 1 / 0)
    await http.post("/v1/calls", json=BODY)
    counted = samples(world.gateway.metrics, "http_request_duration_seconds_count")
    assert counted == {("500", "POST", "/v1/calls"): 1}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (web.Response(body=b""), "ok"),
        (web.json_response({"code": "unauthenticated", "msg": "no"}, status=401), "unauthenticated"),
        (web.json_response({"code": "a-code-of-no-livekit", "msg": "no"}, status=403), "unknown"),
        (web.Response(text="<html>welcome</html>"), "unreachable"),
    ],
    ids=["success", "rejected", "unknown code", "not LiveKit"],
)
async def test_livekit_requests_are_measured_by_method(answer: web.Response, code: str) -> None:
    observed: list[tuple[str, str]] = []

    async def respond(_: web.Request) -> web.Response:
        return answer

    async with livekit_server(respond) as url, aiohttp.ClientSession() as session:
        server = LiveKitServer(
            url, CREDENTIALS, session, lambda: None, lambda method, code, seconds: observed.append((method, code))
        )
        try:
            await server.rooms()
        except LiveKitError:
            assert code != "ok"
    assert observed == [("ListRooms", code)]


def test_reachability_is_reported_only_with_a_controller() -> None:
    session = object()
    without, configured = Metrics(), Metrics()
    SupplyExchange(GatewaySettings(), session, dict, without.set_controller_reachable, Members("g", ""))  # type: ignore[arg-type]
    assert sample(without, "controller_reachable") is None
    settings = GatewaySettings(controller_url="http://controller")
    SupplyExchange(settings, session, dict, configured.set_controller_reachable, Members("g", ""))  # type: ignore[arg-type]
    assert sample(configured, "controller_reachable") == 0, "it has not answered yet"


@pytest.mark.usefixtures("virtual_clock")
async def test_wait_ends_with_the_dispatch_that_an_agent_joins_by(world: World) -> None:
    metrics = world.gateway.metrics
    at_once = await open_call(world)
    await reaches(world, at_once, CallState.JOINED)
    assert sample(metrics, "wait_duration_seconds_sum", **LABELS, joined="true") == 0
    world.supply.free, world.livekit.slots = 0, 2
    queued = await open_call(world)
    await asyncio.sleep(7)
    world.supply.free = 1
    joined = await reaches(world, queued, CallState.JOINED)
    assert sample(metrics, "wait_duration_seconds_count", **LABELS, joined="true") == 2
    waited = sample(metrics, "wait_duration_seconds_sum", **LABELS, joined="true")
    assert waited is not None
    assert 7 <= waited <= joined.state_since - joined.created_at
    assert sample(metrics, "wait_duration_seconds_count", **LABELS, joined="false") == 0


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize(("caller", "count"), [(True, 1), (False, 0)], ids=["caller waited", "caller never came"])
async def test_wait_without_an_agent_counts_for_callers_only(world: World, caller: bool, count: int) -> None:
    world.supply.free = 0
    call = await open_call(world, caller=caller)
    await becomes_true(lambda: not current(world, call).is_live)
    over = current(world, call)
    assert sample(world.gateway.metrics, "wait_duration_seconds_count", **LABELS, joined="false") == count
    waited = sample(world.gateway.metrics, "wait_duration_seconds_sum", **LABELS, joined="false")
    assert waited == pytest.approx(count * (over.state_since - over.created_at))


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize(
    ("is_reported", "seconds"), [(True, 0), (False, AGENT_GRACE_SECONDS)], ids=["worker reported lost", "agent absent"]
)
async def test_rescue_time_includes_the_time_in_which_the_agent_may_return(
    world: World, is_reported: bool, seconds: float
) -> None:
    metrics = world.gateway.metrics
    world.livekit.slots = 2
    call = await open_call(world)
    await reaches(world, call, CallState.JOINED)
    (identity,) = world.livekit.agents_in(call.room)
    world.livekit.disconnect(call.room, identity)
    if is_reported:
        job = JobReport(job_id=identity.removeprefix("agent-"), room=call.room)
        world.gateway.reports.receive(WorkerCalls(agent=call.agent.key, worker="pod-1", jobs=[job], lost=True))
    await becomes_true(lambda: Cause.AGENT_LOST in current(world, call).causes)
    await reaches(world, call, CallState.JOINED)
    rescued = sample(metrics, "rescue_duration_seconds_sum", **LABELS)
    assert rescued is not None
    assert seconds <= rescued < seconds + AGENT_GRACE_SECONDS
    assert sample(metrics, "rescue_duration_seconds_count", **LABELS) == 1
    assert sample(metrics, "join_duration_seconds_count", **LABELS) == 1, "a rescue is no join of the first agent"


def test_gateway_that_does_not_act_reports_no_calls() -> None:
    metrics, acts = Metrics(), True
    counts = {(WAITING.agent.key, CallState.WAITING): 3}
    metrics.calls.follow(lambda: [WAITING.agent], lambda: counts, lambda agent_key: acts)
    assert samples(metrics, "calls") == {("waiting",): 3}
    acts = False
    assert samples(metrics, "calls") == {}, "another gateway reports them"


def test_adopted_call_is_not_opened_again() -> None:
    metrics = Metrics()
    counts = {(WAITING.agent.key, CallState.WAITING): 1}
    metrics.calls.follow(lambda: [WAITING.agent], lambda: counts, lambda agent_key: True)
    assert sample(metrics, "calls_opened_total", **LABELS) == 0
    assert samples(metrics, "calls") == {("waiting",): 1}
