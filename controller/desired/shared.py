"""The objects that all agents of a namespace share: the workers' ServiceAccount and NetworkPolicy."""

from collections.abc import Sequence
from typing import Any

from agentspec.names import WORKER_PORT, WORKER_SERVICE_ACCOUNT
from controller.desired.identity import MANAGED_LABELS

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label that Kubernetes sets on every namespace."""


def service_account(namespace: str) -> dict[str, Any]:
    """The workers' ServiceAccount. Workers never use the API server, so it has no permissions and mounts no token."""
    return {"metadata": _metadata(namespace), "automountServiceAccountToken": False}


def network_policy(namespace: str, sources: Sequence[str]) -> dict[str, Any]:
    """The NetworkPolicy that lets pods of these namespaces connect to workers, for status and metrics.

    Calls need no ingress, because workers open the connections to LiveKit.
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
