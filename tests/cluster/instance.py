"""Starts an API server for tests, and creates the controller's credentials."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from devkit import binaries, livekit
from devkit import cluster as clusters
from devkit.cluster import Cluster
from devkit.instance import Layout, load
from devkit.locks import lock
from devkit.progress import LogProgress
from devkit.tools import LIVEKIT
from tests.cluster.standin import NODE

REPOSITORY = Path(__file__).resolve().parents[2]
RELEASE_NAMESPACE = "avatar-agent-system"
SERVED_SECONDS = 60.0
IN_USE_SECONDS = 30.0


@contextmanager
def instance(name: str) -> Iterator[Cluster]:
    """Start an API server and LiveKit, with the CRD and a Node object for pods, until the block ends.

    The instance is locked: another test run on this machine waits 30 s for it and then fails.
    """
    with lock(f"tests-{name}", IN_USE_SECONDS):
        yield from _instance(name)


def _instance(name: str) -> Iterator[Cluster]:
    progress = LogProgress()
    clusters.down(name)  # a killed run may have left one, with its agents
    made = clusters.up(name, progress, api_only=True)
    try:
        record = load(name)
        assert record is not None
        livekit.start(Layout(name), record, binaries.ensure(progress, (LIVEKIT,)))
        kubectl(made, "apply", "-f", str(REPOSITORY / "crds"))
        Layout(name).processes.wait("answer for AvatarAgents", lambda: _serves_agents(made), SERVED_SECONDS)
        kubectl(made, "create", "namespace", RELEASE_NAMESPACE)
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        kubectl(made, "apply", "-f", "-", stdin=json.dumps(node))
        yield made
    finally:
        clusters.down(name)


def _serves_agents(cluster: Cluster) -> bool:
    """Whether the API server serves AvatarAgents."""
    try:
        kubectl(cluster, "get", "avataragents", "--all-namespaces")
    except subprocess.CalledProcessError:
        return False
    return True


def kubectl(cluster: Cluster, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl as administrator."""
    command = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=60).stdout


def controller_kubeconfig(cluster: Cluster, folder: Path) -> Path:
    """Write credentials with exactly the rights that the chart gives the controller."""
    kubectl(cluster, "apply", "-f", "-", stdin=yaml.safe_dump_all(controller_rights(cluster)))
    return account_kubeconfig(cluster, "avatar-agent-controller", folder)


def account_kubeconfig(cluster: Cluster, account: str, folder: Path) -> Path:
    """Write credentials of a ServiceAccount in the release's namespace."""
    token = kubectl(cluster, "-n", RELEASE_NAMESPACE, "create", "token", account, "--duration=2h").strip()
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


def controller_rights(cluster: Cluster, *settings: str, name: str = "avatar-agent") -> list[dict[str, Any]]:
    """Return the chart's accounts and rights for a release, with settings (`key=value`)."""
    kinds = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    return [document for document in release(cluster, *settings, name=name) if document["kind"] in kinds]


def release(cluster: Cluster, *settings: str, name: str = "avatar-agent") -> list[dict[str, Any]]:
    """Return all objects of the chart."""
    chart = [str(cluster.helm), "template", name, str(REPOSITORY / "charts/avatar-agent")]
    flags = [part for setting in settings for part in ("--set", setting)]
    rendered = subprocess.run(
        [*chart, "--namespace", RELEASE_NAMESPACE, *flags], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return [document for document in yaml.safe_load_all(rendered) if document]
