"""Leader election: among several controllers only the holder of the Lease works.

The intervals are in controller/runtime/lease.py. When a leader is killed, a standby takes over after LEASE_SECONDS and
one attempt. A leader that stops normally releases the Lease, and a standby takes over at its next attempt. Renewals run
in the work's own event loop on purpose: a controller whose event loop hangs loses the Lease.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agentspec.names import LEADER, LEADER_LABEL
from controller.runtime.lease import RENEW_DEADLINE_SECONDS, RETRY_SECONDS, Candidate
from kube.client import ApiError, KubeClient
from kube.kinds import POD

logger = logging.getLogger(__name__)

ATTEMPT_SECONDS = 4.0
"""Timeout of one attempt to read and write the Lease: two attempts fit into the renew deadline."""
RENEW_RETRY_SECONDS = 0.5
"""Delay after a failed renewal: an API server that rejects half of the requests must not end the work."""
STOP_SECONDS = 4.0
"""Time for the cancelled work to end: less than the Lease lasts after the renew deadline."""
CONNECTED_SECONDS = 1.5
"""How much later than usual a renewal may come before the network counts as cut."""
RELEASE_SECONDS = 2.0
"""Time for releasing the Lease. If that fails, the Lease expires."""
RELEASE_RETRY_SECONDS = 0.2
"""Delay after a failed attempt to release it."""


@dataclass(frozen=True, slots=True)
class OwnPod:
    """The pod that this process runs in."""

    namespace: str
    name: str


class Leadership:
    """Acquires the Lease, renews it while the work runs, and cancels the work when the Lease is lost."""

    def __init__(self, client: KubeClient, namespace: str, name: str, identity: str, pod: OwnPod | None = None) -> None:
        """`client`: should be a separate one, so that no renewal waits for a connection that the work uses.

        `identity`: unique to each process that ever runs. `pod`: gets the leader's label; None: no pod is labelled.
        """
        self._client = client
        self._candidate = Candidate(client, namespace, name, identity)
        self._identity = identity
        self._pod = pod
        self._renewed: float | None = None
        """Loop time at which the last successful attempt began; None: the Lease is not held."""
        self._error = ""

    @property
    def held(self) -> bool:
        """Whether this process holds the Lease, so that it is the only one that may write now."""
        return self._renewed is not None and self._seconds_left() > 0

    @property
    def is_connected(self) -> bool:
        """Whether the Lease was renewed lately, as it is while the network and the API server work."""
        now = asyncio.get_running_loop().time()
        return self._renewed is not None and now - self._renewed < RETRY_SECONDS + CONNECTED_SECONDS

    @property
    def error(self) -> str:
        """Why the last attempt to read or write the Lease failed; empty: it succeeded."""
        return self._error

    async def lead(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Wait until this process is the leader, then run `work`.

        Returns True when the work ended by itself; the Lease is released. Returns False when the Lease was lost and the
        work was cancelled. The caller must then end the process at once, because work that takes longer than
        STOP_SECONDS to cancel may still run. Errors of the work are raised. The Lease is released then too, and also
        when this call is cancelled.
        """
        lost = False
        try:
            await self._acquire()
            lost = not await self._run_while_held(work)
            return not lost
        finally:
            self._renewed = None
            if not lost:
                await self._release()

    async def _acquire(self) -> None:
        unlabelled, holder = False, ""
        while True:
            # A process that was killed in this pod may have left the label.
            unlabelled = unlabelled or await self._label(None)
            if await self._attempt(ATTEMPT_SECONDS):
                logger.info("became leader", extra={"identity": self._identity})
                return
            if self._candidate.holder != holder:
                holder = self._candidate.holder
                logger.info("waiting for the lease", extra={"identity": self._identity, "leader": holder})
            await asyncio.sleep(RETRY_SECONDS)

    async def _run_while_held(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run the work; False: the Lease was lost before the work ended."""
        # Created before the work: when kopf ends, it waits for every task that is newer than itself.
        renewing = asyncio.create_task(self._renew(), name="lease")
        labelling = asyncio.create_task(self._label_leader())
        working = asyncio.ensure_future(work())
        try:
            await asyncio.wait((renewing, working), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                return True
            renewing.result()
            return False
        finally:
            # Stop the work first: the Lease is still renewed while the work ends.
            if not await _stopped(working):
                logger.error("work did not stop in time", extra={"seconds": STOP_SECONDS})
            for task in (renewing, labelling):
                await _stopped(task)

    async def _renew(self) -> None:
        """Renew the Lease; returns when it is lost."""
        renewed = True
        while True:
            await asyncio.sleep(RETRY_SECONDS if renewed else RENEW_RETRY_SECONDS)
            # Check `held` first: this process may have been suspended for longer than the Lease lasts.
            renewed = self.held and await self._attempt(min(ATTEMPT_SECONDS, self._seconds_left()))
            if self.held and not renewed:
                holder = self._candidate.holder
                if holder not in ("", self._identity):
                    self._renewed = None
                    logger.warning("lease lost to another controller", extra={"leader": holder})
                    return
            if not self.held:
                logger.warning("lease lost", extra={"seconds": RENEW_DEADLINE_SECONDS, "error": self._error})
                return

    async def _attempt(self, seconds: float) -> bool:
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(seconds):
                held = await self._candidate.attempt()
        except (ApiError, TimeoutError, ValueError) as error:
            message = str(error) or f"no answer within {seconds:.0f} s"
            if message != self._error:
                logger.warning("could not reach the lease, retrying", extra={"error": message})
            self._error = message
            return False
        if self._error:
            logger.info("lease reached again")
        self._error = ""
        if held:
            self._renewed = started
        return held

    async def _label_leader(self) -> None:
        while True:
            if await self._label(LEADER):
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _label(self, role: str | None) -> bool:
        """Label the own pod, so that the controller's Service selects the leader; False: retry."""
        if self._pod is None:
            return True
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                patch = {"metadata": {"labels": {LEADER_LABEL: role}}}
                await self._client.merge_patch(POD, self._pod.namespace, self._pod.name, patch)
        except (ApiError, TimeoutError) as error:
            logger.warning("could not label own pod, retrying", extra={"pod": self._pod.name, "error": str(error)})
            return False
        return True

    async def _release(self) -> None:
        message = ""
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                while True:
                    try:
                        return await self._candidate.release()
                    except (ApiError, ValueError) as error:
                        message = str(error)
                    await asyncio.sleep(RELEASE_RETRY_SECONDS)
        except TimeoutError:
            logger.warning("could not release the lease", extra={"error": message})

    def _seconds_left(self) -> float:
        """Seconds until the renew deadline."""
        assert self._renewed is not None
        return self._renewed + RENEW_DEADLINE_SECONDS - asyncio.get_running_loop().time()


async def _stopped(task: asyncio.Future[None]) -> bool:
    """Cancel a task and wait for its end; False: it is still running. Errors raised meanwhile are logged."""
    if task.done():
        return True
    task.cancel()
    await asyncio.wait((task,), timeout=STOP_SECONDS)
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("task failed while stopping", extra={"error": f"{type(error).__name__}: {error}"})
    return task.done()
