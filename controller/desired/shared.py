"""What serves all agents of a namespace, and exists once: the workers' ServiceAccount and NetworkPolicy."""

from collections.abc import Sequence
from typing import Any

from agentspec.names import (
    COMPONENT_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    WORKER_COMPONENT,
    WORKER_PORT,
    WORKER_SERVICE_ACCOUNT,
)

_LABELS = {MANAGED_BY_LABEL: MANAGED_BY, COMPONENT_LABEL: WORKER_COMPONENT}
_NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label that Kubernetes gives every namespace."""


def service_account(namespace: str) -> dict[str, Any]:
    """Whom workers run as. They never speak to the API server, so it has no rights and carries no token."""
    return {"metadata": _metadata(namespace), "automountServiceAccountToken": False}


def network_policy(namespace: str, sources: Sequence[str]) -> dict[str, Any]:
    """Who may connect to workers: these namespaces, for status and metrics. Calls need nothing: workers connect to
    LiveKit themselves.
    """
    peers = [{"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: source}}} for source in sources]
    return {
        "metadata": _metadata(namespace),
        "spec": {
            "podSelector": {"matchLabels": _LABELS},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": peers, "ports": [{"protocol": "TCP", "port": WORKER_PORT}]}],
        },
    }


def _metadata(namespace: str) -> dict[str, Any]:
    return {"namespace": namespace, "name": WORKER_SERVICE_ACCOUNT, "labels": _LABELS}
