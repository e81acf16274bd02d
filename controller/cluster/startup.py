"""Reads from a pod's status why it has not started. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from controller.desired.deployment import CONTAINER
from controller.observation import StartWait
from kube.client import Document

_WAITING_TO_START = frozenset({"ContainerCreating", "PodInitializing"})
"""States that every container passes through."""


def start_failure(status: Mapping[str, Any]) -> tuple[str, str]:
    """Why a pod with this status cannot start, in Kubernetes' words, and the container that fails.

    The first is empty when no failure is known, the second when it is the pod or its worker that fails.
    """
    scheduled = _conditions(status).get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'Unschedulable')}: {scheduled.get('message', '')}", ""
    for kind, container in _containers(status):
        waiting = (container.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in _WAITING_TO_START:
            ended = (container.get("lastState") or {}).get("terminated") or {}
            last = f" (last exit code {ended['exitCode']}, {ended.get('reason', '')})" if "exitCode" in ended else ""
            name = container.get("name", CONTAINER)
            cause = f"{waiting.get('reason', 'Waiting')}: {waiting.get('message', '')}".rstrip(": ") + last
            return cause, "" if name == CONTAINER else f"{kind} {name}"
    return "", ""


def start_wait(pod: Document) -> StartWait | None:
    """What a pod that has not started waits for, and since when; None: it has started."""
    status = pod.get("status") or {}
    if status.get("phase") not in (None, "Pending"):
        return None
    created = pod["metadata"]["creationTimestamp"]
    if not pod["spec"].get("nodeName"):
        return _wait("no scheduler has assigned a node", created)
    since = status.get("startTime") or created
    sidecars = {one["name"] for one in pod["spec"].get("initContainers") or [] if one.get("restartPolicy") == "Always"}
    for container in status.get("initContainerStatuses") or []:
        name, state = container.get("name", ""), container.get("state") or {}
        if "terminated" in state:
            since = state["terminated"].get("finishedAt") or since
            continue
        if "running" not in state:
            return _wait(_reason(state), since)
        if name not in sidecars:
            return _wait("it has not finished", state["running"].get("startedAt") or since, f"init container {name}")
        if not container.get("started"):
            return _wait("it has not started", state["running"].get("startedAt") or since, f"init container {name}")
    states = [container.get("state") or {} for container in status.get("containerStatuses") or []]
    return _wait(_reason(next((state for state in states if "waiting" in state), {})), since)


def _containers(status: Mapping[str, Any]) -> Iterable[tuple[str, Document]]:
    """Every container's status, with the kind of container."""
    for container in status.get("initContainerStatuses") or []:
        yield "init container", container
    for container in status.get("containerStatuses") or []:
        yield "container", container


def _conditions(status: Mapping[str, Any]) -> dict[str, Any]:
    return {condition["type"]: condition for condition in status.get("conditions") or []}


def _reason(state: Mapping[str, Any]) -> str:
    return str((state.get("waiting") or {}).get("reason") or "ContainerCreating")


def _wait(state: str, since: str, container: str = "") -> StartWait:
    return StartWait(state, since, datetime.fromisoformat(since).timestamp(), container)
