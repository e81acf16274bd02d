"""A run on the real node with calls and faults, as a real Prometheus sees it with the chart's rules and dashboards.

The rules run in compressed time: tests/soak/compression.py. One second stands for a minute, so that alerts on windows
of hours fire and clear within minutes. Every alert is raised by a real fault, and none fires before its fault.
"""

import asyncio
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, closing
from typing import Any

import aiohttp
import pytest

from devkit.dashboards import cli
from devkit.dashboards.prometheus import Prometheus
from devkit.demo import figures, prometheus
from devkit.demo.caller import PAGE_HEADERS, Caller, request_call
from devkit.demo.conversation import ask
from devkit.demo.product import AGENTS_NAMESPACE, SYSTEM_NAMESPACE
from devkit.instance import Layout
from devkit.paths import REPOSITORY
from devkit.progress import LogProgress
from tests.e2e import agents
from tests.e2e.callers import QUESTION, answered, becomes, greeted
from tests.e2e.conftest import Platform, installed
from tests.e2e.killing import kill_worker
from tests.e2e.pod_logs import PodLogs
from tests.soak import faults
from tests.soak.compression import compress
from tests.soak.observation import FACTOR, SCRAPE_SECONDS, SETTINGS, Observation, metrics_in, panels
from tests.waiting import eventually_blocking, eventually_in_thread

NAME = "observed"
PICTURES = REPOSITORY / "build" / "dashboards"
CLEAR_SECONDS = 480.0
"""Longer than the 6 h window of AnswerBudgetBurnSlow, which is 6 minutes here, and the half hour before it."""
SPARE = 40
"""Agents without workers: more than twice the 16 that the controller reconciles at once."""
CPU = ("controller.resources.requests.cpu=200m", "gateway.resources.requests.cpu=200m")
"""More than the workers have, so that both answer scrapes in time while the workers use all CPU."""
WORKER_RESOURCES = {"requests": {"cpu": "100m", "memory": "512Mi"}}
WITHOUT_DATA: dict[str, str] = {}
"""Queries that rightly return nothing in this run, by dashboard, panel and legend, with the reason."""

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def platform() -> Iterator[Platform]:
    """The installed product without agents."""
    with installed(NAME, *CPU) as platform:
        yield platform


@pytest.fixture
def pod_logs(platform: Platform) -> Iterator[PodLogs]:
    logs = PodLogs(Layout(NAME).nodes[0].pod_logs, {SYSTEM_NAMESPACE, AGENTS_NAMESPACE})
    with closing(logs), logs.watched():
        yield logs


@pytest.fixture
def observed(platform: Platform, pod_logs: PodLogs) -> Observation:
    """Prometheus with the chart's rules in compressed time; it has scraped the agents before the run starts."""
    product = platform.product
    product.apply([served(platform), busy(platform), broken(platform), *spare(platform, "one")])
    for name in ("served", "busy", "broken"):
        product.wait_ready(name, agents.READY_SECONDS)
    options = prometheus.Options(
        settings=SETTINGS,
        change=lambda chart: compress(chart, FACTOR),
        interval=f"{60 // FACTOR}s",  # Prometheus' default, divided
        flags=[f"--query.lookback-delta={300 // FACTOR}s"],
    )
    server = prometheus.start(platform.cluster, product, LogProgress(), options)
    for name in ("served", "busy", "broken"):
        server.wait_scraped(name)
        wait_warm(server.client, name)
    eventually_blocking(
        lambda: not Observation(server.client, time.time()).firing_now(), "alerts of the start have cleared", 60
    )
    return Observation(server.client, time.time())


def wait_warm(client: Prometheus, agent: str) -> None:
    """Wait until a call process is ready for the next call: several workers that start at once take long for that."""
    idle = f'avatar_agent_worker_call_processes{{agent="{agent}",state="idle"}} > 0'

    def is_warm() -> bool:
        now = time.time()
        return bool(client.now(idle, figures.window(now, now)))

    eventually_blocking(is_warm, f"{agent} has an idle call process", 180)


def agent(platform: Platform, name: str, *, avatar: bool = False) -> dict[str, Any]:
    """Return an agent with one or two workers, of which several fit on the node."""
    made = agents.manifest(platform.targets, name, avatar=avatar)
    made["spec"]["worker"] |= {"resources": WORKER_RESOURCES}
    made["spec"]["scaling"] = {"minWorkers": 1, "maxWorkers": 2, "freeSlots": 0, "scaleDownDelaySeconds": 3}
    return made


def served(platform: Platform) -> dict[str, Any]:
    """Return an agent with one avatar seat."""
    made = agent(platform, "served", avatar=True)
    made["spec"]["avatar"] |= {"maxSessions": 1}
    return made


def busy(platform: Platform) -> dict[str, Any]:
    """Return an agent that can hold one call."""
    made = agent(platform, "busy")
    made["spec"]["worker"] |= {"callsPerWorker": 1}
    made["spec"]["scaling"] |= {"maxWorkers": 1}
    return made


def broken(platform: Platform, **persona: str) -> dict[str, Any]:
    """Return the agent that has the faults."""
    made = agent(platform, "broken")
    made["spec"]["persona"] |= persona
    return made


def spare(platform: Platform, greeting: str) -> list[dict[str, Any]]:
    """Return suspended agents."""
    made = [agents.manifest(platform.targets, f"spare-{number}", suspend=True) for number in range(SPARE)]
    for one in made:
        one["spec"]["persona"]["greeting"] = greeting
    return made


# The product's message of the failing language model, and the LiveKit SDK's.
@pytest.mark.allows_errors("provider failed", "Error in _llm_inference_task")
def test_prometheus_sees_calls_and_every_fault(platform: Platform, observed: Observation) -> None:
    asyncio.run(run(platform, observed))
    shutil.rmtree(PICTURES, ignore_errors=True)
    shown = cli.window(observed.started, time.time(), SCRAPE_SECONDS)
    cli.draw(observed.prometheus, shown, PICTURES, LogProgress())
    check_alerts(platform, observed)
    check_queries(platform, observed)


async def run(platform: Platform, observed: Observation) -> None:
    """Run all stages, then wait until every alert has cleared."""
    with observed.stage("callers are greeted"):
        await greeted_calls(platform)
    starting = ("AvatarAgentNotReady", "AvatarAgentWorkersNotRegistered")
    waiting = ("NoFreeSlot", "AtMaxWorkers", "AnswerBudgetBurnFast", "AnswerBudgetBurnSlow")
    with observed.stage(
        "callers wait, and agents do not start", *starting, *(f"AvatarAgent{name}" for name in waiting)
    ):
        async with asyncio.TaskGroup() as group:
            group.create_task(failing_agents(platform, observed))
            group.create_task(waiting_line(platform, observed))
    with observed.stage("the language model fails, then stalls", "AvatarAgentProviderErrors", "AvatarAgentSlowReplies"):
        await failing_provider(platform, observed)
    await stopped_components(platform, observed)
    with observed.stage("workers are killed", "AvatarAgentCallsBreak", "AvatarAgentWorkersLost"):
        await killed_workers(platform, observed)
    with observed.stage("a rollout"):
        await rollout(platform)
    with observed.stage("a webhook is silent", "AvatarAgentReconcilesFail", "AvatarAgentControllerStuck"):
        async with in_thread(faults.silent_webhook(platform)):
            await asyncio.to_thread(platform.product.apply, spare(platform, "two"))
            await observed.fires("AvatarAgentReconcilesFail", "AvatarAgentControllerStuck")
    with observed.stage("all faults are over"):
        async with AsyncExitStack() as stack:
            await greeted(stack, platform, "served", "Last caller")
        await observed.clear(CLEAR_SECONDS)


async def greeted_calls(platform: Platform) -> None:
    """Two callers at once, of whom one gets the avatar; then a request for an agent that does not exist."""
    async with AsyncExitStack() as stack:
        callers = await asyncio.gather(*(greeted(stack, platform, "served", f"Caller {number}") for number in range(2)))
        await eventually_in_thread(lambda: any(caller.video_frames for caller in callers), "the avatar is shown", 60)
    assert await asyncio.to_thread(rejection, platform, "unknown") == "Unauthorized"


def rejection(platform: Platform, name: str) -> str:
    """Request a call, which the gateway rejects; return its reason."""
    headers = {"Content-Type": "application/json", **PAGE_HEADERS}
    body = json.dumps({"agent": name, "name": "Caller"}).encode()
    request = urllib.request.Request(f"{platform.gateway}/v1/calls", data=body, headers=headers, method="POST")
    with pytest.raises(urllib.error.HTTPError) as rejected, urllib.request.urlopen(request, timeout=30):
        pass
    with rejected.value as answer:
        return str(json.load(answer)["reason"])


async def failing_agents(platform: Platform, observed: Observation) -> None:
    """One agent's Secret is missing, and another one's image. Both are deleted after the alerts."""
    keyless = agent(platform, "keyless")
    keyless["spec"]["livekit"]["credentialsSecretRef"]["name"] = "missing"
    imageless = agent(platform, "imageless")
    imageless["spec"]["worker"] |= {"image": "localhost/missing:1"}
    await asyncio.to_thread(platform.product.apply, [keyless, imageless])
    await eventually_in_thread(
        lambda: rejection(platform, "keyless") == "CredentialsMissing", "the gateway misses the Secret", 60
    )
    await observed.fires("AvatarAgentNotReady", "AvatarAgentWorkersNotRegistered")
    delete = ("-n", AGENTS_NAMESPACE, "delete", "avataragent", "keyless", "imageless")
    await asyncio.to_thread(platform.product.kubectl_run, *delete)


async def waiting_line(platform: Platform, observed: Observation) -> None:
    """Five callers wait for the only slot. One gives up; the others are answered in turn, but too late."""
    async with AsyncExitStack() as stack:
        line = [await entered(stack, platform, "busy", f"Caller {number}") for number in range(6)]
        await line[0][0].first_word(90)
        await observed.fires("AvatarAgentNoFreeSlot", "AvatarAgentAtMaxWorkers")
        _, given_up = line.pop()
        await hang_up(platform, given_up)
        await asyncio.gather(*(hung_up_when_answered(platform, caller, opened) for caller, opened in line))
    await observed.fires("AvatarAgentAnswerBudgetBurnFast", "AvatarAgentAnswerBudgetBurnSlow")


async def entered(
    stack: AsyncExitStack, platform: Platform, name: str, caller: str
) -> tuple[Caller, Mapping[str, Any]]:
    """Return a caller in the room, and the gateway's answer to the request."""
    opened, moments = await request_call(platform.gateway, name, caller)
    return await stack.enter_async_context(Caller(caller, opened["url"], opened["token"], moments)), opened


async def hung_up_when_answered(platform: Platform, caller: Caller, opened: Mapping[str, Any]) -> None:
    """Hang up when the agent speaks, so that the next caller gets the slot at once."""
    await caller.first_word(90)
    await hang_up(platform, opened)


async def hang_up(platform: Platform, opened: Mapping[str, Any]) -> None:
    """End a call by request."""
    url = f"{platform.gateway}/v1/calls/{opened['callId']}"
    headers = {"Authorization": f"Bearer {opened['callToken']}"}
    async with aiohttp.ClientSession() as session, session.delete(url, headers=headers) as answer:
        assert answer.status < 300, await answer.text()


@asynccontextmanager
async def in_thread(context: AbstractContextManager[None]) -> AsyncIterator[None]:
    """Enter and leave a blocking context in a thread, so that callers continue meanwhile."""
    await asyncio.to_thread(context.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


async def stopped_components(platform: Platform, observed: Observation) -> None:
    """A caller's call continues while the controllers are stopped, and while the gateway is."""
    product = platform.product
    async with AsyncExitStack() as stack:
        caller = await greeted(stack, platform, "served", "Caller")
        causes = ("AvatarAgentNoLeader", "AvatarAgentControllerUnreachable")
        with observed.stage("the controllers are stopped", *causes):
            async with in_thread(faults.stopped(product, "controller", 2)):
                await observed.fires(*causes)
        with observed.stage("the gateway is stopped", "AvatarAgentGatewayDown"):
            async with in_thread(faults.stopped(product, "gateway", 2)):
                await observed.fires("AvatarAgentGatewayDown")
        assert caller.room.isconnected()
        await greeted(stack, platform, "served", "Later caller")


async def killed_workers(platform: Platform, observed: Observation) -> None:
    """A worker of each of three agents is killed, one of them with three callers. Each caller gets a new agent."""
    called = ("broken", "broken", "broken", "served", "busy")
    async with AsyncExitStack() as stack:
        callers = [await greeted(stack, platform, name, f"Caller {number}") for number, name in enumerate(called)]
        for name in ("broken", "served", "busy"):
            for pod in agents.workers(platform.product, name):
                kill_worker(NAME, pod)
        await eventually_in_thread(lambda: all(len(one.agents) == 2 for one in callers), "new agents join", 120)
        await observed.fires("AvatarAgentCallsBreak", "AvatarAgentWorkersLost")


async def rollout(platform: Platform) -> None:
    product = platform.product
    async with AsyncExitStack() as stack:
        caller = await greeted(stack, platform, "broken", "Caller")
        await asyncio.to_thread(product.apply, [broken(platform, greeting="مَرْحَبًا.")])
        await becomes(product, "broken", "Progressing", "True", "RollingOut", seconds=60)
        await eventually_in_thread(lambda: agents.condition(product, "broken", "Ready")[0] == "True", "it is Ready", 60)
        await greeted(stack, platform, "broken", "Later caller")
        assert caller.room.isconnected()
    await becomes(product, "broken", "Progressing", "False", "RolledOut", seconds=60)


async def failing_provider(platform: Platform, observed: Observation) -> None:
    """The language model fails: the caller hears an apology. Then it stalls, and the answer comes after a retry."""
    async with AsyncExitStack() as stack:
        caller = await greeted(stack, platform, "broken", "Caller")
        with faults.simulated_openai(platform, faults=[{"kind": "500", "endpoints": ["chat"]}]):
            await ask(caller, QUESTION)
        await observed.fires("AvatarAgentProviderErrors")
        with faults.simulated_openai(platform, faults=[{"kind": "stall", "endpoints": ["chat"], "times": 1}]):
            await answered(caller)
        await observed.fires("AvatarAgentSlowReplies")


def check_alerts(platform: Platform, observed: Observation) -> None:
    """Each alert fired after its cause and cleared; no other alert fired."""
    fired = observed.firing()
    for alert, cause in sorted(observed.causes.items(), key=lambda one: one[1]):
        times = fired.get(alert, [])
        lasted = f"{times[0]:6.1f} s to {times[-1]:6.1f} s" if times else "never"
        print(f"{alert:<36} caused {cause - observed.started:6.1f} s, fired {lasted}")
    assert set(fired) == set(observed.causes)
    for alert, times in fired.items():
        assert observed.started + times[0] >= observed.causes[alert] - SCRAPE_SECONDS, f"{alert} fired before its cause"
    assert observed.firing_now() == set()
    assert set(observed.causes) == {rule["alert"] for rule in rules(platform) if "alert" in rule}


def check_queries(platform: Platform, observed: Observation) -> None:
    """Every query of a panel returned data, and every metric of a panel or rule had a series."""
    window = observed.window(step=5.0)
    empty = {
        f"{dashboard}: {panel.title}: {query.legend}"
        for dashboard, panel in panels(window)
        for query in panel.queries
        if not observed.has_data(query.expression, window)
    }
    assert empty == set(WITHOUT_DATA)
    expressions = [query.expression for _, panel in panels(window) for query in panel.queries]
    names = set().union(*map(metrics_in, expressions + [rule["expr"] for rule in rules(platform)]))
    names |= {rule["record"] for rule in rules(platform) if "record" in rule}
    assert names - observed.metrics(names) == set()


def rules(platform: Platform) -> list[dict[str, Any]]:
    """Return the chart's rules."""
    chart = platform.product.render(*prometheus.SETTINGS)
    (found,) = [document for document in chart if document["kind"] == "PrometheusRule"]
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]
