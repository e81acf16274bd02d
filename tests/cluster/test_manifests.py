"""Five hundred manifests, most of them unusual or invalid: the schema rejects or a condition explains each."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from agentspec import AvatarAgentSpec, Condition, ConditionStatus, ConditionType, Reason
from agentspec.conditions import REASONS
from agentspec.roompattern import RoomPatternInvalid, compile_pattern
from controller.policy.specification import language_fault
from devkit.cluster import Cluster
from kube.client import ApiError, Document
from kube.kinds import AVATAR_AGENT, CONFIG_MAP, Kind
from tests.cluster import manifests
from tests.cluster.manifest_strategies import Servers, Spec, certain, specs
from tests.cluster.openai import OpenAI
from tests.cluster.process import RunningController
from tests.cluster.world import World, open_world
from tests.waiting import eventually

HOW_MANY = 500
AT_ONCE = 10
EXPLAINED_SECONDS = 180.0
QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
COME_UP = {
    *(Reason.INVALID_SPEC, Reason.APPLY_REJECTED, Reason.SUSPENDED, Reason.NAME_TAKEN, Reason.NOT_REGISTERED),
    *(Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.LIVEKIT_UNREACHABLE, Reason.PROVIDER_UNREACHABLE),
    *(Reason.CONFIG_MAP_NOT_FOUND, Reason.CONFIG_MAP_KEY_MISSING, Reason.KNOWLEDGE_EMPTY, Reason.KNOWLEDGE_TOO_LARGE),
}
"""Reasons that these manifests must cause."""


def drawn(there: Servers) -> list[Spec]:
    """Return specs that all differ, except those with the same name."""
    first, found = certain(there), dict[str, Spec]()

    @settings(
        max_examples=2 * HOW_MANY,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(specs(there))
    def collect(spec: Spec) -> None:
        found[json.dumps(spec, sort_keys=True)] = spec

    collect()
    return [*first, *found.values()][:HOW_MANY]


@pytest.fixture(scope="module")
def cases(cluster: Cluster, openai: OpenAI) -> list[Spec]:
    """The specs, drawn before a worker runs: drawing blocks the event loop for seconds, and the worker's answers."""
    return drawn(Servers(cluster.livekit_url, openai.url))


@pytest.fixture
async def furnished(world: World) -> AsyncIterator[World]:
    """A namespace with ConfigMaps, and a quota without pods, because a manifest may request a thousand."""
    async with open_world(world.cluster, world.openai, f"wild-{secrets.token_hex(3)}") as opened:
        await furnish(opened)
        yield opened


async def furnish(world: World) -> None:
    quota = {"metadata": {"namespace": world.namespace, "name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await world.put(QUOTA, quota)
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "texts", a="Text.", **{"b.md": "More."}))
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "empty", a=" "))
    await world.put(CONFIG_MAP, manifests.config_map(world.namespace, "large", a="x" * 300_000))
    binary = {"metadata": {"namespace": world.namespace, "name": "binary"}, "binaryData": {"a": "/w=="}}
    await world.put(CONFIG_MAP, binary)


@pytest.mark.timeout(600)
async def test_every_manifest_is_rejected_or_explained(
    cases: list[Spec], world: World, furnished: World, controller: RunningController
) -> None:
    await world.declare("good")
    await world.becomes("good", "True")
    before = await world.deployment("good")
    assert len(cases) == HOW_MANY

    refusals = await declare_all(furnished, cases)
    assert {status for status, _ in refusals} <= {400, 422}, Counter(status for status, _ in refusals)
    assert all(message and "should match" not in message for _, message in refusals), (
        "the message says what to set instead"
    )
    accepted = HOW_MANY - len(refusals)
    assert min(accepted, len(refusals)) > HOW_MANY / 5, "one kind is rare"

    agents = await all_explained(furnished)
    assert len(agents) == accepted
    for agent in agents:
        check_explanation(agent)
    reasons = Counter(condition.reason for agent in agents for condition in conditions_of(agent).values())
    assert set(reasons) >= COME_UP

    assert controller.process.poll() is None
    assert controller.answers("/livez") == 200
    ready = await world.condition("good")
    assert ready["status"] == "True", ready
    after = await world.deployment("good")
    assert before is not None and after is not None
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


async def all_explained(world: World) -> list[Document]:
    """Return all agents, once each has an explanation."""
    agents: list[Document] = []

    async def explained() -> bool:
        agents[:] = await world.client.list(AVATAR_AGENT, world.namespace)
        return all(is_explained(agent) for agent in agents)

    try:
        await eventually(explained, "every agent has conditions", EXPLAINED_SECONDS)
    except AssertionError:
        left = [agent for agent in agents if not is_explained(agent)]
        pytest.fail(f"{len(left)} of {len(agents)} agents are not explained, such as {left[0]}")
    return agents


async def declare_all(world: World, cases: list[Spec]) -> list[tuple[int, str]]:
    """Create agents as kubectl does; return the rejections."""
    refusals = []
    turns = asyncio.Semaphore(AT_ONCE)

    async def declare(name: str, spec: Spec) -> None:
        body = {"apiVersion": AVATAR_AGENT.api_version, "kind": AVATAR_AGENT.kind, "metadata": {"name": name}}
        async with turns:
            try:
                await world.client._request(
                    "POST", AVATAR_AGENT.path(world.namespace), {"fieldValidation": "Strict"}, {**body, "spec": spec}
                )
            except ApiError as error:
                refusals.append((error.status, error.message))

    await asyncio.gather(*(declare(f"case-{number}", spec) for number, spec in enumerate(cases)))
    return refusals


def conditions_of(agent: Document) -> dict[ConditionType, Condition]:
    found = [Condition.model_validate(raw) for raw in agent.get("status", {}).get("conditions", [])]
    return {condition.type: condition for condition in found}


def is_explained(agent: Document) -> bool:
    """Whether all conditions of an agent are for the current spec, and Ready is final."""
    ready = conditions_of(agent).get(ConditionType.READY)
    generation: int = agent["metadata"]["generation"]
    return (
        ready is not None
        and ready.reason not in (Reason.WORKERS_STARTING, Reason.CREDENTIALS_PENDING)
        and agent["status"]["observedGeneration"] == generation
    )


def check_explanation(agent: Document) -> None:
    """Check that reasons are known, messages are not empty, and statements are true."""
    found = conditions_of(agent)
    for condition in found.values():
        assert condition.reason in REASONS[condition.type], condition
        assert condition.message, condition
        assert condition.last_transition_time, condition
    ready, spec = found[ConditionType.READY], AvatarAgentSpec.model_validate(agent["spec"])
    invalid = ready.reason is Reason.INVALID_SPEC
    can_hear = language_fault(spec) is None
    assert invalid == (not usable(spec.dispatch.room_name_pattern) or not can_hear), (ready, spec)
    if invalid:
        return
    assert set(found) == set(ConditionType), "all other agents have every condition"
    assert (ready.status is ConditionStatus.TRUE) == works(found), found
    assert "decoding" not in ready.message, "the controller's messages are readable"


def usable(pattern: str) -> bool:
    try:
        compile_pattern(pattern)
    except RoomPatternInvalid:
        return False
    return True


def works(found: dict[ConditionType, Condition]) -> bool:
    """Check Ready: no pod can run here, so only an agent without workers can be Ready."""
    return found[ConditionType.READY].reason is Reason.ALL_CHECKS_PASSED and (
        found[ConditionType.WORKERS_REGISTERED].reason is Reason.NO_WORKERS_NEEDED
    )
