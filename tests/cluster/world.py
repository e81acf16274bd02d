"""A namespace with its agents and workers, as tests use it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.aio import client as kubernetes
from kubernetes.aio import config

from agentspec import ConditionType
from devkit.cluster import Cluster
from kube.client import ApiError, KubeClient
from kube.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT, POD, SECRET, SERVICE_ACCOUNT, Kind
from tests.cluster import manifests
from tests.cluster.openai import OpenAI
from tests.cluster.standin import PERIOD_SECONDS, StandIn, Worker, simulating_node
from tests.waiting import SECONDS, eventually

GONE_SECONDS = 90.0
"""Time for the garbage collector to delete the children of a deleted owner.

It learns of a new kind of owner within half a minute after its definition was created.
"""
NAMESPACE = Kind("v1", "Namespace", "namespaces")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
CHILD_KINDS = (DEPLOYMENT, CONFIG_MAP, DISRUPTION_BUDGET, SERVICE_ACCOUNT, NETWORK_POLICY)
"""Every kind of child."""


@dataclass(frozen=True)
class World:
    """A namespace with an administrator's client."""

    cluster: Cluster
    openai: OpenAI
    client: KubeClient
    namespace: str
    standin: StandIn

    async def declare(self, name: str, **spec: Any) -> None:
        """Apply an AvatarAgent."""
        await self.client.apply(AVATAR_AGENT, self.manifest(name, **spec))

    async def running(self, name: str, **spec: Any) -> list[Worker]:
        """Declare an agent, and wait until it is Ready and all its workers serve; return these."""
        await self.declare(name, **spec)
        await self.becomes(name, "True")

        async def is_complete() -> bool:
            deployment = await self.deployment(name)
            return deployment is not None and len(self.standin.of(name)) == deployment["spec"]["replicas"]

        await eventually(is_complete, f"all workers of {name} serve")  # an agent with one of them is Ready
        return self.standin.of(name)

    def manifest(self, name: str, **spec: Any) -> dict[str, Any]:
        """Return a valid AvatarAgent; `spec` replaces whole fields, and `url` is LiveKit's."""
        url = spec.pop("url", self.cluster.livekit_url)
        return manifests.agent(self.namespace, name, url, self.openai.url, **spec)

    async def put(self, kind: Kind, document: dict[str, Any]) -> None:
        """Apply another object."""
        await self.client.apply(kind, document)

    async def remove(self, kind: Kind, name: str) -> None:
        await self.client.delete(kind, self.namespace, name)

    async def put_secrets(self) -> None:
        """Apply valid Secrets."""
        key, value = self.cluster.livekit_api_key, self.cluster.livekit_api_secret
        await self.put(SECRET, manifests.secret(self.namespace, "livekit", apiKey=key, apiSecret=value))
        await self.put(SECRET, manifests.secret(self.namespace, "openai", apiKey="key"))

    async def agent(self, name: str) -> dict[str, Any]:
        document = await self.client.get(AVATAR_AGENT, self.namespace, name)
        assert document is not None
        return document

    async def deployment(self, name: str) -> dict[str, Any] | None:
        return await self.client.get(DEPLOYMENT, self.namespace, f"{name}-worker")

    async def pods(self, name: str) -> list[dict[str, Any]]:
        return await self.client.list(POD, self.namespace, f"avataragents.io/agent={name}")

    async def configuration(self, pod: str) -> str:
        """Return a worker pod's configuration as text; empty when the pod does not exist."""
        found = await self.client.get(POD, self.namespace, pod)
        return "" if found is None else await self._text_of(found["spec"])

    async def declared_configuration(self, name: str) -> str:
        """Return the configuration for an agent's new workers as text; empty without a Deployment."""
        deployment = await self.deployment(name)
        return "" if deployment is None else await self._text_of(deployment["spec"]["template"]["spec"])

    async def _text_of(self, pod_spec: dict[str, Any]) -> str:
        (name,) = [volume["configMap"]["name"] for volume in pod_spec["volumes"] if "configMap" in volume]
        config_map = await self.client.get(CONFIG_MAP, self.namespace, name)
        return "" if config_map is None else str(config_map["data"])

    async def rollouts(self, name: str) -> int:
        """Return the number of pod templates of the workers' Deployment so far, once Kubernetes has observed it."""

        async def seen() -> dict[str, Any] | None:
            deployment = await self.deployment(name)
            assert deployment is not None
            metadata: dict[str, Any] = deployment["metadata"]
            return metadata if deployment["status"].get("observedGeneration") == metadata["generation"] else None

        metadata = await eventually(seen, f"Kubernetes has seen the Deployment of {name}")
        assert metadata is not None
        return int(metadata["annotations"]["deployment.kubernetes.io/revision"])

    async def condition(self, name: str, kind: ConditionType = ConditionType.READY) -> dict[str, Any]:
        """Return a condition; empty when the agent does not have it."""
        return _condition(await self.agent(name), kind)

    async def becomes(
        self,
        name: str,
        status: str,
        reason: str = "",
        kind: ConditionType = ConditionType.READY,
        seconds: float = SECONDS,
    ) -> dict[str, Any]:
        """Wait until a condition has this status, and this reason if given, for the current spec."""
        seen: dict[str, Any] = {}

        async def look() -> bool:
            agent = await self.agent(name)
            seen.clear()
            seen.update(_condition(agent, kind))
            present = agent.get("status", {}).get("observedGeneration") == agent["metadata"]["generation"]
            return present and seen.get("status") == status and reason in ("", seen["reason"])

        try:
            await eventually(look, f"{kind.value} of {name} is {status} {reason}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the condition: {seen}") from None
        return seen

    async def settles(self, name: str, workers: int = 1, calls: int = 0) -> None:
        """Wait until all parts of the status are up to date, so that the controller writes nothing more."""

        status: dict[str, Any] = {}

        async def look() -> bool:
            agent = await self.agent(name)
            status.clear()
            status.update(agent.get("status", {}))
            return settled(agent, workers, calls)

        try:
            await eventually(look, f"{name} has settled with {workers} workers and {calls} calls", 60)
        except AssertionError as error:
            raise AssertionError(f"{error}; the status: {status}") from None

    async def counts_calls(self, name: str, calls: int) -> None:
        """Wait until the status counts this many calls."""

        async def look() -> bool:
            return bool((await self.agent(name))["status"]["calls"]["active"] == calls)

        await eventually(look, f"{name} counts {calls} calls")

    def register_again(self, name: str) -> None:
        """Change a worker's id at LiveKit, which causes a reconcile without effect."""
        next(worker for worker in self.standin.workers.values() if worker.agent == name).registrations += 1

    async def child_documents(self) -> list[tuple[Kind, dict[str, Any]]]:
        """Return all children."""
        own = "app.kubernetes.io/managed-by=avatar-agent"
        return [
            (kind, document) for kind in CHILD_KINDS for document in await self.client.list(kind, self.namespace, own)
        ]

    async def child_names(self) -> set[str]:
        """Return all children and pods, as kind/name."""
        made = [(POD, pod) for pod in await self.client.list(POD, self.namespace)] + await self.child_documents()
        return {f"{kind.kind}/{document['metadata']['name']}" for kind, document in made}

    async def nothing_of(self, agent: str) -> bool:
        """Whether nothing is left of an agent."""
        return all(f"/{agent}-worker" not in child for child in await self.child_names())

    async def nothing(self) -> bool:
        """Whether nothing is left of all agents."""
        return not await self.child_names()


def settled(agent: dict[str, Any], workers: int = 1, calls: int = 0) -> bool:
    """Whether the status is up to date. The controller writes changed numbers with a delay, and a killed controller
    leaves old ones until the next has reconciled.
    """
    status = agent.get("status", {})
    ready, progressing = _condition(agent, ConditionType.READY), _condition(agent, ConditionType.PROGRESSING)
    return (
        (ready.get("status"), progressing.get("reason")) == ("True", "RolledOut")
        and all(condition["status"] != "Unknown" for condition in status["conditions"])
        and status["observedGeneration"] == agent["metadata"]["generation"]
        and status["workers"]
        == {**dict.fromkeys(("desired", "ready", "registered", "updated"), workers), "draining": 0}
        and status["slots"]["total"] - status["slots"]["free"] == status["calls"]["active"] == calls
    )


def _condition(agent: dict[str, Any], kind: ConditionType) -> dict[str, Any]:
    found = agent.get("status", {}).get("conditions", [])
    return next((condition for condition in found if condition["type"] == kind.value), {})


@asynccontextmanager
async def open_world(
    cluster: Cluster, openai: OpenAI, namespace: str, period: float = PERIOD_SECONDS
) -> AsyncIterator[World]:
    """Create a namespace with a stand-in for the node, and delete it afterwards. Fails when calls were cut in it."""
    async with administrator(cluster.kubeconfig) as client:
        await client.create(NAMESPACE, None, {"metadata": {"name": namespace}})
        async with simulating_node(client, namespace, period) as standin:
            world = World(cluster, openai, client, namespace, standin)
            await world.put_secrets()
            try:
                yield world
                assert standin.cut_calls == [], "a kubelet would have cut these calls"
            finally:
                for document in await client.list(AVATAR_AGENT, namespace):
                    await world.remove(AVATAR_AGENT, document["metadata"]["name"])
                for worker in standin.workers.values():
                    worker.calls = 0
                    worker.awake.set()
                await delete_namespace(client, namespace)


@asynccontextmanager
async def administrator(kubeconfig: Path) -> AsyncIterator[KubeClient]:
    """Create a client for a cluster, without the process's environment variables."""
    configuration = kubernetes.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=str(kubeconfig), client_configuration=configuration
    )
    async with kubernetes.ApiClient(configuration=configuration) as api:
        yield KubeClient(api, "test")


async def delete_namespace(client: KubeClient, namespace: str) -> None:
    """Delete a namespace, if it exists."""
    try:
        await client._request("DELETE", NAMESPACE.path(None, namespace))
    except ApiError as error:
        if error.status != 404:
            raise
