"""The Lease that names the leading controller process, on top of ``kubernetes.aio.leaderelection``.

The library decides (``LeaderElection.try_acquire_or_renew``). Its own ``LeaseLock`` is replaced because version 37.0.2
writes local time as UTC, logs a lost race as an error with a traceback, and does not handle connection errors.
"""

import sys
import time
from datetime import UTC, datetime

from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from kube.client import ApiError, Document, KubeClient
from kube.kinds import Kind

LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")

LEASE_SECONDS = 15
"""Another candidate may take a Lease that was not renewed for this long."""
RENEW_DEADLINE_SECONDS = 10
"""A holder that could not renew for this long stops. It has the rest of LEASE_SECONDS to end its work."""
RETRY_SECONDS = 2
"""Interval of attempts, of the holder and of the other candidates."""

_NOT_FOUND = ApiException(status=404, reason="Not Found", body='{"code": 404}')
"""Tells the library that there is no Lease yet; it takes any other body for an error."""


class _Lock(BaseLock):
    """Reads and writes the Lease. Failures are raised as ApiError, so that the library never handles them."""

    def __init__(self, client: KubeClient, namespace: str, name: str, identity: str) -> None:
        super().__init__(name, namespace, identity)
        self._client = client
        self._version = ""

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        lease = await self._client.get(LEASE, namespace, name)
        if lease is None:
            return False, _NOT_FOUND
        self._version = lease["metadata"]["resourceVersion"]
        return True, _record(lease.get("spec") or {})

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        lease = {"metadata": {"namespace": namespace, "name": name}, "spec": _spec(election_record)}
        await self._client.create(LEASE, namespace, lease)
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        await self._write(name, namespace, _spec(updated_record))
        return True

    async def release(self) -> None:
        """Clear the holder if this candidate is it. Another candidate takes the Lease at its next attempt."""
        lease = await self._client.get(LEASE, self.namespace, self.name)
        if lease is None or (lease.get("spec") or {}).get("holderIdentity") != self.identity:
            return
        self._version = lease["metadata"]["resourceVersion"]
        await self._write(self.name, self.namespace, {"holderIdentity": ""})

    async def _write(self, name: str, namespace: str, spec: Document) -> None:
        # Includes the version that was read: if two candidates write at once, one of them gets 409.
        patch = {"metadata": {"resourceVersion": self._version}, "spec": spec}
        await self._client.merge_patch(LEASE, namespace, name, patch)


class _Election(LeaderElection):
    """The library's election with a monotonic clock for the age of the observed Lease.

    The library uses the wall clock. If that is set back or forward by 15 s or more, two processes lead, or none takes
    over. client-go uses a monotonic clock too (leaderelection.go, ``observedTime``).
    """

    _observed: float

    @property
    def observed_time_milliseconds(self) -> int:
        """The library compares this plus the duration with the wall clock: 0 is always expired, `maxsize` never."""
        return 0 if time.monotonic() - self._observed >= LEASE_SECONDS else sys.maxsize

    @observed_time_milliseconds.setter
    def observed_time_milliseconds(self, _: int) -> None:
        """Called when the observed Lease changed. The library passes the wall clock's time, which is ignored."""
        self._observed = time.monotonic()


class Candidate:
    """One process in the election."""

    def __init__(self, client: KubeClient, namespace: str, name: str, identity: str) -> None:
        """`identity` must be unique to this process: whoever finds its own identity in the Lease holds it."""
        self._lock = _Lock(client, namespace, name, identity)
        config = Config(self._lock, LEASE_SECONDS, RENEW_DEADLINE_SECONDS, RETRY_SECONDS, _unused, _unused)
        self._election = _Election(config)

    @property
    def holder(self) -> str:
        """The holder when the Lease was last read; empty: none, or unknown."""
        record = self._election.observed_record
        return (record.holder_identity if record is not None else None) or ""

    async def attempt(self) -> bool:
        """Acquire or renew the Lease; False: another candidate holds it or was faster. Raises ApiError."""
        try:
            return await self._election.try_acquire_or_renew()
        except ApiError as error:
            if error.status == 409:
                return False
            raise

    async def release(self) -> None:
        """Release the Lease if this candidate holds it. Raises ApiError."""
        await self._lock.release()


async def _unused() -> None:
    """Callback of the library's own loops, which are not used: see controller/runtime/leadership.py."""


def _record(spec: Document) -> LeaderElectionRecord:
    seconds = spec.get("leaseDurationSeconds")
    return LeaderElectionRecord(
        holder_identity=spec.get("holderIdentity") or None,
        lease_duration=None if seconds is None else str(seconds),
        acquire_time=spec.get("acquireTime"),
        renew_time=spec.get("renewTime"),
    )


def _spec(record: LeaderElectionRecord) -> Document:
    return {
        "holderIdentity": record.holder_identity,
        "leaseDurationSeconds": int(record.lease_duration or LEASE_SECONDS),
        "acquireTime": _micro_time(record.acquire_time),
        "renewTime": _micro_time(record.renew_time),
    }


def _micro_time(text: str | None) -> str | None:
    """Kubernetes' MicroTime for the library's local time without a zone, or for a time read from a Lease."""
    if text is None:
        return None
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
