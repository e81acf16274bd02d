"""Agents for tests: the example with what a test wants different, declared and taken away again."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agentspec.names import AGENT_LABEL
from devkit.demo import manifests
from devkit.demo.manifests import Targets
from devkit.demo.product import AGENTS_NAMESPACE, Product
from devkit.demo.run import EXAMPLES
from tests.waiting import eventually_blocking

READY_SECONDS = 90


def manifest(targets: Targets, name: str, *, avatar: bool = False, **spec: Any) -> dict[str, Any]:
    """The example agent under another name, by voice only unless asked; `spec` replaces whole fields."""
    documents, _ = manifests.point(manifests.load(EXAMPLES), targets)
    agent = copy.deepcopy(next(d for d in documents if d["kind"] == "AvatarAgent"))
    agent["metadata"] = {"name": name}
    agent["spec"]["agentName"] = f"{name}-agent"
    agent["spec"]["dispatch"]["roomNamePattern"] = f"^{name}-"
    if not avatar:
        agent["spec"]["avatar"] = {"provider": "None"}
    agent["spec"] |= spec
    return agent


def one_slot(targets: Targets, name: str, **scaling: Any) -> dict[str, Any]:
    """An agent whose workers take one call each."""
    return manifest(
        targets,
        name,
        worker={"callsPerWorker": 1, "maxCallMinutes": 5},
        scaling={"minWorkers": 1, "maxWorkers": 3, "freeSlots": 0, "scaleDownDelaySeconds": 3, **scaling},
    )


@contextmanager
def declared(product: Product, agent: dict[str, Any], *, ready: bool = True) -> Iterator[str]:
    """Apply an agent, wait until it is Ready, and delete it with its workers afterwards. Yields its name."""
    name = agent["metadata"]["name"]
    product.apply([agent])
    try:
        if ready:
            product.wait_ready(name, READY_SECONDS)
        yield name
    finally:
        product.kubectl_run("-n", AGENTS_NAMESPACE, "delete", "avataragent", name, "--ignore-not-found")
        # The garbage collector learns of a new kind of owner within half a minute, later of each owner at once.
        eventually_blocking(
            lambda: not product.items("deployments", f"{AGENT_LABEL}={name}"), "its Deployment is gone", 90
        )
        # A worker may drain for as long as a call may last; a test's calls are over.
        pods = ["delete", "pod", "-l", f"{AGENT_LABEL}={name}", "--grace-period=1", "--ignore-not-found"]
        product.kubectl_run("-n", AGENTS_NAMESPACE, *pods)


def workers(product: Product, name: str) -> list[dict[str, Any]]:
    """The agent's worker pods."""
    return product.items("pods", f"{AGENT_LABEL}={name}")


def worker_names(product: Product, name: str) -> list[str]:
    """Names of the agent's worker pods."""
    return [str(pod["metadata"]["name"]) for pod in workers(product, name)]


def log(product: Product, pod: str) -> list[dict[str, Any]]:
    """What a pod logged, as far as it is JSON: native libraries write lines of their own."""
    lines = product.kubectl_run("-n", AGENTS_NAMESPACE, "logs", pod).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def serving(product: Product, name: str) -> list[str]:
    """Names of the worker pods that are ready and not being taken away."""
    return [
        pod["metadata"]["name"]
        for pod in workers(product, name)
        if "deletionTimestamp" not in pod["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]


def condition(product: Product, name: str, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of one of the agent's conditions; all empty before there is one."""
    for one in product.get("avataragent", name).get("status", {}).get("conditions", []):
        if one["type"] == kind:
            return one["status"], one["reason"], one["message"]
    return "", "", ""
