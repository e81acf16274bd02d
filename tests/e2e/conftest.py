"""A real node, LiveKit, the chart and the simulated providers, shared by the tests; agents are declared by each."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from devkit import cluster as clusters
from devkit.cluster import Cluster
from devkit.demo import manifests
from devkit.demo.manifests import Targets
from devkit.demo.product import Product
from devkit.demo.run import EXAMPLES
from devkit.demo.targets import local_targets
from devkit.progress import LogProgress
from devkit.providers.speech import Recogniser
from devkit.traces import traces

NAME = "e2e"


@dataclass(frozen=True)
class Platform:
    """What a test needs to declare agents and call them."""

    cluster: Cluster
    product: Product
    targets: Targets

    @property
    def gateway(self) -> str:
        """URL of the gateway, which another installation changes."""
        return self.product.gateway_address()


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    progress = LogProgress()
    clusters.down(NAME)  # a killed run may have left one, with its agents and calls
    cluster = clusters.up(NAME, progress=progress)
    try:
        images = cluster.load_images()
        product = Product(cluster.kubeconfig, cluster.kubectl, cluster.helm, images.controller, images.worker)
        targets = local_targets(cluster, {})
        product.make_namespace()
        product.install()
        # The Secrets and the knowledge are every test's; the agents are their own.
        documents, _ = manifests.point(manifests.load(EXAMPLES), targets)
        product.apply([document for document in documents if document["kind"] != "AvatarAgent"])
        yield Platform(cluster, product, targets)
    finally:
        clusters.down(NAME)
        assert traces(NAME) == [], "down leaves nothing of the instance on this machine"


@pytest.fixture(scope="session")
def recogniser() -> Recogniser:
    """Listens independently of the worker."""
    return Recogniser()
