"""An API server with nodes that kwok simulates, for any number of pods."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devkit import binaries, probe
from devkit.cluster import Cluster
from devkit.instance import Layout
from devkit.progress import LogProgress
from devkit.tools import BENCH_TOOLS
from tests.cluster import manifests
from tests.cluster.instance import instance, kubectl

HERE = Path(__file__).parent
NAME = "bench"
NAMESPACES = tuple(f"bench-{number}" for number in range(10))
"""Namespaces; the pods of each run on the node of the same name."""
POD_ADDRESSES = "127.88.0.0/16"
PORT = 8090
"""Port of the health endpoint of the programs under test; the workers use 8080 in the cluster's network."""
_START_SECONDS = 30.0


@contextmanager
def nodes() -> Iterator[Cluster]:
    """Start a cluster with namespaces, Secrets, simulated nodes, and the process that answers for all workers."""
    with instance(NAME) as cluster:
        kubectl(cluster, "apply", "-f", str(HERE / "binding.yaml"))
        objects = [document for name in NAMESPACES for document in _namespace(cluster, name)]
        kubectl(cluster, "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        programs = binaries.ensure(LogProgress(), BENCH_TOOLS)
        cluster.spawn(
            "kwok",
            [
                programs["kwok"],
                f"--kubeconfig={cluster.kubeconfig}",
                f"--config={HERE / 'kwok.yaml'}",
                "--manage-all-nodes",
                f"--cidr={POD_ADDRESSES}",
                # As a kubelet's; without one the nodes' pods are taken for lost.
                "--node-lease-duration-seconds=40",
            ],
        )
        cluster.spawn(
            "workers", [sys.executable, "-m", "tests.bench.workers"], env={"KUBECONFIG": str(cluster.kubeconfig)}
        )
        kubectl(cluster, "wait", "nodes", "--all", "--for=condition=Ready", "--timeout=30s")
        wait_answers(cluster, "workers", openai_url(cluster) + "/models/any")
        yield cluster


def openai_url(cluster: Cluster) -> str:
    """Return the base URL of the OpenAI that `workers` simulates."""
    return f"http://{cluster.node_ip}:8080/v1"


def wait_answers(cluster: Cluster, program: str, url: str) -> None:
    """Wait until a spawned program answers with 200."""
    table = Layout(cluster.name).processes
    process = table.get(program)
    assert process is not None
    table.wait(f"an answer of {url}", lambda: probe.answers(url, None), _START_SECONDS, process)


def _namespace(cluster: Cluster, name: str) -> Sequence[dict[str, object]]:
    key, value = cluster.livekit_api_key, cluster.livekit_api_secret
    head = {"apiVersion": "v1"}
    return (
        head | {"kind": "Namespace", "metadata": {"name": name}},
        head | {"kind": "Node", "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}}},
        head | {"kind": "Secret"} | manifests.secret(name, "livekit", apiKey=key, apiSecret=value),
        head | {"kind": "Secret"} | manifests.secret(name, "openai", apiKey="key"),
    )
