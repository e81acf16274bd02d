"""Compares what the watch of AvatarAgents told with a list, every minute: a watch that stalls or misses something costs
a minute, and one that stays behind is noticed. kopf hides its watch's bookmarks; this is how its health is seen.
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
"""How much later than a list the watch may tell of the same."""


class Resync:
    """The slow timer."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str | None,
        agents: Agents,
        seen: Callable[[Document], None],
        lost: Callable[[Key, str], None],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._agents = agents
        self._seen = seen
        self._lost = lost
        self.last_success: float | None = None
        """When the list was last read (monotonic seconds); None: never."""
        self.behind_since: float | None = None
        """When a list first showed what the watch had not told; None: the watch has told of something since. One that
        had a gap never tells of deletions in it, and is none the worse."""
        self._ended: set[str] = set()
        """Uids of agents that went while lists were compared."""

    async def run(self) -> None:
        """List until cancelled."""
        await asyncio.sleep(PERIOD_SECONDS)
        while True:
            succeeded = await self.compare()
            await asyncio.sleep(PERIOD_SECONDS if succeeded else RETRY_SECONDS)

    async def see_all(self) -> None:
        """Take up every AvatarAgent, once the API server serves them: kopf looks for the resource only at its start,
        and tells of agents one by one, so that a younger one might seem alone with a name that an older one has.
        """
        while True:
            try:
                documents = await self._client.list(AVATAR_AGENT, self._namespace)
            except ApiError as error:
                self._not_listed(error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for document in documents:
                self._seen(document)
            self.last_success = time.monotonic()
            return

    def watch_told(self) -> None:
        """kopf's watch brought something."""
        self.behind_since = None

    def ended(self, uid: str) -> None:
        """An agent is gone."""
        self._ended.add(uid)

    async def compare(self) -> bool:
        """Take up what the watch missed; false when the API server did not answer."""
        self._ended.clear()
        known = {agent.key: agent.version for agent in self._agents.all()}
        versions = await self._versions()
        if versions is None:
            return False
        if any(known.get(key, 0) < version for key, version in versions.items()):
            await asyncio.sleep(WATCH_LAG_SECONDS)
        missed = {key for key, version in versions.items() if self._version(key) < version}
        try:
            for key in missed:
                await self._take_up(key, versions[key])
        except ApiError as error:
            logger.warning("AvatarAgent not read", extra={"error": str(error), "retry_seconds": RETRY_SECONDS})
            return False
        for key in known.keys() - versions.keys():
            agent = self._agents.get(key)
            if agent is not None and agent.version == known[key]:
                self._lost(key, agent.uid)
        return True

    async def _take_up(self, key: Key, version: int) -> None:
        document = await self._client.get(AVATAR_AGENT, key.namespace, key.name)
        if document is None or document["metadata"]["uid"] in self._ended or self._version(key) >= version:
            return  # the watch was quicker
        self._seen(document)
        if self.behind_since is None:
            self.behind_since = time.monotonic()

    async def _versions(self) -> dict[Key, int] | None:
        """The resource version of every AvatarAgent; None: the API server did not say."""
        try:
            found = await self._client.list(AVATAR_AGENT, self._namespace, metadata_only=True)
        except ApiError as error:
            self._not_listed(error)
            return None
        self.last_success = time.monotonic()
        return {
            Key(document["metadata"]["namespace"], document["metadata"]["name"]): int(
                document["metadata"]["resourceVersion"]
            )
            for document in found
        }

    def _not_listed(self, error: ApiError) -> None:
        logger.warning("AvatarAgents not listed", extra={"error": str(error), "retry_seconds": RETRY_SECONDS})

    def _version(self, key: Key) -> int:
        agent = self._agents.get(key)
        return agent.version if agent is not None else 0
