"""A real node, LiveKit, the chart and the simulated providers, shared by all tests; each test declares its own agents.

A test fails when controller, gateway or a worker logs an error or a traceback during it. A test that injects a fault
names the messages that it expects: ``@pytest.mark.allows_errors("provider failed")``.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pytest

from devkit import cluster as clusters
from devkit.cluster import Cluster
from devkit.demo import manifests
from devkit.demo.manifests import Targets
from devkit.demo.product import AGENTS_NAMESPACE, SYSTEM_NAMESPACE, Product
from devkit.demo.run import EXAMPLES
from devkit.demo.targets import local_targets
from devkit.instance import Layout
from devkit.processes import is_alive
from devkit.progress import LogProgress
from devkit.providers.speech import Recogniser
from devkit.traces import traces
from tests.e2e.pod_logs import PodLogs, check

NAME = "e2e"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "allows_errors(*messages): log messages of errors that the test's fault causes")


@dataclass(frozen=True)
class Platform:
    """The installed product, with what a test needs to declare agents and to call them."""

    cluster: Cluster
    product: Product
    targets: Targets

    @property
    def gateway(self) -> str:
        """URL of the gateway; it changes with every installation."""
        return self.product.gateway_address()


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    with installed(NAME) as platform:
        yield platform


@contextmanager
def installed(name: str, *settings: str, nodes: int = 1) -> Iterator[Platform]:
    """Bring up an instance with the product, Secrets and knowledge, and take it down again.

    `settings` are values of the chart as `key=value`.
    """
    progress = LogProgress()
    clusters.down(name)  # a killed run may have left a cluster, with its agents and calls
    cluster = clusters.up(name, progress=progress, nodes=nodes)
    try:
        images = cluster.load_images()
        product = Product(cluster.kubeconfig, cluster.kubectl, cluster.helm, images.controller, images.worker)
        targets = local_targets(cluster, {})
        product.make_namespace()
        product.install(*settings)
        # All tests share the Secrets and the knowledge; each declares its own agents.
        documents, _ = manifests.retarget(manifests.load(EXAMPLES), targets)
        product.apply([document for document in documents if document["kind"] != "AvatarAgent"])
        yield Platform(cluster, product, targets)
    finally:
        clusters.down(name)
        assert traces(name) == [], "down leaves nothing of the instance on this machine"


@pytest.fixture(scope="session")
def pod_logs(platform: Platform) -> Iterator[PodLogs]:
    """Logs of controller, gateway and all workers."""
    logs = PodLogs(Layout(NAME).nodes[0].pod_logs, {SYSTEM_NAMESPACE, AGENTS_NAMESPACE})
    with closing(logs), logs.watched():
        yield logs


@pytest.fixture(autouse=True)
def no_unexpected_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test when a pod logged an error meanwhile that the test does not allow."""
    if "platform" not in request.fixturenames:
        yield
        return
    logs: PodLogs = request.getfixturevalue("pod_logs")
    yield
    marker = request.node.get_closest_marker("allows_errors")
    check(logs.read, marker.args if marker else ())


@pytest.fixture(autouse=True)
def simulators_run(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test with the log of a simulated provider that has ended, and start it again for the next test."""
    yield
    if "platform" not in request.fixturenames:
        return
    platform: Platform = request.getfixturevalue("platform")
    processes = Layout(platform.cluster.name).processes
    ended = []
    for name in ("simulated-openai", "simulated-tavus"):
        process = processes.get(name)
        if process is None or not is_alive(process):
            ended.append(f"{name} has ended:\n{processes.tail(name)}")
    if ended:
        local_targets(platform.cluster, {})
    assert not ended, "\n".join(ended)


@pytest.fixture(scope="session")
def recogniser() -> Recogniser:
    """Speech recognition that is independent of the worker."""
    return Recogniser()
