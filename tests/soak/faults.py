"""Faults of a real installation: stopped components, a killed worker, failing providers, a webhook without answers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agentspec.resource import API_GROUP, API_VERSION, PLURAL
from devkit.demo.product import RELEASE, SYSTEM_NAMESPACE, Product
from tests.e2e.conftest import Platform
from tests.e2e.simulators import simulated

WEBHOOK = "silent"
WEBHOOK_PORT = 9300
_SILENT_SERVER = """
import socket, sys, time
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    time.sleep(3600)  # the kernel accepts connections, and nobody reads from them
"""


@contextmanager
def stopped(product: Product, component: str, replicas: int) -> Iterator[None]:
    """Run no pod of a component until the block ends, then this number."""
    name = f"deployment/{RELEASE}-{component}"
    product.kubectl_run("-n", SYSTEM_NAMESPACE, "scale", name, "--replicas=0")
    try:
        yield
    finally:
        product.kubectl_run("-n", SYSTEM_NAMESPACE, "scale", name, f"--replicas={replicas}")
        product.kubectl_run("-n", SYSTEM_NAMESPACE, "rollout", "status", name, "--timeout=120s", seconds=130)


@contextmanager
def simulated_openai(platform: Platform, **settings: Any) -> Iterator[None]:
    """Change the settings of the simulated OpenAI until the block ends."""
    with simulated(platform.targets.openai_url, settings):
        yield


@contextmanager
def silent_webhook(platform: Platform) -> Iterator[None]:
    """Let the API server ask a webhook that never answers about every status of an agent, until the block ends."""
    cluster, product = platform.cluster, platform.product
    cluster.spawn(WEBHOOK, [sys.executable, "-c", _SILENT_SERVER, cluster.node_ip, f"{WEBHOOK_PORT}"])
    product.apply([_webhook(f"https://{cluster.node_ip}:{WEBHOOK_PORT}/")], "")
    try:
        yield
    finally:
        product.kubectl_run("delete", "validatingwebhookconfiguration", WEBHOOK)


def _webhook(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK},
        "webhooks": [
            {
                "name": "silent.example.com",
                "clientConfig": {"url": url},
                "rules": [
                    {
                        "apiGroups": [API_GROUP],
                        "apiVersions": [API_VERSION],
                        "resources": [f"{PLURAL}/status"],
                        "operations": ["UPDATE"],
                    }
                ],
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 1,
            }
        ],
    }
