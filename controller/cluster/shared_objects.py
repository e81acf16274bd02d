"""Manages the objects that all agents of a namespace share, as long as it has AvatarAgents or worker pods."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from agentspec.names import WORKER_SERVICE_ACCOUNT
from controller.cluster.agents import Agents
from controller.cluster.children import Children
from controller.desired.shared import network_policy, service_account
from controller.observation import Key, ObservedObject
from kube.client import ApiError

logger = logging.getLogger(__name__)


class SharedObjects:
    """The workers' ServiceAccount and NetworkPolicy in every namespace with agents."""

    def __init__(self, children: Children, agents: Agents, sources: Sequence[str]) -> None:
        """`sources`: the namespaces that may connect to workers."""
        self._children = children
        self._kinds = (children.service_accounts, children.network_policies)
        self._agents = agents
        self._sources = sources
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def occupants(self, namespace: str) -> tuple[tuple[str, ObservedObject | None], ...]:
        """The objects found under their names, by kind; None where there is no object. Raises ApiError."""
        key = Key(namespace, "")
        kinds = [(child.informer.kind.kind, child) for child in self._kinds]
        return tuple([(kind, await child.existing(key, WORKER_SERVICE_ACCOUNT)) for kind, child in kinds])

    async def ensure(self, namespace: str) -> None:
        """Apply the objects where they are missing or differ. Raises ApiError."""
        key = Key(namespace, "")
        async with self._locks[namespace]:
            await self._children.service_accounts.apply(key, service_account(namespace))
            await self._children.network_policies.apply(key, network_policy(namespace, self._sources))

    async def remove_unused(self) -> None:
        """Delete the objects in namespaces without agents and worker pods. The next sweep retries what failed."""
        present = {key.namespace for kind in self._kinds for key in kind.informer.group_keys()}
        unused = sorted((present | self._locks.keys()) - self._namespaces_in_use())
        for key in (Key(namespace, "") for namespace in unused):
            try:
                for kind in self._kinds:
                    ours = kind.get(key, WORKER_SERVICE_ACCOUNT)
                    if ours is not None and ours.applied:
                        await kind.delete(key, WORKER_SERVICE_ACCOUNT)
            except ApiError as error:
                facts = {"namespace": key.namespace, "error": str(error)}
                logger.warning("could not delete shared objects, retrying", extra=facts)
            self._forget(key)

    def _forget(self, key: Key) -> None:
        """Drop the cached state of a namespace without agents, which may itself be deleted."""
        lock = self._locks.get(key.namespace)
        if lock is None or not lock.locked():
            self._locks.pop(key.namespace, None)
            for kind in self._kinds:
                kind.forget(key)

    def _namespaces_in_use(self) -> set[str]:
        return {agent.key.namespace for agent in self._agents.all()} | self._children.namespaces_with_pods()
