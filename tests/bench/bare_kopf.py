"""The peer: a kopf handler in a thread, as in kopf's documentation; it writes a Deployment and a status field."""

import os
from typing import Any

import kopf
from kubernetes import client, config

from tests.bench.deployments import deployment


@kopf.on.startup()
def connect(**_: Any) -> None:
    config.load_kube_config(os.environ["KUBECONFIG"])  # type: ignore[no-untyped-call]


@kopf.on.create("avataragents.io", "v1alpha1", "avataragents")
def created(namespace: str | None, name: str, patch: kopf.Patch, **_: Any) -> None:
    assert namespace is not None
    document = deployment(namespace, name)
    kopf.adopt(document)
    client.AppsV1Api().patch_namespaced_deployment(
        name, namespace, document, field_manager="bare", force=True, _content_type="application/apply-patch+yaml"
    )
    patch.status["agentName"] = name
