"""Decides when a worker is lost: its calls have no agent any more, although none of them ended.

A worker that hangs is not lost, because its call processes continue. Neither is one whose stream broke and is back in
time.
"""

from enum import StrEnum
from typing import Final

from agentspec import WorkerStatus
from controller.observation import ObservedPod

MISSING_SECONDS: Final = 1.0
"""A worker with jobs whose stream broke is lost when it accepts no connection for this long."""


class Contact(StrEnum):
    """The result of a connection attempt to a worker."""

    ACCEPTED = "accepted"
    """Its kernel accepted the connection: the process exists, though it may hang."""
    REFUSED = "refused"
    """Its pod is there, and no process listens."""
    NONE = "none"
    """No answer: the pod, its node or the network is away."""


class LossReason(StrEnum):
    """Why a worker is lost: a label of `workers_lost_total`, and the `reason` of the log line."""

    PROCESS_ENDED = "process_ended"
    """Its stream broke, and its pod refuses a connection or has another address."""
    PROCESS_RESTARTED = "process_restarted"
    """Its stream is back from a new process."""
    POD_GONE = "pod_gone"
    """Its pod was deleted, or all containers of the pod have ended."""
    UNREACHABLE = "unreachable"
    """Its stream broke, no connection was possible for `MISSING_SECONDS`, and the controller's own network works."""


def loss_by_contact(contact: Contact, seconds: float, *, is_connected: bool) -> LossReason | None:
    """Why a worker with jobs is lost whose stream broke this long ago; None: it is not, or not yet.

    `is_connected`: whether the API server answered lately. When the controller is cut off, all workers are unreachable,
    and none of them is lost.
    """
    if contact is Contact.REFUSED:
        return LossReason.PROCESS_ENDED
    if contact is Contact.NONE and seconds >= MISSING_SECONDS and is_connected:
        return LossReason.UNREACHABLE
    return None


def loss_by_pod(address: str, pod: ObservedPod | None) -> LossReason | None:
    """Why a worker is lost that was followed at `address`, given its pod now; None: it is not.

    A pod that was deleted by force is gone before its containers are: the kubelet kills them within seconds.
    """
    if pod is None or not pod.running:
        return LossReason.POD_GONE
    if pod.ip != address:  # its sandbox was created anew, as after a restart of the node
        return LossReason.PROCESS_ENDED
    return None


def has_restarted(before: WorkerStatus, now: WorkerStatus) -> bool:
    """Whether the container restarted: only a process that never registered has no worker id."""
    return bool(before.worker_id) and not now.worker_id
