"""The Deployment of an agent's workers."""

import hashlib
import json
from pathlib import PurePosixPath
from typing import Any

from agentspec import AvatarAgentSpec, AvatarProvider, PodSettings, WorkerSpec
from agentspec.names import (
    LIVEKIT_KEY,
    LIVEKIT_SECRET,
    OPENAI_KEY,
    TAVUS_KEY,
    WORKER_PORT,
    WORKER_SERVICE_ACCOUNT,
)
from agentspec.wire import CONFIG_PATH
from controller.desired.identity import Owner, labels, metadata

CONTAINER = "worker"
CONFIG_VOLUME = "config"
CREDENTIALS_ANNOTATION = "avataragents.io/credentials"
"""On worker pods: fingerprint of the Secrets' values. Variables are read once: other values need other pods."""
TEMPLATE_ANNOTATION = "avataragents.io/template"
"""On worker pods: digest of the template they were made from; tells old workers from new ones."""
NON_ROOT_USER = 65532

DRAIN_MARGIN_SECONDS = 420
"""What a worker needs after its last call. livekit-agents 1.8.9 closes in steps that each have a bound of their own,
together about 400 s at worst (``AgentServer.aclose`` and the job processes' shutdown); 20 s are for the kubelet."""

STARTUP_PERIOD_SECONDS = 1
STARTUP_FAILURES = 180
"""A worker that has not come up after this many seconds is started anew; a cold node imports models for a while."""

_DIGEST_LENGTH = 12
_MULTIPROC_DIR = "/var/run/prometheus-multiproc"


def grace_seconds(worker: WorkerSpec) -> int:
    """How long a leaving worker may take to finish its calls."""
    return worker.max_call_minutes * 60 + DRAIN_MARGIN_SECONDS


def pod_template(
    owner: Owner, spec: AvatarAgentSpec, *, default_image: str, config_map_name: str, credentials: str
) -> dict[str, Any]:
    """What workers are made from. Another template rolls new workers in, so it holds nothing that may change for
    no reason; its digest is its own annotation.
    """
    annotations = {**spec.worker.pod.annotations, CREDENTIALS_ANNOTATION: credentials}
    pod = _pod_spec(spec, spec.worker.image or default_image, config_map_name)
    text = json.dumps([annotations, pod], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]
    return {
        "metadata": {"labels": labels(owner), "annotations": {**annotations, TEMPLATE_ANNOTATION: digest}},
        "spec": pod,
    }


def digest_of(template: dict[str, Any]) -> str:
    """Tells one pod template from another."""
    digest: str = template["metadata"]["annotations"][TEMPLATE_ANNOTATION]
    return digest


def deployment(owner: Owner, template: dict[str, Any], *, replicas: int) -> dict[str, Any]:
    """The workers: new ones before old ones."""
    return {
        "metadata": metadata(owner, owner.worker_name),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": labels(owner)},
            "template": template,
        },
    }


def _pod_spec(spec: AvatarAgentSpec, image: str, config_map_name: str) -> dict[str, Any]:
    return {
        "serviceAccountName": WORKER_SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(spec.worker),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NON_ROOT_USER,
            "runAsGroup": NON_ROOT_USER,
            "fsGroup": NON_ROOT_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(spec, image)],
        "volumes": [
            {"name": CONFIG_VOLUME, "configMap": {"name": config_map_name}},
            {"name": "metrics", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
        **_placement(spec.worker.pod),
    }


def _placement(pod: PodSettings) -> dict[str, Any]:
    """Where the manifest wants the pods."""
    chosen = pod.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"annotations"})
    return {field: value for field, value in chosen.items() if value}


def _container(spec: AvatarAgentSpec, image: str) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": _environment(spec),
        "ports": [{"name": "http", "containerPort": WORKER_PORT, "protocol": "TCP"}],
        "resources": {"requests": dict(spec.worker.resources.requests), "limits": dict(spec.worker.resources.limits)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe("/livez", period=STARTUP_PERIOD_SECONDS, failures=STARTUP_FAILURES),
        "livenessProbe": _probe("/livez", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=1, failures=3),
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": str(PurePosixPath(CONFIG_PATH).parent), "readOnly": True},
            {"name": "metrics", "mountPath": _MULTIPROC_DIR},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _environment(spec: AvatarAgentSpec) -> list[dict[str, Any]]:
    livekit = spec.livekit.credentials_secret_ref.name
    variables = [
        _from_secret("LIVEKIT_API_KEY", livekit, LIVEKIT_KEY),
        _from_secret("LIVEKIT_API_SECRET", livekit, LIVEKIT_SECRET),
        _from_secret("OPENAI_API_KEY", spec.voice.openai.credentials_secret_ref.name, OPENAI_KEY),
    ]
    if spec.avatar.provider is AvatarProvider.TAVUS and spec.avatar.tavus is not None:
        variables.append(_from_secret("TAVUS_API_KEY", spec.avatar.tavus.credentials_secret_ref.name, TAVUS_KEY))
    return [*variables, {"name": "PROMETHEUS_MULTIPROC_DIR", "value": _MULTIPROC_DIR}]


def _from_secret(variable: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }
