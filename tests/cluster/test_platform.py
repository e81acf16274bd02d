"""The devkit on real instances: parallel, repeatable, replaced when broken, and removed by `down`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from devkit import cluster, network
from devkit.cluster import Cluster
from devkit.commands import run
from devkit.instance import Layout
from devkit.processes import Process, is_alive

NAME, OTHER = "plat-a", "plat-b"


@pytest.fixture
def instance() -> Iterator[Cluster]:
    yield cluster.up(NAME, api_only=True)
    cluster.down(NAME)


def processes(name: str) -> list[Process]:
    return Layout(name).processes.all()


def namespaces(made: Cluster) -> str:
    return run([str(made.kubectl), f"--kubeconfig={made.kubeconfig}", "get", "namespaces", "--output=name"])


def test_up_does_not_change_a_complete_instance(instance: Cluster) -> None:
    before = processes(NAME)
    assert cluster.up(NAME, api_only=True) == instance
    assert processes(NAME) == before


def test_two_instances_run_in_parallel_and_separately(instance: Cluster) -> None:
    other = cluster.up(OTHER, api_only=True)
    try:
        assert other.node_ip != instance.node_ip
        run([str(other.kubectl), f"--kubeconfig={other.kubeconfig}", "create", "namespace", "only-here"])
        assert "only-here" in namespaces(other)
        assert "only-here" not in namespaces(instance)
    finally:
        cluster.down(OTHER)
    assert "namespace/default" in namespaces(instance), "removing one instance does not affect the other"


def test_restarted_api_server_keeps_objects_after_compaction(instance: Cluster) -> None:
    kubectl = [str(instance.kubectl), f"--kubeconfig={instance.kubeconfig}", "--request-timeout=30s"]
    version = run([*kubectl, "get", "namespace", "default", "--output=jsonpath={.metadata.resourceVersion}"])
    run([*kubectl, "create", "namespace", "before"])
    with instance.api_server_stopped():
        assert subprocess.run([*kubectl, "get", "namespaces"], capture_output=True).returncode != 0
        assert {process.name for process in processes(NAME)} == {"etcd", "kube-controller-manager"}
        instance.compact()
    assert "before" in namespaces(instance)
    assert cluster.up(NAME, api_only=True) == instance, "the instance is complete"
    exact = f"/api/v1/namespaces?resourceVersionMatch=Exact&limit=1&resourceVersion={version}"
    answer = subprocess.run([*kubectl, "get", "--raw", exact], capture_output=True, text=True)
    assert "too old" in answer.stderr


def test_broken_instance_is_replaced(instance: Cluster) -> None:
    run([str(instance.kubectl), f"--kubeconfig={instance.kubeconfig}", "create", "namespace", "before"])
    [server] = [process for process in processes(NAME) if process.name == "kube-apiserver"]
    os.kill(server.pid, signal.SIGKILL)
    again = cluster.up(NAME, api_only=True)
    assert "before" not in namespaces(again)


def test_interrupted_up_can_be_repeated() -> None:
    script = f"from devkit import cluster; cluster.up({NAME!r}, api_only=True)"
    first = subprocess.Popen([sys.executable, "-c", script])
    try:
        table = Layout(NAME).processes
        table.wait("an API server's process", lambda: table.get("kube-apiserver") is not None, 60)
    finally:
        first.kill()
        first.wait()
    try:
        assert "namespace/default" in namespaces(cluster.up(NAME, api_only=True))
    finally:
        cluster.down(NAME)


def test_down_leaves_nothing_behind(instance: Cluster) -> None:
    table = Layout(NAME).processes
    instance.spawn("sleeper", ["sh", "-c", "echo $WHO at $(ip -4 -o address); exec sleep 300"], env={"WHO": "test"})
    table.wait("its word", lambda: table.tail("sleeper").startswith("test at"), 30)
    assert instance.node_ip in table.tail("sleeper"), "the program runs in the instance's network"
    started = processes(NAME)
    assert "sleeper" in {process.name for process in started}
    cluster.down(NAME)
    assert [process for process in started if is_alive(process)] == []
    assert network.traces(NAME) == []
    # A route goes by its link, not by its addresses: another instance may have taken those already.
    assert network.host_link(NAME) not in run(["ip", "link"])
    assert network.host_link(NAME) not in run(["ip", "route"])
    assert not Layout(NAME).root.exists()
    assert not any(node.run.exists() for node in Layout(NAME).nodes)
    cluster.down(NAME)
