"""A real API server with its controllers, a real LiveKit server, and the controller under the chart's own rights."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml

from devkit import binaries, livekit
from devkit import cluster as clusters
from devkit.cluster import Cluster
from devkit.instance import Layout, load
from devkit.progress import LogProgress
from devkit.tools import LIVEKIT
from tests.cluster.process import RunningController, running
from tests.cluster.standin import NODE
from tests.cluster.world import World, open_world

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "apiserver"
RELEASE_NAMESPACE = "avatar-agent-system"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """An API server, LiveKit beside it, the CRD, and a Node object that pods can be bound to."""
    progress = LogProgress()
    clusters.down(NAME)  # a killed run may have left one, with its agents
    made = clusters.up(NAME, progress, api_only=True)
    try:
        record = load(NAME)
        assert record is not None
        livekit.start(Layout(NAME), record, binaries.ensure(progress, (LIVEKIT,)))
        kubectl(made, "apply", "-f", str(REPOSITORY / "crds"))
        kubectl(made, "create", "namespace", RELEASE_NAMESPACE)
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        kubectl(made, "apply", "-f", "-", stdin=json.dumps(node))
        yield made
    finally:
        clusters.down(NAME)


def kubectl(cluster: Cluster, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl as administrator."""
    command = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="session")
def controller_kubeconfig(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Credentials with exactly the rights that the chart gives the controller."""
    chart = [str(cluster.helm), "template", "avatar-agent", str(REPOSITORY / "charts/avatar-agent")]
    rendered = subprocess.run(
        [*chart, "--namespace", RELEASE_NAMESPACE], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    kinds = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    documents = [document for document in yaml.safe_load_all(rendered) if document and document["kind"] in kinds]
    kubectl(cluster, "apply", "-f", "-", stdin=yaml.safe_dump_all(documents))
    account = "avatar-agent-controller"
    token = kubectl(cluster, "-n", RELEASE_NAMESPACE, "create", "token", account, "--duration=2h").strip()
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = tmp_path_factory.mktemp("controller") / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def controller(controller_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningController]:
    """The controller as its own process, serving all namespaces; it must not have failed at anything."""
    with running(sys.executable, controller_kubeconfig, tmp_path_factory.mktemp("log") / "controller.log") as process:
        yield process
        unexpected = [line for line in process.log() if line["level"] in ("error", "critical") or "exception" in line]
        assert unexpected == []


@pytest.fixture
async def world(cluster: Cluster) -> AsyncIterator[World]:
    """A namespace of its own with a stand-in for the node and working Secrets."""
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    async with open_world(cluster, f"test-{secrets.token_hex(3)}") as opened:
        yield opened
