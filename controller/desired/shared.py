"""What serves all agents of a namespace, and exists once: the workers' ServiceAccount and NetworkPolicy."""

from collections.abc import Sequence
from typing import Any

from agentspec.names import WORKER_PORT, WORKER_SERVICE_ACCOUNT
from controller.desired.identity import MANAGED_LABELS

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
            "podSelector": {"matchLabels": MANAGED_LABELS},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": peers, "ports": [{"protocol": "TCP", "port": WORKER_PORT}]}],
        },
    }


def _metadata(namespace: str) -> dict[str, Any]:
    return {"namespace": namespace, "name": WORKER_SERVICE_ACCOUNT, "labels": MANAGED_LABELS}
