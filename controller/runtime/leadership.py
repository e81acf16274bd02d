"""One writer: of several controllers only the one that holds the Lease works.

The times are in controller/cluster/lease.py. A holder that is killed is followed after LEASE_SECONDS and one look; one
that ends by itself lets go, and is followed at the next look. Everything runs in the work's own event loop on purpose:
a controller that stands still loses the Lease.
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
"""For one look at the Lease, the write included: two fit into the renew deadline."""
AGAIN_SECONDS = 0.5
"""After a look of the holder that failed: an API server that refuses half of them must not end the work."""
STOP_SECONDS = 4.0
"""For the work to end when it is cancelled: less than a Lease lasts beyond the renew deadline."""
RELEASE_SECONDS = 2.0
"""For letting go of the Lease; if that fails it runs out."""
RELEASE_AGAIN_SECONDS = 0.2
"""After an attempt at that which failed."""


@dataclass(frozen=True, slots=True)
class OwnPod:
    """The pod that this process runs in."""

    namespace: str
    name: str


class Leadership:
    """Waits for the Lease, keeps it while the work runs, and ends the work when it is lost."""

    def __init__(self, client: KubeClient, namespace: str, name: str, identity: str, pod: OwnPod | None = None) -> None:
        """`client`: best one of its own, so that no renewal waits for a connection that the work uses.
        `identity`: different for each process that ever runs. `pod`: gets the leader's label; None: no pod does.
        """
        self._client = client
        self._candidate = Candidate(client, namespace, name, identity)
        self._identity = identity
        self._pod = pod
        self._renewed: float | None = None
        """Loop time at which the last good attempt began; None: the Lease was never held."""
        self._trouble = ""

    @property
    def held(self) -> bool:
        """The Lease is held and nobody else can hold it: what is written now is written by the only writer."""
        return self._renewed is not None and self._left() > 0

    @property
    def trouble(self) -> str:
        """Why the Lease could not be read or written at the last attempt; empty: it could."""
        return self._trouble

    async def lead(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Wait until this process leads, then run `work`.

        True: the work ended by itself, and the Lease is released. False: the Lease was lost and the work cancelled; end
        the process at once, since work that does not let itself be cancelled in STOP_SECONDS may still run. What the
        work raises is raised; then, and when this is cancelled, the Lease is released too.
        """
        lost = False
        try:
            await self._win()
            lost = not await self._keep_while(work)
            return not lost
        finally:
            self._renewed = None
            if not lost:
                await self._release()

    async def _win(self) -> None:
        unmarked, holder = False, ""
        while True:
            # A process that was killed in this very pod may have left the label.
            unmarked = unmarked or await self._mark(None)
            if await self._attempt(ATTEMPT_SECONDS):
                logger.info("leading", extra={"identity": self._identity})
                return
            if self._candidate.holder != holder:
                holder = self._candidate.holder
                logger.info("standing by", extra={"identity": self._identity, "leader": holder})
            await asyncio.sleep(RETRY_SECONDS)

    async def _keep_while(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run the work; False: the Lease was lost before it ended."""
        # Before the work: kopf waits, when it ends, for every task of the event loop that is newer than itself.
        keeping = [asyncio.create_task(self._renew(), name="lease"), asyncio.create_task(self._mark_leader())]
        working = asyncio.ensure_future(work())
        try:
            await asyncio.wait((keeping[0], working), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                return True
            keeping[0].result()
            return False
        finally:
            # The work first: while it ends, the Lease is still renewed.
            if not await _stopped(working):
                logger.error("work did not end", extra={"seconds": STOP_SECONDS})
            for task in keeping:
                await _stopped(task)

    async def _renew(self) -> None:
        """Keep the Lease; returns when it is lost."""
        renewed = True
        while True:
            await asyncio.sleep(RETRY_SECONDS if renewed else AGAIN_SECONDS)
            # Asked before anything else: this process may have been stopped for longer than the Lease lasts.
            renewed = self.held and await self._attempt(min(ATTEMPT_SECONDS, self._left()))
            if self.held and not renewed:
                holder = self._candidate.holder
                if holder not in ("", self._identity):
                    self._renewed = None
                    logger.warning("lease lost to another controller", extra={"leader": holder})
                    return
            if not self.held:
                logger.warning("lease lost", extra={"seconds": RENEW_DEADLINE_SECONDS, "error": self._trouble})
                return

    async def _attempt(self, seconds: float) -> bool:
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(seconds):
                held = await self._candidate.attempt()
        except (ApiError, TimeoutError, ValueError) as error:
            trouble = str(error) or f"no answer within {seconds:.0f} s"
            if trouble != self._trouble:
                logger.warning("lease not reached", extra={"error": trouble})
            self._trouble = trouble
            return False
        if self._trouble:
            logger.info("lease reached again")
        self._trouble = ""
        if held:
            self._renewed = started
        return held

    async def _mark_leader(self) -> None:
        while True:
            if await self._mark(LEADER):
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _mark(self, role: str | None) -> bool:
        """Label the own pod, by which the controller's Service finds the leader; False: try again."""
        if self._pod is None:
            return True
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                patch = {"metadata": {"labels": {LEADER_LABEL: role}}}
                await self._client.merge_patch(POD, self._pod.namespace, self._pod.name, patch)
        except (ApiError, TimeoutError) as error:
            logger.warning("own pod not labelled", extra={"pod": self._pod.name, "error": str(error)})
            return False
        return True

    async def _release(self) -> None:
        trouble = ""
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                while True:
                    try:
                        return await self._candidate.release()
                    except (ApiError, ValueError) as error:
                        trouble = str(error)
                    await asyncio.sleep(RELEASE_AGAIN_SECONDS)
        except TimeoutError:
            logger.warning("lease not released", extra={"error": trouble})

    def _left(self) -> float:
        """Seconds until the renew deadline."""
        assert self._renewed is not None
        return self._renewed + RENEW_DEADLINE_SECONDS - asyncio.get_running_loop().time()


async def _stopped(task: asyncio.Future[None]) -> bool:
    """Cancel a task and wait for its end; False: it goes on. What it raised is told, unless it had ended before."""
    if task.done():
        return True
    task.cancel()
    await asyncio.wait((task,), timeout=STOP_SECONDS)
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("failed while it was ended", extra={"error": f"{type(error).__name__}: {error}"})
    return task.done()
