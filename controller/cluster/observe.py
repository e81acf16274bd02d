"""Reads what an AvatarAgent depends on and what has become of it."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from agentspec.names import AGENT_LABEL, COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, WORKER_COMPONENT
from controller.cluster.client import ApiError, Document, KubeClient
from controller.cluster.kinds import CONFIG_MAP, POD, REPLICA_SET, SECRET
from controller.observation import Key, KnowledgeSeen, PodSeen

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
MANAGED_SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY},{COMPONENT_LABEL}={WORKER_COMPONENT}"
"""Everything that belongs to any AvatarAgent."""

_HARMLESS_WAITING = frozenset({"ContainerCreating", "PodInitializing"})


def children_selector(key: Key) -> str:
    """Everything that belongs to one AvatarAgent."""
    return f"{MANAGED_SELECTOR},{AGENT_LABEL}={key.name}"


async def read_secret(client: KubeClient, namespace: str, name: str) -> dict[str, str] | None:
    """A Secret's values that are texts and not blank, without blanks around, by key; None: there is no such Secret."""
    secret = await client.get(SECRET, namespace, name)
    if secret is None:
        return None
    values = {key: _text(value) for key, value in (secret.get("data") or {}).items()}
    return {key: value for key, value in values.items() if value}


def _text(encoded: str | None) -> str:
    try:
        return base64.b64decode(encoded or "", validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return ""


async def read_knowledge(client: KubeClient, namespace: str, name: str) -> KnowledgeSeen:
    """A ConfigMap of knowledge."""
    document = await client.get(CONFIG_MAP, namespace, name)
    return KnowledgeSeen(name, None if document is None else dict(document.get("data") or {}))


async def list_pods(client: KubeClient, key: Key) -> list[PodSeen]:
    """An agent's worker pods that have not ended."""
    pods = await client.list(POD, key.namespace, children_selector(key))
    return [pod_seen(pod) for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]


async def list_config_maps(client: KubeClient, key: Key) -> set[str]:
    """Names of the configurations made for an agent."""
    found = await client.list(CONFIG_MAP, key.namespace, children_selector(key), metadata_only=True)
    return {document["metadata"]["name"] for document in found}


async def config_maps_of_replica_sets(client: KubeClient, key: Key) -> set[str]:
    """Names of the configurations that ReplicaSets with pods, or about to have some, start pods with."""
    found = await client.list(REPLICA_SET, key.namespace, children_selector(key))
    living = [document for document in found if document["spec"].get("replicas") or document["status"].get("replicas")]
    return {_config_map(document["spec"]["template"]["spec"]) for document in living}


async def price(client: KubeClient, namespace: str, pod: str, cost: str) -> None:
    """Say how dear a pod is: of those that could leave, the cheapest go first. One that is gone already is fine."""
    try:
        await client.merge(POD, namespace, pod, {"metadata": {"annotations": {DELETION_COST: cost}}})
    except ApiError as error:
        if error.status != 404:
            raise


def pod_seen(pod: Document) -> PodSeen:
    """What matters of a pod."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    return PodSeen(
        name=metadata["name"],
        ip=status.get("podIP") or "",
        running=status.get("phase") == "Running",
        ready=conditions.get("Ready", {}).get("status") == "True",
        terminating=bool(metadata.get("deletionTimestamp")),
        deletion_cost=(metadata.get("annotations") or {}).get(DELETION_COST),
        trouble=_trouble(conditions, containers),
        config_map=_config_map(pod["spec"]),
    )


def deployment_trouble(deployment: Document | None) -> str:
    """Why the Deployment cannot make pods (quota, admission); empty: it can."""
    if deployment is None:
        return ""
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"
    return ""


def _trouble(conditions: Mapping[str, Any], containers: list[Document]) -> str:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', 'Unschedulable')}: {scheduled.get('message', '')}"
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in _HARMLESS_WAITING:
            ended = (container.get("lastState") or {}).get("terminated") or {}
            last = f" (last exit code {ended['exitCode']}, {ended.get('reason', '')})" if "exitCode" in ended else ""
            return f"{waiting.get('reason', 'Waiting')}: {waiting.get('message', '')}".rstrip(": ") + last
    return ""


def _config_map(pod_spec: Mapping[str, Any]) -> str:
    for volume in pod_spec.get("volumes") or []:
        if "configMap" in volume:
            return str(volume["configMap"]["name"])
    return ""
