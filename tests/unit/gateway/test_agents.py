"""Parsing AvatarAgents from Kubernetes objects."""

from typing import Any

import pytest

from agentspec import DispatchMode
from gateway.agents import Agent, InvalidAgent, parse_agent

SPEC: dict[str, Any] = {
    "livekit": {"url": "wss://livekit.example", "credentialsSecretRef": {"name": "livekit"}},
    "voice": {"openai": {"credentialsSecretRef": {"name": "openai"}}},
}
UNIQUE = [{"type": "NameUnique", "status": "True"}]


def resource(name: str = "ornina", status: object = None, **spec: Any) -> dict[str, Any]:
    """An AvatarAgent as the API server returns it."""
    document: dict[str, Any] = {"metadata": {"namespace": "agents", "name": name}, "spec": SPEC | spec}
    return document if status is None else document | {"status": status}


def parsed(status: object) -> Agent:
    agent = parse_agent(resource(status=status))
    assert isinstance(agent, Agent)
    return agent


def test_spec_is_parsed_with_its_defaults() -> None:
    agent = parsed(None)
    assert (agent.key, agent.agent_name, agent.ready) == ("agents/ornina", "ornina", False)
    assert agent.spec.dispatch.mode is DispatchMode.EXPLICIT


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        pytest.param({"conditions": [{"type": "Ready", "status": "True"}]}, True, id="Ready is True"),
        pytest.param({"conditions": [{"type": "Ready", "status": "False"}]}, False, id="Ready is False"),
        pytest.param({"conditions": [{"type": "KnowledgeLoaded", "status": "True"}]}, False, id="another condition"),
        pytest.param({"conditions": None}, False, id="conditions are null"),
        pytest.param({}, False, id="no conditions"),
    ],
)
def test_agent_is_ready_when_the_condition_is_true(status: object, ready: bool) -> None:
    assert parsed(status).ready is ready


@pytest.mark.parametrize(("status", "taken"), [("True", False), ("False", True), ("Unknown", False)])
def test_name_is_taken_when_name_unique_is_false(status: str, taken: bool) -> None:
    assert parsed({"conditions": [{"type": "NameUnique", "status": status}]}).name_taken is taken


@pytest.mark.parametrize(
    ("status", "checked"),
    [
        pytest.param({}, False, id="not reconciled yet"),
        pytest.param({"agentName": "ornina", "conditions": UNIQUE}, True, id="reconciled"),
        pytest.param({"agentName": "nadia", "conditions": UNIQUE}, False, id="renamed since the last reconcile"),
        pytest.param({"agentName": "", "conditions": UNIQUE}, True, id="invalid spec, workers keep their name"),
        pytest.param(
            {"agentName": "", "conditions": [{"type": "Ready", "status": "False"}]}, False, id="spec was never valid"
        ),
    ],
)
def test_name_is_checked_once_the_controller_reconciled_it(status: object, checked: bool) -> None:
    assert parsed(status).name_checked is checked


def test_spec_with_unknown_field_is_invalid_and_names_the_field() -> None:
    agent = parse_agent(resource(colour="green"))
    assert isinstance(agent, InvalidAgent)
    assert "spec.colour" in agent.error
