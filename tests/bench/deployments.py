"""The small Deployment of the controller's peers."""

from typing import Any


def deployment(namespace: str, name: str) -> dict[str, Any]:
    """Return a Deployment with one replica of one container."""
    labels = {"app": name}
    container = {"name": "worker", "image": "worker.example/image:1", "ports": [{"containerPort": 8080}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
