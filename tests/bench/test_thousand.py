"""1,000 AvatarAgents on simulated nodes: the controller's cost, beside a bare kopf handler and Kubernetes' own.

The peers are a kopf handler and kube-controller-manager. The handler applies one Deployment and writes one status field
for each of 1,000 AvatarAgents: once in a thread, as in kopf's documentation, and once in the event loop.
kube-controller-manager reconciles 1,000 Deployments that have no other controller. Each program gets a fresh API server
on this machine, one after the other, and the same client declares the objects at the same pace. An object is applied
when its children are applied and its status is first written. It serves when its pod runs; for the controller that
means Ready.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from devkit import benchmarks
from devkit.benchmarks import Cost, Limits, ThousandAgents
from devkit.cluster import Cluster
from devkit.instance import Layout
from kube.client import Document
from kube.kinds import AVATAR_AGENT, DEPLOYMENT
from tests.bench import nodes
from tests.bench.deployments import deployment
from tests.bench.scenario import Measured, Milestone, Program, Scenario, run
from tests.cluster import manifests
from tests.cluster.instance import RELEASE_NAMESPACE, account_kubeconfig, controller_kubeconfig, kubectl

AGENTS = 1000
RATIO = 2.5
MEGABYTES = 300
IDLE_SHARE = 0.02
SCRAPE_SECONDS = 1.0
OBJECT_WRITES = 2
"""Writes to one AvatarAgent's status: that it progresses, and that it is Ready."""
CHILD_WRITES = 1

CONTROLLER, BARE, ASYNC, KUBERNETES = "controller", "bare kopf", "async kopf", "kube-c-m"


def names() -> list[tuple[str, str]]:
    """Namespace and name of every object."""
    return [(nodes.NAMESPACES[number % len(nodes.NAMESPACES)], f"agent-{number:04}") for number in range(AGENTS)]


def agents(cluster: Cluster) -> list[Document]:
    urls = cluster.livekit_url, nodes.openai_url(cluster)
    return [manifests.agent(namespace, name, *urls) for namespace, name in names()]


def is_ready(agent: Document) -> bool:
    conditions = agent.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def has(field: str) -> Callable[[Document], bool]:
    return lambda document: bool(document.get("status", {}).get(field))


AVAILABLE = Milestone(DEPLOYMENT, has("availableReplicas"))


def controller(folder: Path) -> Measured:
    with nodes.nodes() as cluster:
        account = f"system:serviceaccount:{RELEASE_NAMESPACE}"
        environment = {
            "KUBECONFIG": str(controller_kubeconfig(cluster, folder)),
            "WORKER_IMAGE": "worker.example/image:1",
            "LEASE_NAMESPACE": RELEASE_NAMESPACE,
            "GATEWAY_SERVICE_ACCOUNT": f"{account}:avatar-agent-gateway",
            "HTTP_PORT": str(nodes.PORT),
        }
        pid = cluster.spawn(CONTROLLER, [sys.executable, "-m", "controller"], env=environment)
        nodes.wait_answers(cluster, CONTROLLER, f"http://{cluster.node_ip}:{nodes.PORT}/readyz")
        applied, serving = Milestone(AVATAR_AGENT, has("observedGeneration")), Milestone(AVATAR_AGENT, is_ready)
        scenario = Scenario(cluster.kubeconfig, AVATAR_AGENT, agents(cluster), applied, serving)
        audit = Layout(cluster.name).audit
        metrics = f"http://{cluster.node_ip}:{nodes.PORT}/metrics"
        return asyncio.run(run(scenario, Program(pid, f"{account}:avatar-agent-controller", audit, metrics)))


def kopf_handler(folder: Path, module: str) -> Measured:
    with nodes.nodes() as cluster:
        account = f"{RELEASE_NAMESPACE}:bare"
        kubectl(cluster, "-n", RELEASE_NAMESPACE, "create", "serviceaccount", "bare")
        rights = ("--clusterrole=cluster-admin", f"--serviceaccount={account}")
        kubectl(cluster, "create", "clusterrolebinding", "bare", *rights)
        environment = {"KUBECONFIG": str(account_kubeconfig(cluster, "bare", folder))}
        health = f"http://{cluster.node_ip}:{nodes.PORT}/healthz"
        command = [sys.executable, "-m", "kopf", "run", "--standalone", "--all-namespaces", f"--liveness={health}"]
        pid = cluster.spawn("bare", [*command, "-m", f"tests.bench.{module}"], env=environment)
        nodes.wait_answers(cluster, "bare", health)
        applied = Milestone(AVATAR_AGENT, has("agentName"))
        scenario = Scenario(cluster.kubeconfig, AVATAR_AGENT, agents(cluster), applied, AVAILABLE)
        audit = Layout(cluster.name).audit
        return asyncio.run(run(scenario, Program(pid, f"system:serviceaccount:{account}", audit)))


def kube_controller_manager() -> Measured:
    with nodes.nodes() as cluster:
        layout = Layout(cluster.name)
        manager = layout.processes.get("kube-controller-manager")
        assert manager is not None
        documents = [deployment(namespace, name) for namespace, name in names()]
        applied = Milestone(DEPLOYMENT, has("observedGeneration"))
        scenario = Scenario(cluster.kubeconfig, DEPLOYMENT, documents, applied, AVAILABLE)
        return asyncio.run(run(scenario, Program(manager.pid, "system:kube-controller-manager", layout.audit)))


@pytest.mark.timeout(2400)
def test_thousand_agents_cost_little_more_than_plain_handlers(tmp_path: Path) -> None:
    measured = {
        CONTROLLER: controller(tmp_path),
        BARE: kopf_handler(tmp_path, "bare_kopf"),
        ASYNC: kopf_handler(tmp_path, "async_kopf"),
        KUBERNETES: kube_controller_manager(),
    }
    show(measured)
    mine, bare = measured[CONTROLLER], measured[BARE]
    limits = Limits(
        ratio=RATIO,
        peak_memory_mb=MEGABYTES,
        idle_percent=100 * IDLE_SHARE,
        object_writes=OBJECT_WRITES,
        child_writes=CHILD_WRITES,
        scrape_ms=1000 * SCRAPE_SECONDS,
    )
    too_often = {to: times for to, times in mine.written.items() if times > _write_limit(to.resource)}
    assert too_often == {}, "some objects were written more often than necessary"
    for resource in ("avataragents", "deployments", "configmaps", "poddisruptionbudgets"):
        assert sum(to.resource == resource for to in mine.written) == AGENTS, f"not every agent has its {resource}"
    assert not mine.written_idle, "the idle controller wrote something"
    assert mine.processor <= RATIO * bare.processor
    assert mine.applied <= RATIO * bare.applied
    assert mine.serving <= RATIO * bare.serving
    assert mine.megabytes < MEGABYTES
    assert mine.idle < IDLE_SHARE
    assert max(scrape.seconds for scrape in mine.scrapes) < SCRAPE_SECONDS
    benchmarks.record(
        ThousandAgents(
            run=benchmarks.this_run(),
            agents=AGENTS,
            controller=_cost(mine, writes=True),
            bare_kopf=_cost(bare, writes=True),
            async_kopf=_cost(measured[ASYNC], writes=True),
            kube_controller_manager=_cost(measured[KUBERNETES], writes=False),
            limits=limits,
        )
    )


def _write_limit(resource: str) -> int:
    return OBJECT_WRITES if resource == "avataragents" else CHILD_WRITES


def _cost(measured: Measured, *, writes: bool) -> Cost:
    """Return the recorded form; `writes`: the program declares AvatarAgents, so its writes are compared."""
    written = measured.written.items()
    return Cost(
        applied_ms=round(1000 * measured.applied / AGENTS, 1),
        serving_ms=round(1000 * measured.serving / AGENTS, 1),
        processor_ms=round(1000 * measured.processor / AGENTS, 1),
        peak_memory_mb=round(measured.megabytes),
        idle_percent=round(100 * measured.idle, 1),
        scrape_ms=round(1000 * max(scrape.seconds for scrape in measured.scrapes)) if measured.scrapes else None,
        object_writes=max(times for to, times in written if to.resource == "avataragents") if writes else None,
        child_writes=max(times for to, times in written if to.resource != "avataragents") if writes else None,
    )


def show(measured: Mapping[str, Measured]) -> None:
    """Print the table."""
    rows = {
        "applied, ms each": [1000 * one.applied / AGENTS for one in measured.values()],
        "serving, ms each": [1000 * one.serving / AGENTS for one in measured.values()],
        "processor, ms each": [1000 * one.processor / AGENTS for one in measured.values()],
        "peak memory, MB": [one.megabytes for one in measured.values()],
        "idle, % of a core": [100 * one.idle for one in measured.values()],
    }
    print(f"\n{AGENTS} objects, {len(nodes.NAMESPACES)} simulated nodes; one program after the other")
    print(f"{'':24}" + "".join(f"{name:>12}" for name in [*measured, "to bare", "to async"]))
    for what, values in rows.items():
        mine, *peers = values
        ratios = [f"{mine / peer:12.2f}" if peer >= 0.1 else f"{'-':>12}" for peer in peers[:2]]  # kopf idles at 0
        print(f"{what:24}" + "".join(f"{value:12.2f}" for value in values) + "".join(ratios))
    for scrape in measured[CONTROLLER].scrapes:
        print(f"scrape of {CONTROLLER}: {1000 * scrape.seconds:.0f} ms, {scrape.kilobytes:.0f} KiB")
    for name in (CONTROLLER, BARE):
        counts = measured[name].written
        resources = sorted({to.resource for to in counts})
        written = {one: sum(times for to, times in counts.items() if to.resource == one) for one in resources}
        print(f"writes of {name}: " + ", ".join(f"{one} {times}" for one, times in written.items()))
