"""The name, labels and owner reference of every child."""

from dataclasses import dataclass
from typing import Any

from agentspec import API_GROUP, API_VERSION, KIND
from agentspec.names import AGENT_LABEL, COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, WORKER_COMPONENT


@dataclass(frozen=True, slots=True)
class Owner:
    """The AvatarAgent that owns the children."""

    namespace: str
    name: str
    uid: str

    @property
    def worker_name(self) -> str:
        """Name of its worker Deployment and PodDisruptionBudget."""
        return f"{self.name}-worker"


FIELD_MANAGER = "avatar-agent-controller"
"""The controller's field manager in server-side apply."""
MANAGED_LABELS = {MANAGED_BY_LABEL: MANAGED_BY, COMPONENT_LABEL: WORKER_COMPONENT}
"""Labels of every object that the controller creates. Its watches select by them."""


def labels(owner: Owner) -> dict[str, str]:
    """Labels of every child, and the selector of worker pods."""
    return {AGENT_LABEL: owner.name, **MANAGED_LABELS}


def metadata(owner: Owner, name: str) -> dict[str, Any]:
    """Metadata of a child. Its controller reference lets Kubernetes' garbage collector delete it with its owner."""
    reference = {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": KIND,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {"namespace": owner.namespace, "name": name, "labels": labels(owner), "ownerReferences": [reference]}
