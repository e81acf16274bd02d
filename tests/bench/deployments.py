"""A small Deployment, as the peers of the controller have it."""

from typing import Any


def deployment(namespace: str, name: str) -> dict[str, Any]:
    """One replica of one container."""
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
