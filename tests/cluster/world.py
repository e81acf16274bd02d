"""What a test sees and does: one namespace, its agents and their workers."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kubernetes.aio import client as kubernetes
from kubernetes.aio import config

from agentspec import ConditionType
from controller.cluster.client import ApiError, KubeClient
from controller.cluster.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT, POD, SECRET, SERVICE_ACCOUNT, Kind
from devkit.cluster import Cluster
from tests.cluster import manifests
from tests.cluster.openai import OpenAI
from tests.cluster.standin import PERIOD_SECONDS, StandIn, playing

T = TypeVar("T")
SECONDS = 30.0
NAMESPACE = Kind("v1", "Namespace", "namespaces")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
MADE = (DEPLOYMENT, CONFIG_MAP, DISRUPTION_BUDGET, SERVICE_ACCOUNT, NETWORK_POLICY)
"""Every kind that the controller makes."""


async def eventually(look: Callable[[], Awaitable[T]], what: str, seconds: float = SECONDS) -> T:
    """The first true thing that `look` returns; fails with what it saw last."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {seen!r}")
        await asyncio.sleep(0.1)


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
        """The configuration that a worker pod was started with, as text."""
        documents = await self.client.list(POD, self.namespace)
        (spec,) = [document["spec"] for document in documents if document["metadata"]["name"] == pod]
        (name,) = [volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume]
        config_map = await self.client.get(CONFIG_MAP, self.namespace, name)
        return "" if config_map is None else str(config_map["data"])

    async def roll_outs(self, name: str) -> int:
        """How many pod templates the workers' Deployment has had, its first included."""
        deployment = await self.deployment(name)
        assert deployment is not None
        return int(deployment["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision", 0))

    async def condition(self, name: str, kind: ConditionType = ConditionType.READY) -> dict[str, Any]:
        """A condition as it is now; empty: not there."""
        found = (await self.agent(name)).get("status", {}).get("conditions", [])
        return next((condition for condition in found if condition["type"] == kind.value), {})

    async def becomes(
        self,
        name: str,
        status: str,
        reason: str = "",
        kind: ConditionType = ConditionType.READY,
        seconds: float = SECONDS,
    ) -> dict[str, Any]:
        """Wait until a condition has the status, and the reason when one is given."""
        seen: dict[str, Any] = {}

        async def look() -> bool:
            seen.clear()
            seen.update(await self.condition(name, kind))
            return seen.get("status") == status and reason in ("", seen["reason"])

        try:
            await eventually(look, f"{kind.value} of {name} is {status} {reason}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the condition: {seen}") from None
        return seen

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


@asynccontextmanager
async def open_world(
    cluster: Cluster, openai: OpenAI, namespace: str, period: float = PERIOD_SECONDS
) -> AsyncIterator[World]:
    """A fresh namespace whose pods are looked after every `period` seconds; deleted afterwards."""
    async with administrator(cluster.kubeconfig) as client:
        await client.create(NAMESPACE, None, {"metadata": {"name": namespace}})
        async with playing(client, namespace, period) as standin:
            world = World(cluster, openai, client, namespace, standin)
            await world.put_secrets()
            try:
                yield world
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
        yield KubeClient(api)


async def delete_namespace(client: KubeClient, namespace: str) -> None:
    """Have a namespace deleted; one that is gone already is fine."""
    try:
        await client._request("DELETE", NAMESPACE.path(None, namespace))
    except ApiError as error:
        if error.status != 404:
            raise
