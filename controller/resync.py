"""Has every AvatarAgent reconciled every minute: a watch that stalls or misses an event costs a minute."""

import asyncio
import logging
import time
from collections.abc import Callable

from controller.cluster.client import ApiError, KubeClient
from controller.cluster.kinds import AVATAR_AGENT
from controller.fleet import Fleet
from controller.observation import Key

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 60.0
RETRY_SECONDS = 5.0


class Resync:
    """The slow timer."""

    def __init__(self, client: KubeClient, namespace: str | None, fleet: Fleet, changed: Callable[[Key], None]) -> None:
        self._client = client
        self._namespace = namespace
        self._fleet = fleet
        self._changed = changed
        self.last_success: float | None = None
        """When the list was last read; None: never."""

    async def run(self) -> None:
        """List until cancelled."""
        while True:
            succeeded = await self.list_all()
            await asyncio.sleep(PERIOD_SECONDS if succeeded else RETRY_SECONDS)

    async def wait_for_resource(self) -> None:
        """Return once the API server serves AvatarAgents: kopf looks for the resource only once, at its start."""
        while self.last_success is None:
            if not await self.list_all():
                await asyncio.sleep(RETRY_SECONDS)

    async def list_all(self) -> bool:
        """Have every agent reconciled, those included that are gone; false when they could not be listed."""
        try:
            found = await self._client.list(AVATAR_AGENT, self._namespace, metadata_only=True)
        except ApiError as error:
            logger.warning("AvatarAgents not listed", extra={"error": str(error), "retry_seconds": RETRY_SECONDS})
            return False
        keys = {Key(document["metadata"]["namespace"], document["metadata"]["name"]) for document in found}
        for key in keys | set(self._fleet.agents):
            self._changed(key)
        self.last_success = time.monotonic()
        return True
