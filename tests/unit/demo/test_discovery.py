"""Discovery of pods: the targets and labels of Prometheus' own discovery, while the API server answers."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from devkit.demo import discovery
from devkit.demo.discovery import POD, Pod, Server

LABELED: dict[str, Any] = {
    "metadata": {
        "namespace": "agents",
        "name": "ava-1",
        "uid": "u-1",
        "labels": {"app.kubernetes.io/component": "worker"},
        "annotations": {"example.com/note": "n"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "ava", "controller": True}, {"kind": "Other", "name": "o"}],
    },
    "spec": {
        "nodeName": "node",
        "containers": [
            {
                "name": "worker",
                "image": "worker:1",
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"containerPort": 9}],
            }
        ],
        "initContainers": [{"name": "init", "image": "init:1"}],
    },
    "status": {
        "podIP": "10.0.0.5",
        "hostIP": "10.0.0.1",
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}


def pod(namespace: str = "agents", **status: Any) -> Pod:
    metadata = {"namespace": namespace, "name": "p", "uid": "u"}
    containers = [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 80}]}]
    return {"metadata": metadata, "spec": {"containers": containers}, "status": status}


def test_target_has_the_labels_of_pod_container_and_port() -> None:
    first, second, third = discovery.targets([LABELED])
    assert first["targets"] == ["10.0.0.5:8080"]
    of_pod = {
        "__meta_kubernetes_namespace": "agents",
        f"{POD}name": "ava-1",
        f"{POD}uid": "u-1",
        f"{POD}ip": "10.0.0.5",
        f"{POD}host_ip": "10.0.0.1",
        f"{POD}node_name": "node",
        f"{POD}phase": "Running",
        f"{POD}ready": "true",
        f"{POD}controller_kind": "ReplicaSet",
        f"{POD}controller_name": "ava",
        f"{POD}label_app_kubernetes_io_component": "worker",
        f"{POD}labelpresent_app_kubernetes_io_component": "true",
        f"{POD}annotation_example_com_note": "n",
        f"{POD}annotationpresent_example_com_note": "true",
    }
    container = {f"{POD}container_name": "worker", f"{POD}container_image": "worker:1", f"{POD}container_init": "false"}
    assert first["labels"] == of_pod | container | {
        f"{POD}container_port_name": "http",
        f"{POD}container_port_number": "8080",
        f"{POD}container_port_protocol": "TCP",
    }
    assert second["targets"] == ["10.0.0.5:9"]
    assert second["labels"][f"{POD}container_port_name"] == ""
    assert third["targets"] == ["10.0.0.5"], "a container without ports"
    assert third["labels"][f"{POD}container_init"] == "true"


def test_pod_without_address_is_no_target() -> None:
    assert discovery.targets([pod(phase="Pending")]) == []


def test_targets_are_in_the_wanted_namespaces_only() -> None:
    pods = [pod("a", podIP="10.0.0.1"), pod("b", podIP="10.0.0.2"), pod("c", podIP="fd00::3")]
    assert [one["targets"] for one in discovery.targets(pods, ["a", "b"])] == [["10.0.0.1:80"], ["10.0.0.2:80"]]
    assert [one["targets"] for one in discovery.targets(pods)][2] == ["[fd00::3]:80"]
    assert {one["labels"][f"{POD}ready"] for one in discovery.targets(pods)} == {"unknown"}


class Pods:
    """Stands in for the API server."""

    def __init__(self) -> None:
        self.pods: list[Pod] = [pod("a", podIP="10.0.0.1"), pod("b", podIP="10.0.0.2")]
        self.error: Exception | None = None

    def __call__(self) -> list[Pod]:
        if self.error is not None:
            raise self.error
        return self.pods


@contextmanager
def serving(read: Pods) -> Iterator[int]:
    """Run the server, and yield its port."""
    with Server(0, read) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def answer(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(url, timeout=5) as response:
        assert response.headers["Content-Type"] == "application/json", "Prometheus requires it"
        found: list[dict[str, Any]] = json.load(response)
    return found


def test_server_answers_with_current_targets() -> None:
    read = Pods()
    with serving(read) as port:
        assert len(answer(discovery.url(port))) == 2
        (one,) = answer(discovery.url(port, ["b", "c"]))
        assert one["targets"] == ["10.0.0.2:80"]
        read.pods = []
        assert answer(discovery.url(port)) == []


@pytest.mark.parametrize("error", [OSError("refused"), ValueError("no JSON")], ids=["unreachable", "no JSON"])
def test_server_reports_that_pods_cannot_be_listed(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    read = Pods()
    read.error = error
    with serving(read) as port, pytest.raises(urllib.error.HTTPError) as failed:
        answer(discovery.url(port))
    assert failed.value.code == 503, "Prometheus keeps the last targets"
    assert str(error) in failed.value.read().decode()
    failed.value.close()


def test_server_has_no_other_page(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(Pods()) as port, pytest.raises(urllib.error.HTTPError) as failed:
        answer(f"http://127.0.0.1:{port}/")
    assert failed.value.code == 404
    failed.value.close()
