"""The objects that AvatarAgents become: kept as the API server has them, and applied where they differ."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from controller.cluster.observe import (
    DELETION_COST,
    MANAGED_SELECTOR,
    agent_of,
    children_selector,
    config_map_of,
    observe_deployment,
    observe_object,
    observe_pod,
)
from controller.observation import Key, ObservedDeployment, ObservedObject, ObservedPod
from controller.policy.drift import Applied, digest, must_apply
from kube.client import ApiError, Document, KubeClient
from kube.informer import Informer
from kube.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    POD,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    SERVICE_ACCOUNT,
    Kind,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ChildKind(Generic[T]):
    """One kind of child: what is there, and what was applied."""

    def __init__(self, client: KubeClient, informer: Informer[Key, T], identify: Callable[[T], ObservedObject]) -> None:
        self.informer = informer
        self._client = client
        self._identify = identify
        self._applied: dict[Key, dict[str, Applied]] = {}

    def get(self, key: Key, name: str) -> T | None:
        """An agent's child of that name; of what serves a whole namespace the agent's name is empty."""
        return self.informer.group(key).get(name)

    async def existing(self, key: Key, name: str) -> ObservedObject | None:
        """Whatever stands under that name, whoever made it; None: nothing. Raises ApiError."""
        there = self.get(key, name) or await self.fetch(key, name)
        return None if there is None else self._identify(there)

    async def fetch(self, key: Key, name: str) -> T | None:
        """The same, asked of the API server: what has lost the label that it is watched by is still there."""
        document = await self._client.get(self.informer.kind, key.namespace, name)
        return None if document is None else self.informer.parse(document)

    async def apply(self, key: Key, document: Document) -> None:
        """Make it so, unless it is. Raises ApiError."""
        name = document["metadata"]["name"]
        there, applied = self.get(key, name), self._applied.setdefault(key, {})
        if not must_apply(document, None if there is None else self._identify(there), applied.get(name)):
            return
        answer = await self._client.apply(self.informer.kind, document)
        self.informer.observe_write(answer)
        applied[name] = Applied(digest(document), self._identify(self.informer.parse(answer)))

    async def delete(self, key: Key, name: str) -> None:
        """Remove one. Raises ApiError."""
        await self._client.delete(self.informer.kind, key.namespace, name)
        self._applied.get(key, {}).pop(name, None)

    def has_lost_child(self, key: Key) -> bool:
        """Whether a child that was applied no longer exists."""
        return not self._applied.get(key, {}).keys() <= self.informer.group(key).keys()

    def forget(self, key: Key) -> None:
        """Nothing of it is wanted any more."""
        self._applied.pop(key, None)


class Children:
    """All kinds of children."""

    def __init__(self, client: KubeClient, namespace: str | None, changed: Callable[[Key], None]) -> None:
        """`changed` is told of the agent (its name is empty for what serves a whole namespace) when a child did."""
        self._client = client

        def watched(kind: Kind, parse: Callable[[Document], T], *, metadata_only: bool = False) -> Informer[Key, T]:
            return Informer(
                client,
                kind,
                namespace,
                group_of=agent_of,
                parse=parse,
                on_change=changed,
                selector=MANAGED_SELECTOR,
                metadata_only=metadata_only,
            )

        def plain(kind: Kind, *, metadata_only: bool = False) -> ChildKind[ObservedObject]:
            return ChildKind(client, watched(kind, observe_object, metadata_only=metadata_only), lambda seen: seen)

        deployments = watched(DEPLOYMENT, observe_deployment)
        self.deployments: ChildKind[ObservedDeployment] = ChildKind(client, deployments, lambda seen: seen.object)
        self.config_maps = plain(CONFIG_MAP, metadata_only=True)
        self.budgets = plain(POD_DISRUPTION_BUDGET)
        self.service_accounts = plain(SERVICE_ACCOUNT)
        self.network_policies = plain(NETWORK_POLICY)
        self._pods = watched(POD, observe_pod)

    def pods(self, key: Key) -> list[ObservedPod]:
        """An agent's worker pods that have not ended."""
        return [pod for pod in self._pods.group(key).values() if not pod.ended]

    def namespaces_with_pods(self) -> set[str]:
        """Where there are worker pods."""
        return {key.namespace for key in self._pods.group_keys()}

    @property
    def informers(
        self,
    ) -> list[Informer[Key, ObservedDeployment] | Informer[Key, ObservedObject] | Informer[Key, ObservedPod]]:
        """All of them; each has to be run."""
        return [self._pods, self.deployments.informer, *(kept.informer for kept in self._plain)]

    @property
    def _plain(self) -> list[ChildKind[ObservedObject]]:
        return [self.config_maps, self.budgets, self.service_accounts, self.network_policies]

    async def wait_listed(self) -> None:
        """Until everything there was has been seen."""
        await asyncio.gather(*(informer.wait_synced() for informer in self.informers))

    def deployment_removed(self, key: Key) -> bool:
        """Whether the agent's applied Deployment is gone, for example because the agent was deleted before it."""
        return self.deployments.has_lost_child(key)

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self.deployments.forget(key)
        for kept in self._plain:
            kept.forget(key)

    async def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Change only how many workers there are."""
        answer = await self._client.merge_patch(DEPLOYMENT, namespace, deployment, {"spec": {"replicas": replicas}})
        self.deployments.informer.observe_write(answer)

    async def set_deletion_costs(self, namespace: str, costs: Mapping[str, str]) -> None:
        """Say how dear pods are: of those that could leave, the cheapest go first. One that is gone is fine."""
        for pod, cost in costs.items():
            try:
                patch = {"metadata": {"annotations": {DELETION_COST: cost}}}
                await self._client.merge_patch(POD, namespace, pod, patch)
            except ApiError as error:
                if error.is_rejection:  # an admission policy's; whoever leaves, leaves draining
                    logger.warning("pod not priced", extra={"pod": pod, "error": str(error)})
                elif error.status != 404:
                    raise

    async def config_maps_of_replica_sets(self, key: Key) -> set[str]:
        """Names of the configurations that ReplicaSets with pods, or about to have some, start pods with."""
        found = await self._client.list(REPLICA_SET, key.namespace, children_selector(key.name))
        living = [one for one in found if one["spec"].get("replicas") or one["status"].get("replicas")]
        return {config_map_of(one["spec"]["template"]["spec"]) for one in living}
