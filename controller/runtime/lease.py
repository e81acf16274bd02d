"""The Lease that says which controller process leads, over ``kubernetes.aio.leaderelection``.

The library decides (``LeaderElection.try_acquire_or_renew``); its own ``LeaseLock`` is replaced because in 37.0.2 it
writes local time as UTC, logs a lost race as an error with a traceback, and lets connection errors through.
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
"""A Lease that nobody renewed for so long may be taken by another candidate."""
RENEW_DEADLINE_SECONDS = 10
"""A holder that could not renew for so long stops; it has the rest of LEASE_SECONDS to let go of everything."""
RETRY_SECONDS = 2
"""Between two looks at the Lease, of the holder and of those that wait."""

_NOT_FOUND = ApiException(status=404, reason="Not Found", body='{"code": 404}')
"""How the library is told that there is no Lease yet; any other body would be an error to it."""


class _Lock(BaseLock):
    """Reads and writes the Lease; whatever fails is raised as ApiError, so the library never has to judge it."""

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
        """Empty the Lease if this candidate holds it: the others take it at their next look."""
        lease = await self._client.get(LEASE, self.namespace, self.name)
        if lease is None or (lease.get("spec") or {}).get("holderIdentity") != self.identity:
            return
        self._version = lease["metadata"]["resourceVersion"]
        await self._write(self.name, self.namespace, {"holderIdentity": ""})

    async def _write(self, name: str, namespace: str, spec: Document) -> None:
        # With the version that was read: of two candidates that write at once, one gets 409.
        patch = {"metadata": {"resourceVersion": self._version}, "spec": spec}
        await self._client.merge_patch(LEASE, namespace, name, patch)


class _Election(LeaderElection):
    """The library's, but for how long the Lease has stood as it is. It asks the wall clock, which somebody may set: by
    15 s or more and two lead, or nobody follows. As in client-go it is the monotonic clock's to say (leaderelection.go,
    ``observedTime``).
    """

    _observed: float

    @property
    def observed_time_milliseconds(self) -> int:
        """The library takes the Lease when this and its duration are over: long ago, or never, whatever day it is."""
        return 0 if time.monotonic() - self._observed >= LEASE_SECONDS else sys.maxsize

    @observed_time_milliseconds.setter
    def observed_time_milliseconds(self, _: int) -> None:
        """The Lease is another than before; when, the library says by the wall clock."""
        self._observed = time.monotonic()


class Candidate:
    """One process in the election."""

    def __init__(self, client: KubeClient, namespace: str, name: str, identity: str) -> None:
        """`identity` must be this process's own: who finds it in the Lease holds it."""
        self._lock = _Lock(client, namespace, name, identity)
        config = Config(self._lock, LEASE_SECONDS, RENEW_DEADLINE_SECONDS, RETRY_SECONDS, _unused, _unused)
        self._election = _Election(config)

    @property
    def holder(self) -> str:
        """Who held the Lease when it was last read; empty: not known, or nobody."""
        record = self._election.observed_record
        return (record.holder_identity if record is not None else None) or ""

    async def attempt(self) -> bool:
        """Take the Lease or renew it; False: another one holds it, or was faster. Raises ApiError."""
        try:
            return await self._election.try_acquire_or_renew()
        except ApiError as error:
            if error.status == 409:
                return False
            raise

    async def release(self) -> None:
        """Let go of the Lease, if it is held. Raises ApiError."""
        await self._lock.release()


async def _unused() -> None:
    """The library's own loops, which would call this, are not used: see controller/leadership.py."""


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
    """Kubernetes' MicroTime, of the library's local time without a zone or of a time read from a Lease."""
    if text is None:
        return None
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
