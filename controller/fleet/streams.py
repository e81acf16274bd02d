"""Follows every worker: each tells its state whenever it changes, over one long answer (`GET /status?watch`)."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import aiohttp

from agentspec.names import WORKER_PORT
from agentspec.wire import STATUS_HEARTBEAT_SECONDS, WorkerStatus, read
from controller.fleet.fleet import WORKER_MEMORY_SECONDS, Fleet
from controller.observation import Key, ObservedPod

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
FIRST_WORD_SECONDS = 1.0
"""How long reconciles wait for a worker that was never heard: it answers in milliseconds, or not at all."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=2 * STATUS_HEARTBEAT_SECONDS)
"""A worker that misses two heartbeats is asked anew."""


@dataclass(slots=True)
class Stream:
    """How one worker is listened to."""

    address: str
    task: asyncio.Task[None]
    answered: asyncio.Event
    """It has come to a first word or a first failure."""
    awake: asyncio.Event
    """Ends a pause."""
    ready: bool
    """Its pod was, when last seen."""
    patience: float
    """Loop time until which reconciles wait for that first word."""


class WorkerStreams:
    """Keeps the fleet's knowledge of its workers fresh."""

    def __init__(self, fleet: Fleet, session: aiohttp.ClientSession, changed: Callable[[Key], None]) -> None:
        self._fleet = fleet
        self._session = session
        self._changed = changed
        self._streams: dict[Key, dict[str, Stream]] = {}

    def follow(self, key: Key, pods: Iterable[ObservedPod]) -> None:
        """These are an agent's workers now: listen to exactly those that run. One that has become ready, after it was
        perhaps asked in vain for a while, is asked at once."""
        running = {pod.name: pod for pod in pods if pod.running and pod.ip}
        streams = self._streams.setdefault(key, {})
        # A node that comes back may give a pod another address, and its old one to somebody else.
        moved = {name for name, pod in running.items() if name in streams and streams[name].address != pod.ip}
        for name in (streams.keys() - running.keys()) | moved:
            streams.pop(name).task.cancel()
        for name, pod in running.items():
            if name not in streams:
                answered, awake = asyncio.Event(), asyncio.Event()
                task = asyncio.create_task(self._follow(key, pod, answered, awake), name=f"worker {name}")
                patience = asyncio.get_running_loop().time() + FIRST_WORD_SECONDS
                streams[name] = Stream(pod.ip, task, answered, awake, pod.ready, patience)
            elif pod.ready and not streams[name].ready:
                streams[name].awake.set()
            streams[name].ready = pod.ready
        if not streams:
            del self._streams[key]

    async def wait_first_reports(self, key: Key) -> None:
        """Until each of the agent's workers has said a first word, or failed to: a restarted controller must not take
        them for silent. Bounded, for each worker once and not for each reconcile."""
        streams = sorted(self._streams.get(key, {}).values(), key=lambda stream: stream.patience)
        for stream in streams:
            if not stream.answered.is_set() and stream.patience > asyncio.get_running_loop().time():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(stream.patience):
                        await stream.answered.wait()

    def cancel(self) -> None:
        """Stop listening."""
        for streams in self._streams.values():
            for stream in streams.values():
                stream.task.cancel()
        self._streams.clear()

    async def _follow(self, key: Key, pod: ObservedPod, answered: asyncio.Event, awake: asyncio.Event) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            try:
                await self._listen(key, pod, answered)
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # starting, leaving, or out of reach: Kubernetes' own probes judge that
            except ValueError as error:
                logger.warning("worker status not understood", extra={"pod": pod.name, "error": str(error)[:200]})
            answered.set()
            # Silence is judged once what was heard last is too old to count.
            asyncio.get_running_loop().call_later(WORKER_MEMORY_SECONDS + 0.1, self._changed, key)
            if time.monotonic() - started > LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await awake.wait()
                pause = FIRST_PAUSE_SECONDS
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            awake.clear()

    async def _listen(self, key: Key, pod: ObservedPod, answered: asyncio.Event) -> None:
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        url = f"http://{host}:{WORKER_PORT}/status?watch"
        async with self._session.get(url, timeout=_TIMEOUT) as response:
            response.raise_for_status()
            said, status = b"", None
            async for line in response.content:
                if status is None or line != said:  # else a heartbeat: a thousand workers beat fifty times a second
                    said, status = line, read(WorkerStatus, line)
                if self._fleet.hear_worker(key, pod.name, status, time.monotonic()):
                    self._changed(key)
                answered.set()
