"""What a test sees and does: one namespace, its agents and their workers."""

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
"""In which what belonged to something that is gone is gone, too: Kubernetes' garbage collector learns of a new kind of
owner within half a minute after its definition came."""
NAMESPACE = Kind("v1", "Namespace", "namespaces")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
MADE = (DEPLOYMENT, CONFIG_MAP, DISRUPTION_BUDGET, SERVICE_ACCOUNT, NETWORK_POLICY)
"""Every kind that the controller makes."""


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
        """Declare an agent and wait until it takes calls; gives its workers."""
        await self.declare(name, **spec)
        await self.becomes(name, "True")
        return self.standin.of(name)

    def manifest(self, name: str, **spec: Any) -> dict[str, Any]:
        """An AvatarAgent that works here; `spec` replaces whole fields, `url` is LiveKit's."""
        url = spec.pop("url", self.cluster.livekit_url)
        return manifests.agent(self.namespace, name, url, self.openai.url, **spec)

    async def put(self, kind: Kind, document: dict[str, Any]) -> None:
        """Apply something else."""
        await self.client.apply(kind, document)

    async def remove(self, kind: Kind, name: str) -> None:
        await self.client.delete(kind, self.namespace, name)

    async def put_secrets(self) -> None:
        """Secrets that work."""
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
        """The configuration that a worker pod was started with, as text; empty: the pod has just gone."""
        found = await self.client.get(POD, self.namespace, pod)
        return "" if found is None else await self._text_of(found["spec"])

    async def declared_configuration(self, name: str) -> str:
        """The configuration that an agent's next worker will be started with, as text; empty: it has no Deployment."""
        deployment = await self.deployment(name)
        return "" if deployment is None else await self._text_of(deployment["spec"]["template"]["spec"])

    async def _text_of(self, pod_spec: dict[str, Any]) -> str:
        (name,) = [volume["configMap"]["name"] for volume in pod_spec["volumes"] if "configMap" in volume]
        config_map = await self.client.get(CONFIG_MAP, self.namespace, name)
        return "" if config_map is None else str(config_map["data"])

    async def roll_outs(self, name: str) -> int:
        """How many pod templates the workers' Deployment has had, its first included, once Kubernetes has seen all."""

        async def seen() -> dict[str, Any] | None:
            deployment = await self.deployment(name)
            assert deployment is not None
            metadata: dict[str, Any] = deployment["metadata"]
            return metadata if deployment["status"].get("observedGeneration") == metadata["generation"] else None

        metadata = await eventually(seen, f"Kubernetes has seen the Deployment of {name}")
        assert metadata is not None
        return int(metadata["annotations"]["deployment.kubernetes.io/revision"])

    async def condition(self, name: str, kind: ConditionType = ConditionType.READY) -> dict[str, Any]:
        """A condition as it is now; empty: not there."""
        return _condition(await self.agent(name), kind)

    async def becomes(
        self,
        name: str,
        status: str,
        reason: str = "",
        kind: ConditionType = ConditionType.READY,
        seconds: float = SECONDS,
    ) -> dict[str, Any]:
        """Wait until a condition has the status, and the reason when one is given, and is said of the present spec."""
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
        """Wait until the status says that all is as it should be, in all its parts: nothing more will be written."""

        async def look() -> bool:
            return settled(await self.agent(name), workers, calls)

        await eventually(look, f"{name} has settled with {workers} workers and {calls} calls")

    async def counts_calls(self, name: str, calls: int) -> None:
        """Wait until the status counts so many calls."""

        async def look() -> bool:
            return bool((await self.agent(name))["status"]["calls"]["active"] == calls)

        await eventually(look, f"{name} counts {calls} calls")

    def register_again(self, name: str) -> None:
        """Change something that the controller watches and that means nothing: a worker's id at LiveKit."""
        next(worker for worker in self.standin.workers.values() if worker.agent == name).registrations += 1

    async def made(self) -> list[tuple[Kind, dict[str, Any]]]:
        """Everything that the controller made."""
        own = "app.kubernetes.io/managed-by=avatar-agent"
        return [(kind, document) for kind in MADE for document in await self.client.list(kind, self.namespace, own)]

    async def children(self) -> set[str]:
        """Everything that there is of and for agents, as kind/name."""
        made = [(POD, pod) for pod in await self.client.list(POD, self.namespace)] + await self.made()
        return {f"{kind.kind}/{document['metadata']['name']}" for kind, document in made}

    async def nothing_of(self, agent: str) -> bool:
        """Nothing is left of an agent."""
        return all(f"/{agent}-worker" not in child for child in await self.children())

    async def nothing(self) -> bool:
        """Nothing is left of any."""
        return not await self.children()


def settled(agent: dict[str, Any], workers: int = 1, calls: int = 0) -> bool:
    """The status has caught up: numbers are written later than they change, and a controller that was killed leaves
    what it knew until the next one has looked.
    """
    told = agent.get("status", {})
    ready, progressing = _condition(agent, ConditionType.READY), _condition(agent, ConditionType.PROGRESSING)
    return (
        (ready.get("status"), progressing.get("reason")) == ("True", "RolledOut")
        and all(condition["status"] != "Unknown" for condition in told["conditions"])
        and told["observedGeneration"] == agent["metadata"]["generation"]
        and told["workers"] == {**dict.fromkeys(("desired", "ready", "registered", "updated"), workers), "draining": 0}
        and told["slots"]["total"] - told["slots"]["free"] == told["calls"]["active"] == calls
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
                await delete_namespace(client, namespace)


@asynccontextmanager
async def administrator(kubeconfig: Path) -> AsyncIterator[KubeClient]:
    """A client for a cluster, without the environment that is the whole process's."""
    configuration = kubernetes.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=str(kubeconfig), client_configuration=configuration
    )
    async with kubernetes.ApiClient(configuration=configuration) as api:
        yield KubeClient(api, "test")


async def delete_namespace(client: KubeClient, namespace: str) -> None:
    """Have a namespace deleted; one that is gone already is fine."""
    try:
        await client._request("DELETE", NAMESPACE.path(None, namespace))
    except ApiError as error:
        if error.status != 404:
            raise
