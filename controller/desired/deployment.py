"""The Deployment of an agent's workers."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from agentspec import (
    AvatarAgentSpec,
    AvatarProvider,
    EnvironmentSource,
    EnvironmentVariable,
    PodSettings,
    VoiceSpec,
    WorkerSpec,
)
from agentspec.names import (
    AGENT_UID_VARIABLE,
    AVATAR_KEY_VARIABLE,
    AVATAR_PLUGIN_KEY,
    LIVEKIT_KEY,
    LIVEKIT_SECRET,
    PROVIDER_KEY,
    REPORT_KEY_VARIABLE,
    TAVUS_KEY,
    WORKER_PORT,
    WORKER_SERVICE_ACCOUNT,
    tool_header_variable,
    tracing_header_variable,
)
from agentspec.wire import CONFIG_PATH
from controller.desired.identity import Owner, labels, metadata

CONTAINER = "worker"
CONFIG_VOLUME = "config"
CREDENTIALS_ANNOTATION = "avataragents.io/credentials"
"""On worker pods: fingerprint of the Secrets' values. Pods read variables once, so changed values need new pods."""
TEMPLATE_ANNOTATION = "avataragents.io/template"
"""On worker pods: digest of the template they were created from. It distinguishes old workers from new ones."""
NON_ROOT_USER = 65532

DRAIN_MARGIN_SECONDS = 420
"""Time for a worker to close after its last call. livekit-agents 1.8.9 closes in steps with separate timeouts, about
400 s together in the worst case (``AgentServer.aclose`` and the job processes' shutdown). 20 s are for the kubelet."""

STARTUP_PERIOD_SECONDS = 1
STARTUP_FAILURES = 180
"""The kubelet restarts a worker that has not started after this many seconds. A cold node needs time to load models."""

LIVENESS_PERIOD_SECONDS = 10
LIVENESS_FAILURES = 8
"""The kubelet replaces a worker that has not answered for 80 s. None of its calls can continue by then: a call process
ends 70 s after the last ping of its main process (livekit-agents 1.8.9, ipc/proc_client.py)."""
STOP_DELAY_SECONDS = 1
"""The kubelet waits this long before SIGTERM. A pod deleted while it is created gets the signal in the instant in which
its init process starts, where the kernel drops one signal in six (measured). Such a worker would register and take
calls until the grace period ends, and its calls would be cut."""
HUNG_GRACE_SECONDS = 5
"""The grace period of a worker that does not answer. It finishes no calls, so it need not have the pod's, which would
leave it in place for more than an hour."""

_DIGEST_LENGTH = 12
_MULTIPROC_DIR = "/var/run/prometheus-multiproc"


def grace_seconds(worker: WorkerSpec) -> int:
    """Seconds that a draining worker has to finish its calls and close."""
    return worker.max_call_minutes * 60 + DRAIN_MARGIN_SECONDS


def pod_template(
    owner: Owner, spec: AvatarAgentSpec, *, default_image: str, config_map_name: str, credentials: str
) -> dict[str, Any]:
    """The pod template of the workers, with its own digest as an annotation.

    A changed template causes a rollout, so the template must not contain anything that changes without a reason.
    """
    annotations = {**spec.worker.pod.annotations, CREDENTIALS_ANNOTATION: credentials}
    pod = _pod_spec(owner, spec, spec.worker.image or default_image, config_map_name)
    text = json.dumps([annotations, pod], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]
    return {
        "metadata": {"labels": labels(owner), "annotations": {**annotations, TEMPLATE_ANNOTATION: digest}},
        "spec": pod,
    }


def digest_of(template: dict[str, Any]) -> str:
    """The digest that distinguishes one pod template from another."""
    digest: str = template["metadata"]["annotations"][TEMPLATE_ANNOTATION]
    return digest


def deployment(owner: Owner, template: dict[str, Any], *, replicas: int) -> dict[str, Any]:
    """The Deployment. A rollout starts new workers before it stops old ones."""
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


def _pod_spec(owner: Owner, spec: AvatarAgentSpec, image: str, config_map_name: str) -> dict[str, Any]:
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
        "containers": [_container(owner, spec, image)],
        "volumes": [
            {"name": CONFIG_VOLUME, "configMap": {"name": config_map_name}},
            {"name": "metrics", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
        **_placement(spec.worker.pod),
    }


def _placement(pod: PodSettings) -> dict[str, Any]:
    """The scheduling settings from the manifest that are set."""
    chosen = pod.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"annotations"})
    return {field: value for field, value in chosen.items() if value}


def _container(owner: Owner, spec: AvatarAgentSpec, image: str) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [*_environment(owner, spec), *_declared(spec.worker.env)],
        **({"envFrom": _declared(spec.worker.env_from)} if spec.worker.env_from else {}),
        "ports": [{"name": "http", "containerPort": WORKER_PORT, "protocol": "TCP"}],
        "resources": {"requests": dict(spec.worker.resources.requests), "limits": dict(spec.worker.resources.limits)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _liveness(period=STARTUP_PERIOD_SECONDS, failures=STARTUP_FAILURES),
        "livenessProbe": _liveness(period=LIVENESS_PERIOD_SECONDS, failures=LIVENESS_FAILURES),
        "readinessProbe": _probe("/readyz", period=1, failures=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": STOP_DELAY_SECONDS}}},
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": str(PurePosixPath(CONFIG_PATH).parent), "readOnly": True},
            {"name": "metrics", "mountPath": _MULTIPROC_DIR},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _environment(owner: Owner, spec: AvatarAgentSpec) -> list[dict[str, Any]]:
    livekit = spec.livekit.credentials_secret_ref.name
    variables = [
        _from_secret("LIVEKIT_API_KEY", livekit, LIVEKIT_KEY),
        _from_secret("LIVEKIT_API_SECRET", livekit, LIVEKIT_SECRET),
        *_provider_keys(spec.voice),
    ]
    if spec.avatar.provider is AvatarProvider.TAVUS and spec.avatar.tavus is not None:
        variables.append(_from_secret("TAVUS_API_KEY", spec.avatar.tavus.credentials_secret_ref.name, TAVUS_KEY))
        variables.append({"name": AGENT_UID_VARIABLE, "value": owner.uid})
    if spec.avatar.provider is AvatarProvider.PLUGIN and spec.avatar.plugin is not None:
        secret = spec.avatar.plugin.credentials_secret_ref
        variables += [_from_secret(AVATAR_KEY_VARIABLE, secret.name, AVATAR_PLUGIN_KEY)] if secret is not None else []
    for number, tool in enumerate(spec.tools):
        for position, header in enumerate(tool.headers):
            ref = header.secret_key_ref
            variables.append(_from_secret(tool_header_variable(number, position), ref.name, ref.key))
    if spec.report is not None:
        signing = spec.report.secret_key_ref
        variables.append(_from_secret(REPORT_KEY_VARIABLE, signing.name, signing.key))
    for position, header in enumerate(spec.tracing.headers if spec.tracing is not None else ()):
        ref = header.secret_key_ref
        variables.append(_from_secret(tracing_header_variable(position), ref.name, ref.key))
    return [*variables, {"name": "PROMETHEUS_MULTIPROC_DIR", "value": _MULTIPROC_DIR}]


def _declared(entries: Sequence[EnvironmentVariable | EnvironmentSource]) -> list[dict[str, Any]]:
    """The variables of own code, which the manifest declares in Kubernetes' own form."""
    documents = [entry.model_dump(mode="json", by_alias=True, exclude_none=True) for entry in entries]
    return [{name: value for name, value in document.items() if value or name == "value"} for document in documents]


def _provider_keys(voice: VoiceSpec) -> list[dict[str, Any]]:
    """The keys of the voice's providers: the common one, and those that a stage or a fallback has of its own."""
    common = voice.openai.credentials_secret_ref.name if voice.openai is not None and voice.uses_common else None
    variables = [_from_secret("OPENAI_API_KEY", common, PROVIDER_KEY)] if common is not None else []
    for entry in voice.entries():
        if (own := entry.provider.credentials_secret_ref) is not None:
            variables.append(_from_secret(entry.key_variable, own.name, PROVIDER_KEY))
    return variables


def _from_secret(variable: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _liveness(*, period: int, failures: int) -> dict[str, Any]:
    return _probe("/livez", period=period, failures=failures) | {"terminationGracePeriodSeconds": HUNG_GRACE_SECONDS}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }
