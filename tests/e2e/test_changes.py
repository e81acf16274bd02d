"""Manifests change during a call: the call continues unchanged, and the next call follows the new manifest."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agentspec.names import AGENT_LABEL
from devkit.demo.product import AGENTS_NAMESPACE
from tests.e2e import agents
from tests.e2e.browser import failure_on_page
from tests.e2e.callers import answered, becomes, greeted, refused, says
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking, eventually_in_thread

pytestmark = pytest.mark.timeout(400)

NEW_GREETING = "Welcome to our office. We are on holiday until Sunday."


def uids(platform: Platform, kind: str, agent: str) -> dict[str, str]:
    """Return the uids of the agent's objects of a kind, by name."""
    found = platform.product.items(kind, f"{AGENT_LABEL}={agent}")
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in found}


def calls(platform: Platform, agent: str) -> dict[str, int]:
    """Return the counts of calls in the status."""
    counted: dict[str, int] = platform.product.get("avataragent", agent)["status"]["calls"]
    return counted


def test_new_greeting_reaches_new_calls_and_cuts_no_call(platform: Platform) -> None:
    product = platform.product
    agent = agents.one_slot(platform.targets, "edited")
    old_greeting = agent["spec"]["persona"]["greeting"]

    async def edit_under_a_call(name: str) -> None:
        async with AsyncExitStack() as staying, AsyncExitStack() as later:
            first = await greeted(staying, platform, name, "First", hangs_up=True)
            await says(first, old_greeting)
            (old,) = agents.worker_names(product, name)
            agent["spec"]["persona"]["greeting"] = NEW_GREETING
            await asyncio.to_thread(product.apply, [agent])
            rolling_out = ("True", "RollingOut", "1 of 1 workers updated; 1 old worker is finishing 1 call.")
            await becomes(product, name, "Progressing", *rolling_out, seconds=60)
            second = await greeted(later, platform, name, "Second")
            await says(second, NEW_GREETING)
            await answered(first)
            assert old in agents.worker_names(product, name)
            assert old not in agents.serving(product, name)
            assert agents.condition(product, name, "Ready")[0] == "True"
            await staying.aclose()
            await eventually_in_thread(
                lambda: old not in agents.worker_names(product, name), "the old worker exits", 60
            )

    with agents.declared(product, agent) as name:
        before = uids(platform, "replicasets", name)
        asyncio.run(edit_under_a_call(name))
        rolled_out = ("False", "RolledOut")
        eventually_blocking(lambda: agents.condition(product, name, "Progressing")[:2] == rolled_out, "rolled out", 30)
        after = uids(platform, "replicasets", name)
        assert len(before) == 1
        assert before.items() < after.items()
        assert len(after) == 2, "one rollout"


def test_suspended_agent_finishes_its_call_and_takes_no_other(platform: Platform, tmp_path: Path) -> None:
    product = platform.product
    agent = agents.one_slot(platform.targets, "paused")

    async def suspend_under_a_call(name: str) -> None:
        async with AsyncExitStack() as stack:
            caller = await greeted(stack, platform, name, "Caller", hangs_up=True)
            await asyncio.to_thread(product.apply, [suspended(agent, True)])
            draining = ("True", "Draining", "spec.suspend is true: 1 worker is draining.")
            await becomes(product, name, "Progressing", *draining)
            assert agents.condition(product, name, "Ready")[:2] == ("False", "Suspended")
            reason, message = await asyncio.to_thread(refused, platform, name)
            assert reason == "Suspended"
            assert "Set spec.suspend: false" in message
            await eventually_in_thread(lambda: not agents.serving(product, name), "the worker is not ready", 30)
            await answered(caller)
            assert calls(platform, name)["active"] == 1

    async def one_call(name: str) -> None:
        async with AsyncExitStack() as stack:
            await greeted(stack, platform, name, "Caller")

    with agents.declared(product, agent) as name:
        kinds = ("configmaps", "poddisruptionbudgets", "deployments")
        before = {kind: uids(platform, kind, name) for kind in kinds}
        asyncio.run(suspend_under_a_call(name))
        eventually_blocking(lambda: not agents.workers(product, name), "the worker exits after the call", 60)
        suspension = ("False", "Suspended")
        eventually_blocking(
            lambda: agents.condition(product, name, "Progressing")[:2] == suspension, "Progressing is Suspended", 30
        )
        eventually_blocking(lambda: calls(platform, name)["active"] == 0, "no call is counted", 30)
        assert {kind: uids(platform, kind, name) for kind in kinds} == before
        (deployment,) = product.items("deployments", f"{AGENT_LABEL}={name}")
        assert deployment["spec"]["replicas"] == 0
        closed = ("Suspended", "This agent is not taking calls at the moment. Please try again later.")
        assert failure_on_page(platform, name, tmp_path / "profile") == closed
        product.apply([suspended(agent, False)])
        product.wait_ready(name, agents.READY_SECONDS)
        asyncio.run(one_call(name))


def suspended(agent: dict[str, Any], suspend: bool) -> dict[str, Any]:
    return agent | {"spec": agent["spec"] | {"suspend": suspend}}


def test_younger_agent_waits_until_the_older_is_deleted(platform: Platform) -> None:
    """Both have the same agent name, rooms and LiveKit server, so their workers would take each other's calls."""
    product = platform.product
    elder = agents.one_slot(platform.targets, "elder")
    younger = agents.one_slot(platform.targets, "younger")
    for same in ("agentName", "dispatch"):
        younger["spec"][same] = elder["spec"][same]
    younger["spec"]["persona"]["greeting"] = NEW_GREETING

    async def delete_under_a_call() -> None:
        async with AsyncExitStack() as staying, AsyncExitStack() as later:
            first = await greeted(staying, platform, "elder", "First")
            await asyncio.to_thread(product.kubectl_run, "-n", AGENTS_NAMESPACE, "delete", "avataragent", "elder")
            await asyncio.to_thread(product.wait_ready, "younger", agents.READY_SECONDS)
            second = await greeted(later, platform, "younger", "Second")
            await says(second, NEW_GREETING)
            await answered(first)

    with agents.declared(product, elder), agents.declared(product, younger, ready=False) as name:
        eventually_blocking(
            lambda: agents.condition(product, name, "Ready")[:2] == ("False", "NameTaken"), "the name is taken", 30
        )
        status, reason, message = agents.condition(product, name, "NameUnique")
        assert (status, reason) == ("False", "NameTaken")
        assert "agents/elder is older" in message
        reason, message = refused(platform, name)
        assert reason == "NameTaken"
        assert "Set a different spec.agentName" in message
        assert agents.workers(product, name) == []
        asyncio.run(delete_under_a_call())
