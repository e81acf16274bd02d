"""Fifty callers at once, on ten warm slots: all are answered, none twice, in the order in which they called."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest

from devkit.demo.product import AGENTS_NAMESPACE, SYSTEM_NAMESPACE, Product
from devkit.instance import Layout
from tests.e2e import agents
from tests.e2e.conftest import Platform, installed
from tests.e2e.pod_logs import PodLogs
from tests.e2e.test_replicas import gateways
from tests.soak.crowd import Answered, call_together
from tests.waiting import eventually_blocking

NAME = "crowd"
CALLERS = 50
WARM_WORKERS = 5
SLOTS_PER_WORKER = 2
"""As many as a worker keeps idle call processes, so that all slots are warm."""
WARM_SLOTS = WARM_WORKERS * SLOTS_PER_WORKER
FIRST_WORD_SECONDS = 115.0
"""The gateway searches an agent for 120 s."""
SIDE_BY_SIDE_SECONDS = 0.5
"""How much earlier a dispatch may be complete than one that began before it."""
SETTINGS = (
    "gateway.publicCallsPerMinute=600",  # all callers have the address of this machine
    # More than the workers have, so that both respond while the workers use all CPU. LiveKit and the simulated
    # providers run outside of the kubelet's account, and take most of what the node's pods were promised.
    "controller.resources.requests.cpu=200m",
    "gateway.resources.requests.cpu=400m",
)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def platform() -> Iterator[Platform]:
    """The installed product without agents."""
    with installed(NAME, *SETTINGS) as platform:
        yield platform


@pytest.fixture
def pod_logs(platform: Platform) -> Iterator[PodLogs]:
    logs = PodLogs(Layout(NAME).nodes[0].pod_logs, {SYSTEM_NAMESPACE, AGENTS_NAMESPACE})
    with closing(logs), logs.watched():
        yield logs


def declaration(platform: Platform) -> dict[str, Any]:
    """Return an agent that may get more workers than are warm.

    The machine has two processor cores for the crowd and for everything that answers it. So callers take turns on the
    slots, and an agent may take longer to join.
    """
    manifest = agents.manifest(platform.targets, "crowd", conversation={"idlePromptSeconds": 0})
    manifest["spec"]["dispatch"]["joinTimeoutSeconds"] = 60
    manifest["spec"]["worker"] = {
        "callsPerWorker": SLOTS_PER_WORKER,
        "maxCallMinutes": 5,
        "resources": {"requests": {"cpu": "60m", "memory": "512Mi"}},
    }
    manifest["spec"]["scaling"] = {
        "minWorkers": WARM_WORKERS,
        "maxWorkers": WARM_WORKERS + 3,
        "freeSlots": 0,
        "scaleDownDelaySeconds": 600,  # the logs of all workers are read at the end
    }
    return manifest


def lines(product: Product, namespace: str, pods: Sequence[str], message: str, agent_name: str) -> list[dict[str, Any]]:
    """Return the lines with this message about an agent that these pods logged, in the order of their times."""
    read = (product.kubectl_run("-n", namespace, "logs", pod).splitlines() for pod in pods)
    logged = [json.loads(line) for log in read for line in log if line.startswith("{")]
    found = [line for line in logged if (line["message"], line.get("agent_name")) == (message, agent_name)]
    return sorted(found, key=lambda line: str(line["time"]))


def test_fifty_callers_at_once_are_answered_once_and_in_order(platform: Platform) -> None:
    product = platform.product

    def active() -> int:
        count: int = product.get("avataragent", "crowd")["status"]["calls"]["active"]
        return count

    with agents.declared(product, declaration(platform)) as name:
        eventually_blocking(lambda: len(agents.serving(product, name)) == WARM_WORKERS, "all slots are warm", 90)
        answers = call_together(platform.gateway, name, CALLERS, FIRST_WORD_SECONDS)
        eventually_blocking(lambda: active() == 0, "no call is left", 60)
        workers = agents.worker_names(product, name)
        accepted = lines(product, AGENTS_NAMESPACE, workers, "room accepted", "crowd-agent")
        dispatched = lines(product, SYSTEM_NAMESPACE, gateways(product), "call dispatched", "crowd-agent")
    report(answers, accepted, dispatched, len(workers))
    check_answered_once(answers, accepted)
    check_order(answers, dispatched)


def report(
    answers: Sequence[Answered], accepted: Sequence[dict[str, Any]], dispatched: Sequence[dict[str, Any]], workers: int
) -> None:
    """Print how long the callers waited, and how far the steps after the dispatch left the order of the calls."""
    waits = [one.first_word for one in answers]
    print(f"\nfirst word: median {statistics.median(waits):.1f} s, longest {max(waits):.1f} s")
    print(
        f"longest request {max(one.opened for one in answers):.2f} s, "
        f"longest connection {max(one.connected - one.opened for one in answers):.2f} s"
    )
    print(f"{sum(one.was_waiting for one in answers)} calls waited; {len(dispatched)} dispatches, {workers} workers")
    expected = [one.room for one in sorted(answers, key=lambda one: one.created_at)]
    heard = [one.room for one in sorted(answers, key=lambda one: one.created_at + one.first_word)]
    rooms = list(dict.fromkeys(line["room"] for line in accepted))
    print(f"most places out of order: accepted {most_places(rooms, expected)}, heard {most_places(heard, expected)}")


def most_places(order: Sequence[str], expected: Sequence[str]) -> int:
    """Return the most places that a room is before or behind its place in the expected order."""
    places = {room: place for place, room in enumerate(expected)}
    return max(abs(places[room] - place) for place, room in enumerate(order))


def check_answered_once(answers: Sequence[Answered], accepted: Sequence[dict[str, Any]]) -> None:
    """Check that each caller had one agent, and that one worker accepted each room."""
    assert [len(one.agents) for one in answers] == [1] * CALLERS
    assert Counter(line["room"] for line in accepted) == Counter(one.room for one in answers)


def check_order(answers: Sequence[Answered], dispatched: Sequence[dict[str, Any]]) -> None:
    """Check that the gateway dispatched the calls in the order of their creation, the waiting ones after the others.

    Slots that become free together are taken side by side, so one may be complete shortly before an older one.
    """
    created = {one.room: one.created_at for one in answers}
    expected = sorted(created, key=created.__getitem__)
    # A call with a free slot is dispatched by its creation, and logged when LiveKit has the room.
    at_once = sorted((one.room for one in answers if not one.was_waiting), key=created.__getitem__)
    assert at_once == expected[:WARM_SLOTS]
    # LiveKit may fail to take a dispatch on a busy machine: the gateway repeats it, and the first counts.
    at = {line["room"]: datetime.fromisoformat(line["time"]).timestamp() for line in reversed(dispatched)}
    latest = 0.0
    for room in expected[WARM_SLOTS:]:
        assert at[room] > latest - SIDE_BY_SIDE_SECONDS, f"{room} was dispatched before an older call"
        latest = max(latest, at[room])
