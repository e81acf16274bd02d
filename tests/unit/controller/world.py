"""A reconciler and all its parts, with an API server in memory that has one AvatarAgent and its Secrets."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from agentspec import AvatarAgentSpec, ConditionType, Demand, WorkerStatus
from agentspec.names import AGENT_LABEL, COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, WORKER_COMPONENT
from controller.apply import Applier
from controller.cluster.agents import Agents
from controller.cluster.children import Children
from controller.cluster.shared_objects import SharedObjects
from controller.desired.deployment import TEMPLATE_ANNOTATION
from controller.desired.identity import FIELD_MANAGER
from controller.fleet.fleet import Fleet
from controller.fleet.streams import WorkerStreams
from controller.gather import Gatherer
from controller.inputs.providers import Providers
from controller.inputs.reader import InputReader
from controller.inputs.references import References
from controller.metrics import Metrics
from controller.observation import Key, ObservedPod, Provider, ProviderAnswer, ProviderVerdict
from controller.policy.snapshot import Instant
from controller.reconcile import Reconciler
from controller.report import NUMBERS_SECONDS, Reporter
from kube.client import Document
from kube.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT, POD, SECRET
from tests.unit.controller.builders import KEY, SPEC, pod, secret, status
from tests.unit.fakes.apiserver import FakeApiServer
from tests.unit.fakes.virtualtime import now

UID = "uid-ava"
WORKERS = "ava-worker"
SETTLED_SECONDS = 1.0
"""Longer than any watch takes to report a change."""


def virtual_clock() -> Instant:
    """The event loop's time; the calendar starts on 5 January 2026."""
    utc = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(seconds=now())
    return Instant(now(), utc.strftime("%Y-%m-%dT%H:%M:%SZ"), utc.timestamp())


class FakeProviders:
    """Providers that answer every probe with the verdict that the test sets."""

    def __init__(self) -> None:
        self.verdict = ProviderVerdict.ACCEPTED

    async def check(
        self, key: Key, spec: AvatarAgentSpec, values: Mapping[str, Mapping[str, str]]
    ) -> dict[Provider, ProviderAnswer]:
        return {Provider.LIVEKIT: ProviderAnswer(self.verdict), Provider.OPENAI: ProviderAnswer(self.verdict)}

    def forget(self, key: Key) -> None: ...


class FakeStreams:
    """Stands for the worker streams: workers report when the test makes them."""

    def __init__(self) -> None:
        self.report: Callable[[Key], None] = lambda key: None
        """Makes an agent's workers report for the first time."""

    def follow(self, key: Key, pods: Iterable[ObservedPod]) -> None: ...

    async def wait_first_reports(self, key: Key) -> None:
        self.report(key)


class World:
    """The parts of the controller, the cluster, and what tests do to both."""

    def __init__(self) -> None:
        self.server, self.agents, self.fleet, self.metrics = FakeApiServer(FIELD_MANAGER), Agents(), Fleet(), Metrics()
        self.providers, self.streams = FakeProviders(), FakeStreams()
        self.changed: list[Key] = []
        self.clock_reads = 0
        self.children = Children(self.server, "shop", self.changed.append)
        self.shared = SharedObjects(self.children, self.agents, ["operator"])
        self.references = References(self.server, self.changed.append)
        inputs = InputReader(self.references, cast(Providers, self.providers))
        streams = cast(WorkerStreams, self.streams)
        self.reconciler = Reconciler(
            Gatherer(
                self.server,
                self.agents,
                inputs,
                self.children,
                self.shared,
                self.fleet,
                streams,
                clock=self._read_clock,
                lost=self._agent_lost,
            ),
            Applier(self.children, self.shared, inputs, self.fleet, self.metrics),
            Reporter(self.server, self.metrics, self._agent_updated, self._agent_lost),
            "worker:1",
        )
        self.put_secret("livekit", apiKey="key", apiSecret="secret")
        self.put_secret("openai", apiKey="first")
        self.put_agent()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the informers and refresh the references."""
        parts = (self.references.run(), *(one.run() for one in self.children.informers))
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await self.children.wait_synced()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def put_secret(self, name: str, **values: str) -> None:
        """Create or replace a Secret."""
        self.server.put(SECRET, secret(name, **values))

    def put_agent(self, name: str = "ava", uid: str = "", day: int = 2, **spec: Any) -> None:
        """Create or replace an AvatarAgent: the smallest manifest with whole fields replaced.

        `day`: of January 2026, when it was created.
        """
        created = f"2026-01-0{day}T00:00:00Z"
        metadata = {"namespace": "shop", "name": name, "uid": uid or f"uid-{name}", "creationTimestamp": created}
        self._agent_updated(self.server.put(AVATAR_AGENT, {"metadata": metadata, "spec": {**SPEC, **spec}}))

    def remove_agent(self) -> None:
        """Delete the AvatarAgent; its watch reports that."""
        self.server.remove(AVATAR_AGENT, "shop", "ava")
        self.agents.remove(KEY, "uid-ava")

    def put_pod(self, name: str, reported: WorkerStatus | None = None) -> None:
        """Create a running worker pod with the current configuration; it has reported a status if one is given."""
        labels = {AGENT_LABEL: "ava", MANAGED_BY_LABEL: MANAGED_BY, COMPONENT_LABEL: WORKER_COMPONENT}
        config_map = self.template["spec"]["volumes"][0]["configMap"]["name"]
        digest = self.template["metadata"]["annotations"][TEMPLATE_ANNOTATION]
        self.server.put(
            POD,
            {
                "metadata": {
                    "namespace": "shop",
                    "name": name,
                    "labels": labels,
                    "annotations": {TEMPLATE_ANNOTATION: digest},
                },
                "spec": {"volumes": [{"name": "config", "configMap": {"name": config_map}}]},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
            },
        )
        if reported is not None:
            self.fleet.set_pods(KEY, [*self.fleet.agents[KEY].pods.values(), pod(name)])  # before the watch reports it
            self.report_status(name, reported)

    def report_status(self, name: str, reported: WorkerStatus) -> None:
        """A worker of the agent reports its status."""
        self.fleet.record_status(KEY, name, reported, now())

    def set_pending_calls(self, number: int) -> None:
        """A gateway reports how many calls wait for the agent."""
        self.fleet.record_demand(Demand(gateway="gateway-0", pending={str(KEY): number}), now())

    async def reconcile(self) -> float | None:
        """Reconcile once; every watch has reported all changes before that and afterwards."""
        await asyncio.sleep(SETTLED_SECONDS)
        result = await self.reconciler.reconcile(KEY)
        await asyncio.sleep(SETTLED_SECONDS)
        return result.requeue_after

    async def become_ready(self) -> float | None:
        """Start the agent and register one worker; return what the last reconcile returned."""
        await self.reconcile()
        self.put_pod("pod-1", status())
        await self.reconcile()
        await asyncio.sleep(NUMBERS_SECONDS)
        return await self.reconcile()

    async def roll_out(self) -> None:
        """Reconcile until a changed configuration is applied."""
        for _ in range(6):
            await self.reconcile()

    @property
    def workers(self) -> Document:
        """The workers' Deployment."""
        found = self.server.find(DEPLOYMENT, "shop", WORKERS)
        assert found is not None
        return found

    @property
    def replicas(self) -> int:
        """The number of workers that the Deployment asks for."""
        return int(self.workers["spec"]["replicas"])

    @property
    def template(self) -> Document:
        """The pod template of the workers."""
        found: Document = self.workers["spec"]["template"]
        return found

    @property
    def configurations(self) -> set[str]:
        """The names of all ConfigMaps."""
        return self.server.names(CONFIG_MAP)

    def condition(self, kind: ConditionType, key: Key = KEY) -> tuple[str, str, str]:
        """Status, reason and message of a condition in the status."""
        agent = self.agents.get(key)
        assert agent is not None
        (found,) = [one for one in agent.status["conditions"] if one["type"] == kind.value]
        return found["status"], found["reason"], found["message"]

    def _read_clock(self) -> Instant:
        self.clock_reads += 1
        return virtual_clock()

    def _agent_updated(self, document: Document) -> None:
        self.changed += self.agents.update(document)

    def _agent_lost(self, key: Key, uid: str) -> None:
        self.changed += self.agents.remove(key, uid)
