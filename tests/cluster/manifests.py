"""The objects that tests apply."""

import base64
from typing import Any

from agentspec import API_GROUP, API_VERSION, KIND


def agent(namespace: str, name: str, livekit_url: str, openai_url: str, **spec: Any) -> dict[str, Any]:
    """An AvatarAgent; `spec` replaces whole fields of its spec."""
    return {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": KIND,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "livekit": {"url": livekit_url, "credentialsSecretRef": {"name": "livekit"}},
            "voice": {"openai": {"baseURL": openai_url, "credentialsSecretRef": {"name": "openai"}}},
            "worker": {"callsPerWorker": 1},
            "scaling": {"minWorkers": 1, "maxWorkers": 3, "freeSlots": 0, "scaleDownDelaySeconds": 2},
            **spec,
        },
    }


def secret(namespace: str, name: str, **values: str) -> dict[str, Any]:
    """A Secret."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"namespace": namespace, "name": name}, "data": data}


def config_map(namespace: str, name: str, **texts: str) -> dict[str, Any]:
    """A ConfigMap."""
    return {"metadata": {"namespace": namespace, "name": name}, "data": dict(texts)}
