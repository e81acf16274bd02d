"""The children of AvatarAgents: cached as the API server has them, and applied where they differ."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from controller.cluster.observe import (
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
from controller.policy.podannotations import Annotations
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

HANGING_GRACE_SECONDS = 1
"""The grace period of a worker that hangs without a call: it has nothing to finish."""

T = TypeVar("T")


class ChildKind(Generic[T]):
    """The children of one kind: the cached objects, and what was last applied."""

    def __init__(self, client: KubeClient, informer: Informer[Key, T], identify: Callable[[T], ObservedObject]) -> None:
        self.informer = informer
        self._client = client
        self._identify = identify
        self._applied: dict[Key, dict[str, Applied]] = {}

    def get(self, key: Key, name: str) -> T | None:
        """The cached child with this name. For objects shared by a namespace, the key's agent name is empty."""
        return self.informer.group(key).get(name)

    async def existing(self, key: Key, name: str) -> ObservedObject | None:
        """The object with this name, whoever created it; None: there is none. Raises ApiError."""
        found = self.get(key, name) or await self.fetch(key, name)
        return None if found is None else self._identify(found)

    async def fetch(self, key: Key, name: str) -> T | None:
        """Read the object from the API server. The cache lacks objects that lost the labels selected by the watch."""
        document = await self._client.get(self.informer.kind, key.namespace, name)
        return None if document is None else self.informer.parse(document)

    async def apply(self, key: Key, document: Document) -> None:
        """Apply the document unless the child already matches it. Raises ApiError."""
        name = document["metadata"]["name"]
        cached, applied = self.get(key, name), self._applied.setdefault(key, {})
        if not must_apply(document, None if cached is None else self._identify(cached), applied.get(name)):
            return
        response = await self._client.apply(self.informer.kind, document)
        self.informer.observe_write(response)
        applied[name] = Applied(digest(document), self._identify(self.informer.parse(response)))

    async def delete(self, key: Key, name: str) -> None:
        """Delete the child with this name. Raises ApiError."""
        await self._client.delete(self.informer.kind, key.namespace, name)
        self._applied.get(key, {}).pop(name, None)

    def has_lost_child(self, key: Key) -> bool:
        """Whether a child that was applied no longer exists."""
        return not self._applied.get(key, {}).keys() <= self.informer.group(key).keys()

    def forget(self, key: Key) -> None:
        """Forget what was applied for an agent that no longer exists."""
        self._applied.pop(key, None)


class Children:
    """The children of all kinds."""

    def __init__(self, client: KubeClient, namespace: str | None, on_change: Callable[[Key], None]) -> None:
        """`on_change`: called with the agent whose child changed, without a name for objects shared by a namespace."""
        self._client = client

        def watched(kind: Kind, parse: Callable[[Document], T], *, metadata_only: bool = False) -> Informer[Key, T]:
            return Informer(
                client,
                kind,
                namespace,
                group_of=agent_of,
                parse=parse,
                on_change=on_change,
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
        self._rejected: dict[Key, Annotations] = {}
        """Annotations that the API server rejected."""

    def pods(self, key: Key) -> list[ObservedPod]:
        """An agent's worker pods whose containers have not all terminated."""
        return [pod for pod in self._pods.group(key).values() if not pod.ended]

    def namespaces_with_pods(self) -> set[str]:
        """The namespaces that have worker pods."""
        return {key.namespace for key in self._pods.group_keys()}

    @property
    def informers(
        self,
    ) -> list[Informer[Key, ObservedDeployment] | Informer[Key, ObservedObject] | Informer[Key, ObservedPod]]:
        """All informers; the caller runs each of them."""
        return [self._pods, self.deployments.informer, *(kind.informer for kind in self._plain)]

    @property
    def _plain(self) -> list[ChildKind[ObservedObject]]:
        return [self.config_maps, self.budgets, self.service_accounts, self.network_policies]

    async def wait_synced(self) -> None:
        """Wait until all existing children have been listed once."""
        await asyncio.gather(*(informer.wait_synced() for informer in self.informers))

    def deployment_removed(self, key: Key) -> bool:
        """Whether the agent's applied Deployment is gone, for example because the agent was deleted before it."""
        return self.deployments.has_lost_child(key)

    def forget(self, key: Key) -> None:
        """Forget what was applied for an agent that no longer exists."""
        self._rejected.pop(key, None)
        self.deployments.forget(key)
        for kind in self._plain:
            kind.forget(key)

    async def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Set the number of replicas of a Deployment and nothing else. Raises ApiError."""
        response = await self._client.merge_patch(DEPLOYMENT, namespace, deployment, {"spec": {"replicas": replicas}})
        self.deployments.informer.observe_write(response)

    async def annotate_pods(self, key: Key, changes: Annotations) -> None:
        """Set and remove annotations of an agent's pods. A pod that no longer exists is skipped.

        What an admission policy rejects is not sent again: whichever pod is removed drains first. Raises ApiError.
        """
        rejected = self._rejected.setdefault(key, {})
        for gone in rejected.keys() - self._pods.group(key).keys():
            del rejected[gone]
        for pod, annotations in changes.items():
            if rejected.get(pod) == annotations:
                continue
            try:
                response = await self._client.merge_patch(
                    POD, key.namespace, pod, {"metadata": {"annotations": annotations}}
                )
                self._pods.observe_write(response)
            except ApiError as error:
                if error.is_rejection:
                    rejected[pod] = annotations
                    logger.warning("could not annotate pod", extra={"pod": pod, "error": str(error)})
                elif error.status != 404:
                    raise

    async def delete_pods(self, key: Key, pods: Iterable[str]) -> None:
        """Delete worker pods that hang without a call. Raises ApiError unless the API server rejects it."""
        for pod in pods:
            facts = {"agent": str(key), "pod": pod}
            try:
                await self._client.delete(POD, key.namespace, pod, grace_seconds=HANGING_GRACE_SECONDS)
                logger.warning("deleted pod whose worker hangs without a call", extra=facts)
            except ApiError as error:
                if not error.is_rejection:
                    raise
                logger.warning("could not delete pod whose worker hangs", extra={**facts, "error": str(error)})

    async def config_maps_of_replica_sets(self, key: Key) -> set[str]:
        """The ConfigMaps in the pod templates of ReplicaSets that have pods or are about to create some."""
        found = await self._client.list(REPLICA_SET, key.namespace, children_selector(key.name))
        active = [one for one in found if one["spec"].get("replicas") or one["status"].get("replicas")]
        return {config_map_of(one["spec"]["template"]["spec"]) for one in active}
