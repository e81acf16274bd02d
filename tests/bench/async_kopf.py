"""The same handler as `bare_kopf`, in the event loop: about the least that an operator in Python needs."""

import os
from typing import Any

import kopf
from kubernetes.aio import client, config

from tests.bench.deployments import deployment


@kopf.on.startup()
async def connect(memo: kopf.Memo, **_: Any) -> None:
    await config.load_kube_config(os.environ["KUBECONFIG"])  # type: ignore[no-untyped-call]
    memo.apps = client.AppsV1Api()


@kopf.on.cleanup()
async def disconnect(memo: kopf.Memo, **_: Any) -> None:
    await memo.apps.api_client.close()


@kopf.on.create("avataragents.io", "v1alpha1", "avataragents")
async def created(memo: kopf.Memo, namespace: str | None, name: str, patch: kopf.Patch, **_: Any) -> None:
    assert namespace is not None
    document = deployment(namespace, name)
    kopf.adopt(document)
    await memo.apps.patch_namespaced_deployment(
        name, namespace, document, field_manager="bare", force=True, _content_type="application/apply-patch+yaml"
    )
    patch.status["agentName"] = name
