"""Rejections of the installed gateway, and an agent whose Secret is missing."""

import json
import urllib.error
import urllib.request

import pytest

from devkit.demo.caller import PAGE_HEADERS
from devkit.demo.product import AGENTS_NAMESPACE
from tests.e2e import agents
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (json.dumps({"agent": "unknown", "name": "Layla"}).encode(), 401, "Unauthorized"),
        (b'{"agent": ', 400, "BadJSON"),
        (json.dumps({"agent": "a", "name": "Layla", "room": {"metadata": "x"}}).encode(), 400, "InvalidRequest"),
        (b'{"agent": "a", "name": "' + b"x" * 20_000 + b'"}', 413, "BodyTooLarge"),
    ],
    ids=["an unknown agent", "bad JSON", "a room configuration of the caller's", "an oversized body"],
)
def test_invalid_request_is_rejected_with_a_reason(platform: Platform, body: bytes, status: int, reason: str) -> None:
    headers = {"Content-Type": "application/json", **PAGE_HEADERS}
    request = urllib.request.Request(f"{platform.gateway}/v1/calls", data=body, headers=headers, method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request, timeout=10):
        pass
    with refused.value as answer:
        assert answer.code == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = json.load(answer)
    assert problem["reason"] == reason
    assert problem["detail"]


def test_agent_is_ready_once_its_missing_secret_exists(platform: Platform) -> None:
    agent = agents.manifest(platform.targets, "corrected")
    agent["spec"]["voice"]["openai"]["credentialsSecretRef"]["name"] = "corrected-openai"
    product = platform.product
    with agents.declared(product, agent, ready=False) as name:
        eventually_blocking(
            lambda: "corrected-openai" in messages(platform, name), "the condition names the Secret", 30
        )
        secret = product.get("secret", "ornina-openai")
        data = {"metadata": {"name": "corrected-openai"}, "data": secret["data"]}
        product.apply([{"apiVersion": "v1", "kind": "Secret", **data}])
        product.wait_ready(name, agents.READY_SECONDS)
        pods = product.items("pods", "app.kubernetes.io/component=controller", "avatar-agent-system")
        assert [status["restartCount"] for pod in pods for status in pod["status"]["containerStatuses"]] == [0, 0]
    product.kubectl_run("-n", AGENTS_NAMESPACE, "delete", "secret", "corrected-openai")


def messages(platform: Platform, name: str) -> str:
    conditions = platform.product.get("avataragent", name).get("status", {}).get("conditions", [])
    return " ".join(c["message"] for c in conditions if c["type"] == "CredentialsValid" and c["status"] == "False")
