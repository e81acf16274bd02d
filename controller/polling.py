"""Asks every worker for its state, every half second, and has agents reconciled whose numbers or needs changed."""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp
from pydantic import ValidationError

from agentspec import WorkerStatus
from agentspec.names import WORKER_PORT
from controller.fleet import Fleet
from controller.observation import Key, PodSeen

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 0.5
ANSWER_TIMEOUT = aiohttp.ClientTimeout(total=1.0)
"""A worker that needs longer for a document of 200 bytes counts with what it said before."""
_CONCURRENT_QUESTIONS = 200
_MOST_BYTES = 65536


class WorkerPolling:
    """Keeps the fleet's knowledge of its workers fresh."""

    def __init__(self, fleet: Fleet, session: aiohttp.ClientSession, changed: Callable[[Key], None]) -> None:
        self._fleet = fleet
        self._session = session
        self._changed = changed
        self._questions = asyncio.Semaphore(_CONCURRENT_QUESTIONS)
        self.last_pass = time.monotonic()
        """When all workers had been asked last."""

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            started = time.monotonic()
            await self.ask_all()
            self.last_pass = time.monotonic()
            await asyncio.sleep(max(0.0, PERIOD_SECONDS - (self.last_pass - started)))

    async def ask_new(self, key: Key) -> None:
        """Ask the agent's workers that have never been heard: a restarted controller must not take them for silent."""
        agent = self._fleet.agents[key]
        unheard = [pod for pod in agent.pods.values() if pod.running and pod.ip and pod.name not in agent.reports]
        await asyncio.gather(*(self._ask(key, pod) for pod in unheard))

    async def ask_all(self) -> None:
        """One pass over all workers."""
        questions = [
            self._ask(key, pod)
            for key, agent in self._fleet.agents.items()
            for pod in agent.pods.values()
            if pod.running and pod.ip
        ]
        news = set(await asyncio.gather(*questions)) - {None}
        now = time.monotonic()
        for key, agent in list(self._fleet.agents.items()):
            decision = self._fleet.decide(key, now)
            differs = agent.reported != self._fleet.counts(key, decision.workers, now)
            if key in news or differs or decision.workers != agent.wanted:
                self._changed(key)

    async def _ask(self, key: Key, pod: PodSeen) -> Key | None:
        """The agent's key when the worker said something new."""
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        try:
            async with (
                self._questions,
                self._session.get(f"http://{host}:{WORKER_PORT}/status", timeout=ANSWER_TIMEOUT) as response,
            ):
                if response.status != 200:
                    return None
                status = WorkerStatus.model_validate_json(await _read(response))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None  # starting, leaving, or out of reach: Kubernetes' own probes judge that
        except ValidationError as error:
            logger.warning("worker status not understood", extra={"pod": pod.name, "faults": error.error_count()})
            return None
        return key if self._fleet.hear_worker(key, pod.name, status, time.monotonic()) else None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, cut off where it is longer than any status."""
    body = b""
    async for chunk in response.content.iter_chunked(_MOST_BYTES):
        body += chunk
        if len(body) > _MOST_BYTES:
            break
    return body
