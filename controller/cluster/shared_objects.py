"""Keeps what serves a whole namespace: there as long as the namespace has AvatarAgents or their workers, and once."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from agentspec.names import WORKER_SERVICE_ACCOUNT
from controller.cluster.agents import Agents
from controller.cluster.children import Children
from controller.desired.shared import network_policy, service_account
from controller.observation import Key
from controller.policy.ownership import shared_name_conflict
from controller.policy.verdict import Verdict
from kube.client import ApiError

logger = logging.getLogger(__name__)


class SharedObjects:
    """ServiceAccount and NetworkPolicy of every namespace with agents."""

    def __init__(self, children: Children, agents: Agents, sources: Sequence[str]) -> None:
        """`sources`: the namespaces that may connect to workers."""
        self._children = children
        self._kept = (children.service_accounts, children.network_policies)
        self._agents = agents
        self._sources = sources
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def name_conflict(self, namespace: str) -> Verdict | None:
        """What somebody else made under their names; None: nothing. Raises ApiError."""
        key = Key(namespace, "")
        found = [(kind.informer.kind.kind, await kind.existing(key, WORKER_SERVICE_ACCOUNT)) for kind in self._kept]
        return shared_name_conflict(namespace, found)

    async def ensure(self, namespace: str) -> None:
        """They are there and as they should be. Raises ApiError."""
        key = Key(namespace, "")
        async with self._locks[namespace]:
            await self._children.service_accounts.apply(key, service_account(namespace))
            await self._children.network_policies.apply(key, network_policy(namespace, self._sources))

    async def remove_unused(self) -> None:
        """Remove them where the last agent has gone, and its workers with it. What cannot be removed now is later."""
        there = {key.namespace for kind in self._kept for key in kind.informer.group_keys()}
        for key in (Key(namespace, "") for namespace in sorted((there | self._locks.keys()) - self._used())):
            try:
                for kind in self._kept:
                    ours = kind.get(key, WORKER_SERVICE_ACCOUNT)
                    if ours is not None and ours.applied:
                        await kind.delete(key, WORKER_SERVICE_ACCOUNT)
            except ApiError as error:
                facts = {"agent_namespace": key.namespace, "error": str(error)}
                logger.warning("shared objects not removed", extra=facts)
            self._forget(key)

    def _forget(self, key: Key) -> None:
        """Nothing of a namespace is remembered that is not used, and perhaps is gone itself."""
        lock = self._locks.get(key.namespace)
        if lock is None or not lock.locked():
            self._locks.pop(key.namespace, None)
            for kind in self._kept:
                kind.forget(key)

    def _used(self) -> set[str]:
        return {agent.key.namespace for agent in self._agents.all()} | self._children.namespaces_with_pods()
