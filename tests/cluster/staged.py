"""A namespace with a controller that is restarted and reaches the API server through a proxy that can fail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from devkit.cluster import Cluster
from tests.cluster.openai import OpenAI
from tests.cluster.proxy import Proxy, proxied
from tests.cluster.restarts import RestartedController, restarted
from tests.cluster.world import World, open_world


@asynccontextmanager
async def staged(
    cluster: Cluster, openai: OpenAI, kubeconfig: Path, folder: Path, namespace: str
) -> AsyncIterator[tuple[World, Proxy, RestartedController]]:
    """Create the namespace and run its controller; `folder` contains the controller's logs."""
    async with (
        proxied(kubeconfig, folder / "proxy") as (proxy, through),
        open_world(cluster, openai, namespace) as world,
        restarted(through, folder, namespace) as controller,
    ):
        yield world, proxy, controller
