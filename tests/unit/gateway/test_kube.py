"""AvatarAgents and Secrets as the API server gives them."""

import base64
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.aio import client

from agentspec import DispatchMode
from gateway.agents import Agent, InvalidAgent, parse_agent
from gateway.connections import SecretError, SecretsUnavailable
from gateway.kube import KubernetesAgents, KubernetesSecrets

SPEC: dict[str, Any] = {
    "livekit": {"url": "wss://livekit.example", "credentialsSecretRef": {"name": "livekit"}},
    "voice": {"openai": {"credentialsSecretRef": {"name": "openai"}}},
}


def resource(name: str = "ornina", status: object = None, **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"metadata": {"namespace": "agents", "name": name}, "spec": SPEC | spec}
    return found if status is None else found | {"status": status}


def test_an_agent_is_read_with_its_defaults() -> None:
    found = parse_agent(resource())
    assert isinstance(found, Agent)
    assert (found.key, found.agent_name, found.ready) == ("agents/ornina", "ornina", False)
    assert found.spec.dispatch.mode is DispatchMode.EXPLICIT


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({"conditions": [{"type": "Ready", "status": "True"}]}, True),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, False),
        ({"conditions": [{"type": "KnowledgeLoaded", "status": "True"}]}, False),
        ({"conditions": None}, False),
        ({}, False),
    ],
)
def test_readiness_is_the_condition(status: object, ready: bool) -> None:
    found = parse_agent(resource(status=status))
    assert isinstance(found, Agent)
    assert found.ready is ready


@pytest.mark.parametrize(("status", "taken"), [("True", False), ("False", True), ("Unknown", False)])
def test_a_name_is_taken_when_the_condition_says_so(status: str, taken: bool) -> None:
    found = parse_agent(resource(status={"conditions": [{"type": "NameUnique", "status": status}]}))
    assert isinstance(found, Agent)
    assert found.name_taken is taken


UNIQUE = [{"type": "NameUnique", "status": "True"}]


@pytest.mark.parametrize(
    ("status", "known"),
    [
        pytest.param({}, False, id="the controller has not seen the agent yet"),
        pytest.param({"agentName": "ornina", "conditions": UNIQUE}, True, id="it has"),
        pytest.param({"agentName": "nadia", "conditions": UNIQUE}, False, id="before it was renamed"),
        pytest.param({"agentName": "", "conditions": UNIQUE}, True, id="a spec it cannot use: workers go on as before"),
        pytest.param(
            {"agentName": "", "conditions": [{"type": "Ready", "status": "False"}]}, False, id="nor ever could"
        ),
    ],
)
def test_a_name_is_known_once_the_controller_has_looked_at_it(status: object, known: bool) -> None:
    found = parse_agent(resource(status=status))
    assert isinstance(found, Agent)
    assert found.name_checked is known


def test_a_spec_of_another_release_is_kept_apart_with_its_problem() -> None:
    found = parse_agent(resource(colour="green"))
    assert isinstance(found, InvalidAgent)
    assert "spec.colour" in found.error


class FakeObjects:
    """The API server's list of AvatarAgents, in pages of one."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.items = items
        self.asked: list[dict[str, Any]] = []

    async def list_cluster_custom_object(self, **query: Any) -> dict[str, Any]:
        self.asked.append(query)
        at = int(query["_continue"] or 0)
        following = str(at + 1) if at + 1 < len(self.items) else ""
        return {"metadata": {"resourceVersion": "7", "continue": following}, "items": list(self.items[at : at + 1])}

    async def list_namespaced_custom_object(self, **query: Any) -> dict[str, Any]:
        return await self.list_cluster_custom_object(**query)


def watching(objects: FakeObjects, namespace: str = "") -> KubernetesAgents:
    api: Any = objects
    return KubernetesAgents(api, namespace)


async def test_agents_are_listed_page_by_page_and_then_followed() -> None:
    objects = FakeObjects(resource("a"), resource("b"))
    agents = watching(objects)
    assert not agents.synced
    assert await agents._list() == "7"
    assert agents.synced
    assert sorted(found.name for found in agents.all()) == ["a", "b"]
    agents._apply("ADDED", resource("c"))
    agents._apply("MODIFIED", resource("a", language="ar"))
    agents._apply("DELETED", resource("b"))
    assert sorted(found.name for found in agents.all()) == ["a", "c"]
    changed = agents.get("agents", "a")
    assert isinstance(changed, Agent)
    assert changed.spec.language == "ar"
    objects.items = (resource("d"),)
    await agents._list()
    assert [found.name for found in agents.all()] == ["d"], "a list is the whole truth"


async def test_one_namespace_may_be_all_there_is() -> None:
    objects = FakeObjects(resource())
    await watching(objects, "agents")._list()
    assert objects.asked[0]["namespace"] == "agents"


class FakeCore:
    def __init__(self, outcome: dict[str, str] | Exception) -> None:
        self.outcome = outcome
        self.reads = 0

    async def read_namespaced_secret(self, name: str, namespace: str, **_: object) -> SimpleNamespace:
        self.reads += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        data = {key: base64.b64encode(value.encode("latin-1")).decode() for key, value in self.outcome.items()}
        return SimpleNamespace(data=data)


def secrets(outcome: dict[str, str] | Exception) -> tuple[KubernetesSecrets, FakeCore]:
    core = FakeCore(outcome)
    api: Any = core
    return KubernetesSecrets(api), core


@pytest.mark.parametrize(
    ("outcome", "kind", "message"),
    [
        (client.ApiException(status=404), SecretError, "agents/livekit does not exist"),
        (client.ApiException(status=403), SecretError, "may not read Secret agents/livekit"),
        (client.ApiException(status=500), SecretsUnavailable, "answered 500"),
        (TimeoutError(), SecretsUnavailable, "did not answer"),
        ({"apiKey": "\xff\xfe"}, SecretError, "not text"),
    ],
)
async def test_a_secret_that_cannot_be_had_is_explained(
    outcome: dict[str, str] | Exception, kind: type[SecretError], message: str
) -> None:
    store, _ = secrets(outcome)
    with pytest.raises(kind, match=message):
        await store.read("agents", "livekit", ["apiKey"])


async def test_keys_of_a_secret_that_are_not_asked_for_may_hold_anything() -> None:
    store, _ = secrets({"apiKey": "key\n", "logo": "\xff\xfe"})
    assert await store.read("agents", "livekit", ["apiKey", "apiSecret"]) == {"apiKey": "key"}
