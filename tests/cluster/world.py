"""What a test sees and does: one namespace, its agents and their workers."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from agentspec import ConditionType
from controller.cluster.client import ApiError, KubeClient, connect
from controller.cluster.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT, POD, SECRET, SERVICE_ACCOUNT, Kind
from devkit.cluster import Cluster
from tests.cluster import manifests
from tests.cluster.standin import StandIn, playing

T = TypeVar("T")
SECONDS = 30.0
NAMESPACE = Kind("v1", "Namespace", "namespaces")


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
    client: KubeClient
    namespace: str
    standin: StandIn

    async def declare(self, name: str, **spec: Any) -> None:
        """Apply an AvatarAgent."""
        url = spec.pop("url", self.cluster.livekit_url)
        await self.client.apply(AVATAR_AGENT, manifests.agent(self.namespace, name, url, **spec))

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

    async def touch_a_pod(self, name: str) -> None:
        """Change something that the controller watches and that means nothing."""
        pod = (await self.pods(name))[0]["metadata"]["name"]
        touch = {"metadata": {"annotations": {"example.com/touched": secrets.token_hex(4)}}}
        await self.client.merge(POD, self.namespace, pod, touch)

    async def children(self) -> set[str]:
        """Everything that could have been made for agents, as kind/name."""
        own = "app.kubernetes.io/managed-by=avatar-agent"
        found = set()
        for kind in (DEPLOYMENT, CONFIG_MAP, SERVICE_ACCOUNT, POD):
            documents = await self.client.list(kind, self.namespace, own)
            found |= {f"{kind.kind}/{document['metadata']['name']}" for document in documents}
        return found


@asynccontextmanager
async def open_world(cluster: Cluster, namespace: str) -> AsyncIterator[World]:
    """A fresh namespace, deleted afterwards."""
    async with connect() as client:
        await client.create(NAMESPACE, None, {"metadata": {"name": namespace}})
        async with playing(client, namespace) as standin:
            world = World(cluster, client, namespace, standin)
            await world.put_secrets()
            try:
                yield world
            finally:
                for document in await client.list(AVATAR_AGENT, namespace):
                    await world.remove(AVATAR_AGENT, document["metadata"]["name"])
                for worker in standin.workers.values():
                    worker.calls = 0
                await _delete_namespace(client, namespace)


async def _delete_namespace(client: KubeClient, namespace: str) -> None:
    try:
        await client._request("DELETE", NAMESPACE.path(None, namespace))
    except ApiError as error:
        if error.status != 404:
            raise
