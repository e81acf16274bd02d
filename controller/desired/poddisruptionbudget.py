"""The PodDisruptionBudget of an agent's workers: a node that is drained takes them one after the other.

An evicted worker finishes its calls like every leaving one; the budget keeps callers from finding nobody meanwhile. It
never forbids the last eviction: a node must be drainable, however few workers there are.
"""

from typing import Any

from controller.desired.identity import Owner, labels, metadata


def pod_disruption_budget(owner: Owner) -> dict[str, Any]:
    """One worker at a time; one that is not ready may always go."""
    return {
        "metadata": metadata(owner, owner.worker_name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": labels(owner)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
