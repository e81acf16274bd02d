"""Converts the API server's documents to observations. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agentspec.names import AGENT_LABEL
from controller.cluster.startup import start_failure, start_wait
from controller.desired.deployment import TEMPLATE_ANNOTATION
from controller.desired.identity import FIELD_MANAGER, MANAGED_LABELS
from controller.observation import Key, ObservedDeployment, ObservedObject, ObservedPod, ReplicasWriter
from controller.policy.podannotations import DELETION_COST, PROTECTION
from kube.client import Document

_OWN_ANNOTATIONS = {DELETION_COST, *PROTECTION}
MANAGED_SELECTOR = ",".join(f"{label}={value}" for label, value in MANAGED_LABELS.items())
"""Selects everything that the controller creates."""


def children_selector(agent: str) -> str:
    """The label selector of one AvatarAgent's children."""
    return f"{MANAGED_SELECTOR},{AGENT_LABEL}={agent}"


def agent_of(document: Document) -> Key:
    """The AvatarAgent that owns an object; its name is empty for objects shared by a namespace."""
    metadata = document["metadata"]
    return Key(metadata["namespace"], (metadata.get("labels") or {}).get(AGENT_LABEL, ""))


def observe_object(document: Document) -> ObservedObject:
    """Observe a child of any kind."""
    metadata = document["metadata"]
    references = metadata.get("ownerReferences") or []
    return ObservedObject(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        labels=metadata.get("labels") or {},
        owners=tuple((reference["kind"], reference["name"], reference["uid"]) for reference in references),
        applied=any(part.get("manager") == FIELD_MANAGER for part in metadata.get("managedFields") or []),
        content=str(document.get("automountServiceAccountToken", "")),
    )


def observe_deployment(document: Document) -> ObservedDeployment:
    """Observe a worker Deployment."""
    spec = document["spec"]
    annotations = spec["template"]["metadata"].get("annotations") or {}
    return ObservedDeployment(
        object=observe_object(document),
        replicas=spec["replicas"],
        template=annotations.get(TEMPLATE_ANNOTATION, ""),
        create_failure=_create_failure(document.get("status") or {}),
        replicas_writer=_replicas_writer(document),
    )


def observe_pod(pod: Document) -> ObservedPod:
    """Observe a worker pod."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    annotations = metadata.get("annotations") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    failure, container = start_failure(status)
    return ObservedPod(
        name=metadata["name"],
        ip=status.get("podIP") or "",
        running=status.get("phase") == "Running",
        ready=conditions.get("Ready", {}).get("status") == "True",
        terminating=bool(metadata.get("deletionTimestamp")),
        ended=status.get("phase") in ("Succeeded", "Failed"),
        annotations={name: value for name, value in annotations.items() if name in _OWN_ANNOTATIONS},
        start_failure=failure,
        failed_container=container,
        start_wait=start_wait(pod),
        config_map=config_map_of(pod["spec"]),
        template=annotations.get(TEMPLATE_ANNOTATION, ""),
        created=datetime.fromisoformat(metadata["creationTimestamp"]).timestamp(),
        node=pod["spec"].get("nodeName") or "",
    )


def config_map_of(pod_spec: Mapping[str, Any]) -> str:
    """The name of the ConfigMap that pods with this spec mount."""
    for volume in pod_spec.get("volumes") or []:
        if "configMap" in volume:
            return str(volume["configMap"]["name"])
    return ""


def _replicas_writer(deployment: Document) -> ReplicasWriter | None:
    """The last other client that owns `spec.replicas`. The controller takes the field over when it sets its own."""
    writers = [
        ReplicasWriter(
            manager=part.get("manager", ""),
            scaled=part.get("subresource") == "scale",
            time=part.get("time", ""),
            replicas=deployment["spec"]["replicas"],
        )
        for part in deployment["metadata"].get("managedFields") or []
        if part.get("manager") != FIELD_MANAGER and "f:replicas" in ((part.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return max(writers, key=lambda writer: writer.time, default=None)


def _create_failure(status: Document) -> str:
    for condition in status.get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"
    return ""
