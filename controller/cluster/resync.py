"""Lists the AvatarAgents every minute and compares them with what kopf's watch delivered.

An event that a stalled watch misses costs a minute at most, and a watch that stays behind is detected. kopf does not
expose the bookmarks of its watch, so this comparison is the only sign of the watch's health.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from controller.cluster.agents import Agents
from controller.observation import Key
from kube.client import ApiError, Document, KubeClient
from kube.kinds import AVATAR_AGENT

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 60.0
RETRY_SECONDS = 5.0
WATCH_LAG_SECONDS = 2.0
"""How far the watch may lag behind a list."""


class Resync:
    """Periodic comparison of a list of AvatarAgents with the cache."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str | None,
        agents: Agents,
        updated: Callable[[Document], None],
        removed: Callable[[Key, str], None],
    ) -> None:
        """`updated`: called with every agent to cache; `removed`: with key and uid of every deleted agent."""
        self._client = client
        self._namespace = namespace
        self._agents = agents
        self._updated = updated
        self._removed = removed
        self.last_success: float | None = None
        """When a list last succeeded (monotonic seconds); None: never."""
        self.behind_since: float | None = None
        """When a list first contained a change that the watch had not delivered; None: the watch has delivered events
        since. Deletions do not count: a healthy watch never reports those that happened while it reconnected."""
        self._deleted: set[str] = set()
        """Uids of agents that were deleted during the current comparison."""

    async def run(self) -> None:
        """Compare periodically until cancelled."""
        await asyncio.sleep(PERIOD_SECONDS)
        while True:
            succeeded = await self.compare()
            await asyncio.sleep(PERIOD_SECONDS if succeeded else RETRY_SECONDS)

    async def list_all(self) -> None:
        """Cache every AvatarAgent, as soon as the API server serves the resource and lists it in API discovery.

        kopf looks for the resource in API discovery, and only when it starts. It also delivers agents one by one, so a
        younger agent could claim a name before the older one that holds it arrives.
        """
        while True:
            if (documents := await self._served()) is not None:
                break
            await asyncio.sleep(RETRY_SECONDS)
        for document in documents:
            self._updated(document)
        self.last_success = time.monotonic()

    def watch_progressed(self) -> None:
        """Record that kopf's watch delivered an event."""
        self.behind_since = None

    def agent_deleted(self, uid: str) -> None:
        """Record that an agent no longer exists."""
        self._deleted.add(uid)

    async def compare(self) -> bool:
        """Cache what the watch missed; False: the API server failed."""
        self._deleted.clear()
        cached = {agent.key: agent.version for agent in self._agents.all()}
        versions = await self._versions()
        if versions is None:
            return False
        if any(cached.get(key, 0) < version for key, version in versions.items()):
            await asyncio.sleep(WATCH_LAG_SECONDS)
        missed = {key for key, version in versions.items() if self._version(key) < version}
        try:
            for key in missed:
                await self._cache(key, versions[key])
        except ApiError as error:
            logger.warning(
                "could not read AvatarAgent, retrying", extra={"error": str(error), "retry_seconds": RETRY_SECONDS}
            )
            return False
        for key in cached.keys() - versions.keys():
            agent = self._agents.get(key)
            if agent is not None and agent.version == cached[key]:
                self._removed(key, agent.uid)
        return True

    async def _served(self) -> list[Document] | None:
        """Return every AvatarAgent; None: the API server failed, or API discovery does not list the resource."""
        try:
            documents = await self._client.list(AVATAR_AGENT, self._namespace)
            if await self._client.is_discoverable(AVATAR_AGENT):
                return documents
        except ApiError as error:
            self._log_list_failure(error)
        else:
            logger.warning(
                "API discovery does not list AvatarAgents yet, retrying", extra={"retry_seconds": RETRY_SECONDS}
            )
        return None

    async def _cache(self, key: Key, version: int) -> None:
        document = await self._client.get(AVATAR_AGENT, key.namespace, key.name)
        if document is None or document["metadata"]["uid"] in self._deleted or self._version(key) >= version:
            return  # the watch delivered it meanwhile
        self._updated(document)
        if self.behind_since is None:
            self.behind_since = time.monotonic()

    async def _versions(self) -> dict[Key, int] | None:
        """The resource version of every AvatarAgent; None: the API server failed."""
        try:
            found = await self._client.list_versions(AVATAR_AGENT, self._namespace)
        except ApiError as error:
            self._log_list_failure(error)
            return None
        self.last_success = time.monotonic()
        return {Key(*name): version for name, version in found.items()}

    def _log_list_failure(self, error: ApiError) -> None:
        logger.warning(
            "could not list AvatarAgents, retrying", extra={"error": str(error), "retry_seconds": RETRY_SECONDS}
        )

    def _version(self, key: Key) -> int:
        agent = self._agents.get(key)
        return agent.version if agent is not None else 0
