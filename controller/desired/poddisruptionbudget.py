"""The PodDisruptionBudget of an agent's workers: a node drain evicts them one at a time.

An evicted worker drains and finishes its calls. The budget keeps the other workers available for new calls meanwhile.
It never blocks the last eviction: a node must be drainable, however few workers there are.
"""

from typing import Any

from controller.desired.identity import Owner, labels, metadata


def pod_disruption_budget(owner: Owner) -> dict[str, Any]:
    """The budget: one worker may be unavailable, and an unready worker may always be evicted."""
    return {
        "metadata": metadata(owner, owner.worker_name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": labels(owner)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
