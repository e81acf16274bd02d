"""Everything that a reconcile works with, over an API server in memory: one AvatarAgent whose Secrets are complete."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from agentspec import AvatarAgentSpec, ConditionType, WorkerStatus
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
from controller.report import Reporter
from kube import informer
from kube.client import Document
from kube.kinds import AVATAR_AGENT, CONFIG_MAP, DEPLOYMENT, POD, SECRET
from tests.unit.controller.builders import SPEC
from tests.unit.fakes.apiserver import FakeApiServer
from tests.unit.fakes.virtualtime import run, use_loop_clock

KEY = Key("shop", "ava")
UID = "uid-ava"
WORKERS = "ava-worker"
SETTLED_SECONDS = 1.0
"""After so long every watch has told what happened."""


def virtual_clock() -> Instant:
    """The event loop's time; the calendar starts in 2026."""
    now = asyncio.get_running_loop().time()
    utc = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(seconds=now)
    return Instant(now, utc.strftime("%Y-%m-%dT%H:%M:%SZ"))


class Answering:
    """Providers that say what a test wants to hear."""

    def __init__(self) -> None:
        self.verdict = ProviderVerdict.ACCEPTED

    async def check(
        self, key: Key, spec: AvatarAgentSpec, values: Mapping[str, Mapping[str, str]]
    ) -> dict[Provider, ProviderAnswer]:
        return {Provider.LIVEKIT: ProviderAnswer(self.verdict), Provider.OPENAI: ProviderAnswer(self.verdict)}

    def forget(self, key: Key) -> None: ...


class Listening:
    """Stands for the streams: workers speak when the test lets them."""

    def __init__(self) -> None:
        self.speak: Callable[[Key], None] = lambda key: None
        """Makes an agent's workers say their first words."""

    def follow(self, key: Key, pods: Iterable[ObservedPod]) -> None: ...

    async def wait_first_reports(self, key: Key) -> None:
        self.speak(key)


class World:
    """The parts, the cluster, and what tests do to it."""

    def __init__(self) -> None:
        self.server, self.agents, self.fleet, self.metrics = FakeApiServer(FIELD_MANAGER), Agents(), Fleet(), Metrics()
        self.providers, self.streams = Answering(), Listening()
        self.changed: list[Key] = []
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
                clock=virtual_clock,
                lost=self._agent_lost,
            ),
            Applier(self.children, self.shared, inputs, self.fleet, streams, self.metrics),
            Reporter(self.server, self.metrics, self._agent_seen, self._agent_lost),
            "worker:1",
        )
        self.put_secret("livekit", apiKey="key", apiSecret="secret")
        self.put_secret("openai", apiKey="first")
        self.put_agent()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The children are watched, and what is referred to is read again."""
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
        """Somebody writes a Secret."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.server.put(SECRET, {"metadata": {"namespace": "shop", "name": name}, "data": data})

    def put_agent(self, name: str = "ava", uid: str = "", day: int = 2, **spec: Any) -> None:
        """Somebody writes an AvatarAgent: the least manifest with whole fields replaced; `day`: when it was created."""
        created = f"2026-01-0{day}T00:00:00Z"
        metadata = {"namespace": "shop", "name": name, "uid": uid or f"uid-{name}", "creationTimestamp": created}
        self._agent_seen(self.server.put(AVATAR_AGENT, {"metadata": metadata, "spec": {**SPEC, **spec}}))

    def remove_agent(self) -> None:
        """Somebody deletes the AvatarAgent."""
        self.server.remove(AVATAR_AGENT, "shop", "ava")
        self.agents.remove(KEY, "uid-ava")

    def put_pod(self, name: str, said: WorkerStatus | None = None, **changes: str) -> None:
        """A worker pod of the present configuration runs, and says something; `changes`: template or config_map."""
        labels = {AGENT_LABEL: "ava", MANAGED_BY_LABEL: MANAGED_BY, COMPONENT_LABEL: WORKER_COMPONENT}
        template = self.workers["spec"]["template"]
        config_map = changes.get("config_map", template["spec"]["volumes"][0]["configMap"]["name"])
        digest = changes.get("template", template["metadata"]["annotations"][TEMPLATE_ANNOTATION])
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
        if said is not None:
            self.fleet.set_pods(KEY, [*self.children.pods(KEY), _unseen(name)])
            self.fleet.record_status(KEY, name, said, asyncio.get_running_loop().time())

    async def reconcile(self) -> float | None:
        """Once, with everything seen that happened before, and everything told that it did."""
        await asyncio.sleep(SETTLED_SECONDS)
        again_in = await self.reconciler.reconcile(KEY)
        await asyncio.sleep(SETTLED_SECONDS)
        return again_in

    async def rolled_out(self) -> None:
        """Reconcile as often as it takes until a changed configuration is applied."""
        for _ in range(6):
            await self.reconcile()

    @property
    def workers(self) -> Document:
        """The Deployment as it is."""
        found = self.server.find(DEPLOYMENT, "shop", WORKERS)
        assert found is not None
        return found

    @property
    def replicas(self) -> int:
        """Workers asked for."""
        return int(self.workers["spec"]["replicas"])

    @property
    def configurations(self) -> set[str]:
        """Names of the ConfigMaps there are."""
        return self.server.names(CONFIG_MAP)

    def condition(self, kind: ConditionType, key: Key = KEY) -> tuple[str, str, str]:
        """Status, reason and message, as last reported."""
        agent = self.agents.get(key)
        assert agent is not None
        (found,) = [one for one in agent.status["conditions"] if one["type"] == kind.value]
        return found["status"], found["reason"], found["message"]

    def _agent_seen(self, document: Document) -> None:
        self.changed += self.agents.update(document)

    def _agent_lost(self, key: Key, uid: str) -> None:
        self.changed += self.agents.remove(key, uid)


def _unseen(name: str) -> ObservedPod:
    return ObservedPod(name, "", True, True, False, False, None, "", "", "")


def played(monkeypatch: pytest.MonkeyPatch, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario in a world of its own on a virtual clock."""
    use_loop_clock(monkeypatch, informer)

    async def play() -> None:
        world = World()
        async with world.running():
            await scenario(world)

    run(play())
