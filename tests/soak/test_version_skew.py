"""A rolling upgrade on the real node, and the way back: each release's workers run under the other's controller."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from devkit import cluster as clusters
from devkit import images
from devkit.demo import manifests
from devkit.demo.product import AGENTS_NAMESPACE, Product
from devkit.demo.run import EXAMPLES
from devkit.demo.targets import local_targets
from devkit.progress import LogProgress
from tests import previous_release
from tests.e2e import agents
from tests.e2e.callers import answered, greeted
from tests.e2e.conftest import Platform
from tests.waiting import eventually_in_thread

NAME = "soak"
ROLLOUT_SECONDS = 120.0

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[tuple[Platform, Product]]:
    """The platform with the current release, not installed yet, and the previous release as a product."""
    progress = LogProgress()
    clusters.down(NAME)
    cluster = clusters.up(NAME, progress=progress)
    try:
        current = cluster.load_images()
        sources = previous_release.checked_out(tmp_path / "previous")
        previous = images.Images(
            *(previous_release.image(component, sources) for component in ("controller", "worker"))
        )
        clusters.load_images(NAME, [previous.controller, previous.worker], progress)
        product = Product(cluster.kubeconfig, cluster.kubectl, cluster.helm, current.controller, current.worker)
        older = replace(
            product,
            controller_image=previous.controller,
            worker_image=previous.worker,
            chart=sources / "charts" / "avatar-agent",
        )
        targets = local_targets(cluster, {})
        product.make_namespace()
        documents, _ = manifests.retarget(manifests.load(EXAMPLES), targets)
        product.apply([document for document in documents if document["kind"] != "AvatarAgent"])
        yield Platform(cluster, product, targets), older
    finally:
        clusters.down(NAME)


async def run_by(product: Product, agent: str, image: str) -> None:
    """Wait until a worker made from this image takes the agent's calls, and no ready worker is made from another."""

    def images_of_ready_workers() -> bool:
        ready = set(agents.serving(product, agent))
        pods = [pod for pod in agents.workers(product, agent) if pod["metadata"]["name"] in ready]
        return bool(pods) and {pod["spec"]["containers"][0]["image"] for pod in pods} == {image}

    await eventually_in_thread(images_of_ready_workers, f"workers of {agent} run {image}", ROLLOUT_SECONDS)
    await asyncio.to_thread(product.wait_ready, agent, ROLLOUT_SECONDS)


def test_calls_survive_an_upgrade_and_its_rollback(releases: tuple[Platform, Product]) -> None:
    platform, previous = releases
    current = platform.product
    upgraded_controller = replace(current, worker_image=previous.worker_image)
    rolled_back_controller = replace(previous, worker_image=current.worker_image)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            previous.install()
            previous.apply([agents.manifest(platform.targets, "skew", worker={"callsPerWorker": 4})])
            await run_by(previous, "skew", previous.worker_image)
            long_call = await greeted(stack, platform, "skew", "Long")
            await answered(long_call)

            await asyncio.to_thread(upgraded_controller.install)
            await run_by(current, "skew", previous.worker_image)
            await answered(long_call)
            async with AsyncExitStack() as short:  # previous worker, current controller and gateway
                await answered(await greeted(short, platform, "skew", "Second"))

            await asyncio.to_thread(current.install)
            await run_by(current, "skew", current.worker_image)
            await answered(long_call)
            async with AsyncExitStack() as short:
                await answered(await greeted(short, platform, "skew", "Third"))

            await asyncio.to_thread(rolled_back_controller.install)
            await run_by(current, "skew", current.worker_image)
            await answered(long_call)
            async with AsyncExitStack() as short:  # current worker, previous controller and gateway
                await answered(await greeted(short, platform, "skew", "Fourth"))

    asyncio.run(scenario())
    for pod in agents.worker_names(current, "skew"):
        restarts = current.get("pod", pod, AGENTS_NAMESPACE)["status"]["containerStatuses"][0]["restartCount"]
        assert restarts == 0, f"{pod} restarted"
