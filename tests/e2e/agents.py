"""Agents for tests: the example agent with changes, declared and deleted again."""

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
from devkit.errors import DevkitError
from tests.waiting import eventually_blocking

READY_SECONDS = 90
ONE_WORKER = {"minWorkers": 1, "maxWorkers": 1, "freeSlots": 0}
"""Scaling of an agent for few calls: another worker that starts beside a call takes the processor time of its turns."""
PERSONA = {"greeting": "Hello, how can I help you?"}
"""English: of synthetic Arabic, Whisper *base* garbles one question in five. And short, because callers hear it out."""


def manifest(targets: Targets, name: str, *, avatar: bool = False, arabic: bool = False, **spec: Any) -> dict[str, Any]:
    """Return the example agent with another name; `spec` replaces whole fields.

    It speaks English and has no avatar, unless the example's Arabic or its avatar is requested.
    """
    documents, _ = manifests.retarget(manifests.load(EXAMPLES), targets)
    agent = copy.deepcopy(next(d for d in documents if d["kind"] == "AvatarAgent"))
    agent["metadata"] = {"name": name}
    agent["spec"]["agentName"] = f"{name}-agent"
    agent["spec"]["dispatch"]["roomNamePattern"] = f"^{name}-"
    if not avatar:
        agent["spec"]["avatar"] = {"provider": "None"}
    if not arabic:
        agent["spec"] |= {"language": "en", "persona": dict(PERSONA)}
    agent["spec"] |= spec
    return agent


def one_slot(targets: Targets, name: str, **scaling: Any) -> dict[str, Any]:
    """Return an agent whose workers have one slot each, and keep callers who say nothing."""
    return manifest(
        targets,
        name,
        worker={"callsPerWorker": 1, "maxCallMinutes": 5},
        conversation={"idlePromptSeconds": 0},
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
        with _nothing_scheduled(product):
            _delete(product, name)


@contextmanager
def _nothing_scheduled(product: Product) -> Iterator[None]:
    """Start no pod until the block ends: a Deployment replaces deleted pods until it is deleted itself."""
    nodes = ("-l", "kubernetes.io/hostname")
    product.kubectl_run("cordon", *nodes)
    try:
        yield
    finally:
        product.kubectl_run("uncordon", *nodes)


def _delete(product: Product, name: str) -> None:
    """Delete an agent and its workers, and wait until they are gone."""
    # Pods first, because a worker drains as long as a call may last: a caller who has just left may return for 10 s. A
    # kubelet that has begun to wait for that does not wait less when it is told so later.
    pods = ["delete", "pod", "-l", f"{AGENT_LABEL}={name}", "--grace-period=1", "--ignore-not-found"]
    product.kubectl_run("-n", AGENTS_NAMESPACE, *pods, "--wait=false")
    product.kubectl_run("-n", AGENTS_NAMESPACE, "delete", "avataragent", name, "--ignore-not-found")
    # The garbage collector learns of a new kind of owner within half a minute.
    eventually_blocking(lambda: not product.items("deployments", f"{AGENT_LABEL}={name}"), "its Deployment is gone", 90)
    product.kubectl_run("-n", AGENTS_NAMESPACE, *pods)


def workers(product: Product, name: str) -> list[dict[str, Any]]:
    """Return the agent's worker pods."""
    return product.items("pods", f"{AGENT_LABEL}={name}")


def worker_names(product: Product, name: str) -> list[str]:
    """Return the names of the agent's worker pods."""
    return [str(pod["metadata"]["name"]) for pod in workers(product, name)]


def log(product: Product, pod: str) -> list[dict[str, Any]]:
    """Return the JSON lines of a pod's log; native libraries write other lines."""
    lines = product.kubectl_run("-n", AGENTS_NAMESPACE, "logs", pod).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def logs(product: Product, name: str) -> list[dict[str, Any]]:
    """Return the JSON lines of the logs of all worker pods that are left."""
    found: list[dict[str, Any]] = []
    for pod in worker_names(product, name):
        try:
            found += log(product, pod)
        except DevkitError as error:
            if "(NotFound)" not in str(error):  # a pod may end after it was listed
                raise
    return found


def serving(product: Product, name: str) -> list[str]:
    """Return the names of the worker pods that are ready and not being deleted."""
    return [
        pod["metadata"]["name"]
        for pod in workers(product, name)
        if "deletionTimestamp" not in pod["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]


def condition(product: Product, name: str, kind: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition; all are empty before the agent has it."""
    for one in product.get("avataragent", name).get("status", {}).get("conditions", []):
        if one["type"] == kind:
            return one["status"], one["reason"], one["message"]
    return "", "", ""
