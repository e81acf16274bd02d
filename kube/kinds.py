"""The Kubernetes kinds in use, and their URL paths at the API server."""

from dataclasses import dataclass
from urllib.parse import quote

from agentspec import API_GROUP, API_VERSION, KIND, PLURAL


@dataclass(frozen=True, slots=True)
class Kind:
    """A namespaced or cluster-wide kind and its resource name."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, of one object, or of its subresource."""
        prefix = "/apis" if "/" in self.api_version else "/api"
        parts = [f"{prefix}/{self.api_version}"]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)


AVATAR_AGENT = Kind(f"{API_GROUP}/{API_VERSION}", KIND, PLURAL)
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets")
POD = Kind("v1", "Pod", "pods")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
EVENT = Kind("v1", "Event", "events")
TOKEN_REVIEW = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews")
