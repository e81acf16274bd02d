"""The metrics of controller, gateway and worker during a call: promtool's linter, OpenMetrics, and the exemplar."""

import asyncio
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parsed_text

from agentspec.names import AGENT_LABEL, COMPONENT_LABEL
from devkit import debian
from devkit.demo.caller import Caller, request_call
from devkit.demo.product import AGENTS_NAMESPACE, SYSTEM_NAMESPACE
from devkit.progress import LogProgress
from tests.e2e import agents
from tests.e2e.callers import answered
from tests.e2e.conftest import Platform

pytestmark = pytest.mark.timeout(400)

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
PORTS = {"controller": 8080, "gateway": 8081, "worker": 8080}


def targets(platform: Platform, agent: str) -> Iterator[tuple[str, str]]:
    """Yield the component and the URL of each process: both controllers, the gateway and the agent's worker."""
    pods: list[tuple[str, dict[str, Any]]] = [
        (component, pod)
        for component in ("controller", "gateway")
        for pod in platform.product.items("pods", f"{COMPONENT_LABEL}={component}", SYSTEM_NAMESPACE)
    ]
    pods += [("worker", pod) for pod in platform.product.items("pods", f"{AGENT_LABEL}={agent}")]
    for component, pod in pods:
        yield component, f"http://{pod['status']['podIP']}:{PORTS[component]}/metrics"


def scraped(url: str, accept: str) -> tuple[str, str]:
    """Return the content type and the text of a scrape."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_metrics_of_all_processes_are_valid_during_a_call(platform: Platform) -> None:
    promtool = debian.ensure(LogProgress(), debian.PROMETHEUS)["promtool"]

    async def scrapes(agent: str) -> tuple[str, list[tuple[str, str, str]]]:
        answer, moments = await request_call(platform.gateway, agent, "Caller")
        async with Caller("Caller", answer["url"], answer["token"], moments) as caller:
            await caller.first_word(30)
            await caller.hear(30)
            await answered(caller)
            found = [
                (component, *await asyncio.to_thread(scraped, url, accept))
                for accept in ("text/plain", OPEN_METRICS)
                for component, url in targets(platform, agent)
            ]
        return answer["callId"], found

    with agents.declared(platform.product, agents.manifest(platform.targets, "metrics")) as name:
        call_id, found = asyncio.run(scrapes(name))
    assert [component for component, _, _ in found] == 2 * ["controller", "controller", "gateway", "gateway", "worker"]
    exemplars = set()
    for component, content_type, text in found:
        if content_type.startswith("text/plain"):
            checked = subprocess.run(
                [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
            )
            assert (checked.returncode, checked.stdout + checked.stderr) == (0, ""), component
            continue
        assert content_type.startswith("application/openmetrics-text; version=1.0.0"), component
        for family in parsed_open_metrics(text):  # type: ignore[no-untyped-call]
            exemplars |= {
                (component, one.name, one.exemplar.labels["call_id"]) for one in family.samples if one.exemplar
            }
    assert ("gateway", "avatar_agent_gateway_join_duration_seconds_bucket", call_id) in exemplars
    plain = [(component, text) for component, content_type, text in found if content_type.startswith("text/plain")]
    (worker,) = [text for component, text in plain if component == "worker"]
    assert "avatar_agent_worker_calls 1.0\n" in worker
    assert re.search(r"^avatar_agent_worker_turn_duration_seconds_count [12]\.0$", worker, re.MULTILINE)
    joined = {"agent_namespace": AGENTS_NAMESPACE, "agent": name, "state": "joined"}
    families = [family for component, text in plain if component == "gateway" for family in parsed_text(text)]
    calls = [one for family in families if family.name == "avatar_agent_gateway_calls" for one in family.samples]
    assert sorted(one.value for one in calls if one.labels == joined) == [0, 1], "one gateway owns the agent"
