"""Faults of one gateway replica on the node: killed, frozen, cut off from the network, or deleted."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from agentspec.wire import agent_key
from devkit.demo.product import AGENTS_NAMESPACE, SYSTEM_NAMESPACE, Product
from gateway.cluster.members import FENCE_SECONDS, owner_of, shard_of
from gateway.cluster.peers import ASKING_QUERY, PATH
from tests.e2e import killing
from tests.e2e.conftest import NAME, Platform
from tests.waiting import eventually_in_thread

KINDS: Final = ("killed", "frozen", "cut off", "deleted")

FAULT_SECONDS = 5.0
"""How long a gateway is frozen or cut off: other gateways take over meanwhile, and it comes back to changed owners."""
SETTLED_SECONDS = 90.0
INTERNAL_PORT = 8082
PROGRAM = "gateway"
SELECTOR = "app.kubernetes.io/component=gateway"


class Replicas:
    """The gateways of an installation."""

    def __init__(self, platform: Platform, count: int) -> None:
        self._platform = platform
        self._product: Product = platform.product
        self._count = count

    async def settled(self) -> dict[str, dict[str, Any]]:
        """Wait until every replica runs, knows all others and may act; return the pods by the name of the gateway."""
        found = await eventually_in_thread(self._settled, f"{self._count} gateways know each other", SETTLED_SECONDS)
        await asyncio.sleep(FENCE_SECONDS)
        return found

    async def owner(self, agent: str) -> dict[str, Any]:
        """Return the pod of the gateway that owns an agent, once all replicas are settled."""
        pods = await self.settled()
        name = owner_of(shard_of(agent_key(AGENTS_NAMESPACE, agent)), tuple(sorted(pods)))
        assert name is not None
        return pods[name]

    @asynccontextmanager
    async def fault(self, kind: str, pod: dict[str, Any]) -> AsyncIterator[None]:
        """Cause a fault. The block begins when it has come, and the fault ends with the block if it can end."""
        match kind:
            case "killed":
                killing.kill(NAME, pod, PROGRAM)
                yield
            case "frozen":
                killing.freeze(NAME, pod, PROGRAM)
                try:
                    yield
                finally:
                    killing.resume(NAME, pod, PROGRAM)
            case "cut off":
                with self._platform.cluster.pod_cut(pod["status"]["podIP"]):
                    yield
            case _:
                delete = ("-n", SYSTEM_NAMESPACE, "delete", "pod", pod["metadata"]["name"], "--wait=false")
                await asyncio.to_thread(self._product.kubectl_run, *delete)
                yield

    def _settled(self) -> dict[str, dict[str, Any]]:
        """Return the pods by the name of the gateway; nothing until each of them knows the same gateways."""
        pods = self._product.items("pods", SELECTOR, SYSTEM_NAMESPACE)
        if len(pods) != self._count or not all(_is_ready(pod) for pod in pods):
            return {}
        views = [_known_gateways(pod["status"]["podIP"]) for pod in pods]
        names = views[0]
        if len(names) != self._count or any(view != names for view in views):
            return {}
        return {name: pod for name in names for pod in pods if name.startswith(pod["metadata"]["name"])}


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _known_gateways(address: str) -> frozenset[str]:
    """Return the names of the gateways that one gateway knows."""
    try:
        url = f"http://{address}:{INTERNAL_PORT}{PATH}?{ASKING_QUERY}=test"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return frozenset(json.load(answer)["gateways"])
    except (urllib.error.URLError, OSError):
        return frozenset()
