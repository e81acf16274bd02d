"""What is read out of Kubernetes' documents."""

import base64
from typing import Any

import pytest

from controller.cluster.kinds import AVATAR_AGENT, POD, TOKEN_REVIEW
from controller.cluster.observe import deployment_trouble, pod_seen, read_secret
from tests.unit.controller.recorder import Recorder


def document(**status: Any) -> dict[str, Any]:
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "config", "configMap": {"name": "ava-worker-1"}}]
    return {"metadata": {"name": "pod-1"}, "spec": {"volumes": volumes}, "status": status}


def waiting(reason: str, message: str = "", **container: Any) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}, **container}


def test_a_running_pod() -> None:
    seen = pod_seen(
        document(
            phase="Running",
            podIP="10.0.0.1",
            conditions=[{"type": "Ready", "status": "True"}],
            containerStatuses=[{"state": {"running": {}}}],
        )
    )
    assert (seen.name, seen.ip, seen.running, seen.ready, seen.terminating) == ("pod-1", "10.0.0.1", True, True, False)
    assert (seen.trouble, seen.config_map, seen.deletion_cost) == ("", "ava-worker-1", None)


def test_a_pod_that_leaves() -> None:
    leaving = document(phase="Running")
    leaving["metadata"] |= {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"controller.kubernetes.io/pod-deletion-cost": "2"},
    }
    seen = pod_seen(leaving)
    assert (seen.terminating, seen.deletion_cost) == (True, "2")


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        pytest.param({}, "", id="nothing is known of a new pod"),
        pytest.param({"containerStatuses": [waiting("ContainerCreating")]}, "", id="being made is no trouble"),
        pytest.param(
            {"containerStatuses": [waiting("ImagePullBackOff", "no such image")]},
            "ImagePullBackOff: no such image",
            id="an image that is not there",
        ),
        pytest.param(
            {
                "containerStatuses": [
                    waiting(
                        "CrashLoopBackOff",
                        "back-off 20s",
                        lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                    )
                ]
            },
            "CrashLoopBackOff: back-off 20s (last exit code 137, OOMKilled)",
            id="a worker that ends again and again: how it ended",
        ),
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}]},
            "Unschedulable: 0/3",
            id="no node has room",
        ),
    ],
)
def test_why_a_pod_cannot_start(status: dict[str, Any], trouble: str) -> None:
    assert pod_seen(document(**status)).trouble == trouble


def test_why_a_deployment_cannot_make_pods() -> None:
    failing = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    assert deployment_trouble({"status": {"conditions": [failing]}}) == "FailedCreate: exceeded quota"
    assert deployment_trouble({"status": {"conditions": [{**failing, "status": "False"}]}}) == ""
    assert deployment_trouble({}) == ""
    assert deployment_trouble(None) == ""


def test_paths() -> None:
    assert POD.path("shop", "pod-1", "status") == "/api/v1/namespaces/shop/pods/pod-1/status"
    assert AVATAR_AGENT.path(None) == "/apis/avataragents.io/v1alpha1/avataragents"
    assert TOKEN_REVIEW.path() == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert POD.path("a/b", "../secrets") == "/api/v1/namespaces/a%2Fb/pods/..%2Fsecrets"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(b"key", "key", id="a key"),
        pytest.param(b"key\n", "key", id="made from a file: workers strip it too, so the same key is tried"),
        pytest.param(b" \n", None, id="blank"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"\xff\xfe", None, id="no text"),
    ],
)
async def test_a_secrets_value_is_read_as_workers_read_it(value: bytes, text: str | None) -> None:
    client = Recorder()
    client.objects["Secret", "livekit"] = {"data": {"apiKey": base64.b64encode(value).decode()}}
    assert await read_secret(client, "shop", "livekit") == ({} if text is None else {"apiKey": text})


async def test_a_secret_that_is_not_there_is_none() -> None:
    assert await read_secret(Recorder(), "shop", "livekit") is None
