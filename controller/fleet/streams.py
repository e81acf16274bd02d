"""Streams the status of every worker: a worker sends its status on every change over one long response.

The request is ``GET /status?watch&stages&jobs``; heartbeats repeat the status in between. For an agent with an avatar
it also says how many the agent may have at once, so a changed limit opens the streams anew.

The stream of a worker with jobs that breaks is reopened at once. Connection attempts tell whether the worker is lost.
"""

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import aiohttp

from agentspec import AvatarProvider
from agentspec.names import WORKER_PORT
from agentspec.wire import (
    JOBS_QUERY,
    MAX_AVATARS_QUERY,
    STAGES_QUERY,
    STATUS_HEARTBEAT_SECONDS,
    WorkerStatus,
    read,
)
from controller.fleet.contact import contact
from controller.fleet.fleet import Fleet
from controller.fleet.jobs import WorkerJobs
from controller.observation import Key, ObservedPod
from controller.policy.availability import START_SECONDS
from controller.policy.lost_workers import MISSING_SECONDS, Contact, loss_by_contact, loss_by_pod

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
INITIAL_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 30.0
STARTING_BACKOFF_SECONDS = 0.5
"""Longest backoff while a worker may still be starting: calls may wait for its slots."""
FIRST_REPORT_SECONDS = 1.0
"""How long reconciles wait for a worker's first report: it arrives within milliseconds, or not at all."""

CONTACT_SECONDS = 0.3
"""Longest duration of one attempt to connect to a worker with jobs whose stream broke."""
CONTACT_RETRY_SECONDS = 0.1
"""Pause between two of these attempts."""

QUIET_SECONDS = 2.0
"""While calls wait, a worker with free slots that has reported nothing for this long is asked for its status."""
ANSWER_SECONDS = 3.0
"""How long it has to answer. By then it has also left a dispatch unanswered for 2.5 s, or missed a heartbeat."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=2 * STATUS_HEARTBEAT_SECONDS)
"""The stream is reopened after two missing heartbeats."""
_VERIFY_TIMEOUT = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)


@dataclass(slots=True)
class Stream:
    """The status stream of one worker."""

    url: str
    address: str
    """IP address of the pod."""
    task: asyncio.Task[None]
    answered: asyncio.Event
    """Set after the first report or the first failure."""
    retry_now: asyncio.Event
    """Ends the current backoff."""
    ready: bool
    """Whether the pod was ready when last observed."""
    wait_until: float
    """Loop time until which reconciles wait for the first report."""
    verification: asyncio.Task[None] | None = None
    """The request of `WorkerStreams.verify`, if there was one."""

    def cancel(self) -> None:
        """End the stream and its verification."""
        self.task.cancel()
        if self.verification is not None:
            self.verification.cancel()


class WorkerStreams:
    """Keeps the workers' statuses in the fleet up to date."""

    def __init__(
        self,
        fleet: Fleet,
        jobs: WorkerJobs,
        session: aiohttp.ClientSession,
        on_change: Callable[[Key], None],
        *,
        is_connected: Callable[[], bool],
    ) -> None:
        """`on_change`: called with the agent whose workers reported a change. `is_connected`: whether the API server
        answered lately."""
        self._fleet = fleet
        self._jobs = jobs
        self._session = session
        self._on_change = on_change
        self._is_connected = is_connected
        self._streams: dict[Key, dict[str, Stream]] = {}

    def follow(self, key: Key, pods: Iterable[ObservedPod]) -> None:
        """Stream from exactly those of the agent's pods that run.

        A worker whose pod becomes ready is contacted at once, whatever the backoff after earlier failures.
        """
        pods = list(pods)
        self.drop(key, pods)
        running = {pod.name: pod for pod in pods if pod.running and pod.ip}
        streams = self._streams.setdefault(key, {})
        query = self._query(key)
        urls = {name: f"{_url(pod.ip)}?{query}" for name, pod in running.items()}
        for name in [name for name, stream in streams.items() if stream.url != urls[name]]:
            streams.pop(name).cancel()  # the limit of avatars changed
        for name, pod in running.items():
            if name not in streams:
                answered, retry_now = asyncio.Event(), asyncio.Event()
                task = asyncio.create_task(
                    self._follow(key, pod, urls[name], answered, retry_now), name=f"worker {name}"
                )
                wait_until = asyncio.get_running_loop().time() + FIRST_REPORT_SECONDS
                streams[name] = Stream(urls[name], pod.ip, task, answered, retry_now, pod.ready, wait_until)
            elif pod.ready and not streams[name].ready:
                streams[name].retry_now.set()
            streams[name].ready = pod.ready
        if not streams:
            del self._streams[key]

    def drop(self, key: Key, pods: Iterable[ObservedPod]) -> None:
        """End the streams of workers that the agent's pods no longer hold; those with jobs are lost.

        A node that restarts may give a pod another address, and the pod's old address to another pod.
        """
        streams, present = self._streams.get(key, {}), {pod.name: pod for pod in pods}
        for name, stream in list(streams.items()):
            if (reason := loss_by_pod(stream.address, present.get(name))) is not None:
                streams.pop(name).cancel()
                self._jobs.lose(key, name, reason, time.monotonic())
        if not streams:
            self._streams.pop(key, None)

    async def wait_first_reports(self, key: Key) -> None:
        """Wait until each of the agent's workers has reported once or failed to.

        Without this, a restarted controller would take all workers for silent. The wait is limited once per worker,
        not per reconcile.
        """
        streams = sorted(self._streams.get(key, {}).values(), key=lambda stream: stream.wait_until)
        for stream in streams:
            if not stream.answered.is_set() and stream.wait_until > asyncio.get_running_loop().time():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(stream.wait_until):
                        await stream.answered.wait()

    def verify(self, key: Key) -> None:
        """Ask the agent's workers that have free slots and have reported nothing lately: do they hang?

        The kernel accepts connections for a process that hangs, and a lost node closes none. Only an answer tells.
        """
        unheard = self._fleet.agents[key].unheard(time.monotonic(), QUIET_SECONDS)
        for name, stream in self._streams.get(key, {}).items():
            if name in unheard and (stream.verification is None or stream.verification.done()):
                verification = self._verify(key, name, stream.url.partition("?")[0])
                stream.verification = asyncio.create_task(verification, name=f"verify worker {name}")

    def cancel(self) -> None:
        """Stop all streams."""
        for streams in self._streams.values():
            for stream in streams.values():
                stream.cancel()
        self._streams.clear()

    def _query(self, key: Key) -> str:
        agent = self._fleet.agents.get(key)
        if agent is None or agent.spec.avatar.provider is AvatarProvider.NONE:
            return f"watch&{STAGES_QUERY}&{JOBS_QUERY}"
        limit = agent.spec.avatar.max_sessions
        return f"watch&{STAGES_QUERY}&{JOBS_QUERY}&{MAX_AVATARS_QUERY}={'' if limit is None else limit}"

    async def _follow(
        self, key: Key, pod: ObservedPod, url: str, answered: asyncio.Event, retry_now: asyncio.Event
    ) -> None:
        opened, backoff = time.monotonic(), INITIAL_BACKOFF_SECONDS
        while True:
            started = time.monotonic()
            try:
                await self._stream(key, pod, url, answered)
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # starting, terminating or unreachable: Kubernetes' own probes judge the pod
            except ValueError as error:
                logger.warning("invalid worker status ignored", extra={"pod": pod.name, "error": str(error)[:200]})
            answered.set()
            lasted = time.monotonic() - started
            is_there = await self._is_there(key, pod)
            if is_there and lasted > CONTACT_RETRY_SECONDS:
                continue
            if is_there or lasted > MAX_BACKOFF_SECONDS:
                backoff = INITIAL_BACKOFF_SECONDS
            try:
                async with asyncio.timeout(backoff):
                    await retry_now.wait()
                backoff = INITIAL_BACKOFF_SECONDS
            except TimeoutError:
                may_be_starting = time.monotonic() - opened < START_SECONDS
                backoff = min(2 * backoff, STARTING_BACKOFF_SECONDS if may_be_starting else MAX_BACKOFF_SECONDS)
            retry_now.clear()

    async def _is_there(self, key: Key, pod: ObservedPod) -> bool:
        """Find out whether a worker with jobs, whose stream broke now, is lost; returns whether it is not.

        False for a worker without jobs, which is not searched for.
        """
        broken = time.monotonic()
        while self._jobs.has_jobs(key, pod.name):
            result = await contact(pod.ip, WORKER_PORT, _until(broken + MISSING_SECONDS, CONTACT_SECONDS))
            if result is Contact.ACCEPTED:
                return True
            now = time.monotonic()
            reason = loss_by_contact(result, now - broken, is_connected=self._is_connected())
            if reason is not None:
                self._jobs.lose(key, pod.name, reason, now)
            else:
                await asyncio.sleep(_until(broken + MISSING_SECONDS, CONTACT_RETRY_SECONDS))
        return False

    async def _verify(self, key: Key, pod: str, url: str) -> None:
        request = self._session.get(url, timeout=_VERIFY_TIMEOUT, headers={"Connection": "close"})
        try:
            async with request as response:
                response.raise_for_status()
                status = read(WorkerStatus, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
                return  # the process has ended, and the kubelet starts another one
            # The kernel accepts connections for a process that hangs. Without one, the network may be at fault.
            hangs = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError)
            changed = self._fleet.record_silence(key, pod, hangs=hangs)
        else:
            changed = self._fleet.record_status(key, pod, status, time.monotonic())
        if changed:
            self._on_change(key)

    async def _stream(self, key: Key, pod: ObservedPod, url: str, answered: asyncio.Event) -> None:
        async with self._session.get(url, timeout=_TIMEOUT) as response:
            response.raise_for_status()
            last_line, status = b"", None
            async for line in response.content:
                # Parse changes only: a thousand workers send fifty heartbeats a second.
                if status is None or line != last_line:
                    last_line, status = line, read(WorkerStatus, line)
                    self._jobs.record(key, pod.name, status, time.monotonic())
                if self._fleet.record_status(key, pod.name, status, time.monotonic()):
                    self._on_change(key)
                answered.set()


def _until(deadline: float, longest: float) -> float:
    """Seconds until a deadline that is not over, and at most `longest`."""
    left = deadline - time.monotonic()
    return min(left, longest) if left > 0 else longest


def _url(address: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{WORKER_PORT}/status"
