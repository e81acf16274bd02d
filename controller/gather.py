"""Gathers the snapshot that a reconcile decides from: caches first, the API server only for what no watch tells."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from agentspec import AvatarAgentSpec
from controller.cluster.agents import Agents
from controller.cluster.children import Children
from controller.cluster.shared_objects import SharedObjects
from controller.fleet.fleet import Fleet
from controller.fleet.streams import WorkerStreams
from controller.inputs.reader import InputReader
from controller.observation import Key, ObservedDeployment
from controller.policy.ownership import is_owned
from controller.policy.snapshot import Inputs, Instant, NameClaims, ObservedAgent, Occupants, Snapshot
from controller.policy.verdict import Verdict
from kube.client import ApiError, KubeClient
from kube.kinds import AVATAR_AGENT


def read_clock() -> Instant:
    """The time of now."""
    utc = datetime.now(UTC)
    return Instant(time.monotonic(), utc.strftime("%Y-%m-%dT%H:%M:%SZ"), utc.timestamp())


class Gatherer:
    """Reads one AvatarAgent and everything that concerns it."""

    def __init__(
        self,
        client: KubeClient,
        agents: Agents,
        inputs: InputReader,
        children: Children,
        shared: SharedObjects,
        fleet: Fleet,
        streams: WorkerStreams,
        *,
        clock: Callable[[], Instant],
        lost: Callable[[Key, str], None],
    ) -> None:
        """`lost` is called with the key and uid of an AvatarAgent that turns out to be gone."""
        self._client = client
        self._agents = agents
        self._inputs = inputs
        self._children = children
        self._shared = shared
        self._fleet = fleet
        self._streams = streams
        self._clock = clock
        self._lost = lost

    async def sync(self, agents: Iterable[ObservedAgent]) -> None:
        """Wait until the workers of all agents were heard, for a second at most: only together do they tell which
        agent names are in use."""
        followed = []
        for agent in agents:
            if not agent.deleted and isinstance(agent.spec, AvatarAgentSpec):
                self._fleet.declare(agent.key, agent.uid, agent.spec)
                self._follow(agent.key)
                followed.append(agent.key)
        await asyncio.gather(*(self._streams.wait_first_reports(key) for key in followed))

    async def gather(self, key: Key) -> Snapshot:
        """The snapshot of now. Raises ApiError."""
        agent = self._agents.get(key)
        if agent is not None and self._children.deployment_removed(key):
            agent = await self._confirm(agent)
        if agent is None or agent.deleted:
            return await self._deleted(key, agent)
        inputs = None
        if isinstance(agent.spec, AvatarAgentSpec):
            if not agent.is_reported:
                self._inputs.refresh_soon(key)
            inputs = await self._inputs.read(key, agent.uid, agent.spec)
        elif key not in self._fleet.agents:
            return Snapshot(key, self._clock(), agent)
        return await self._declared(agent, inputs)

    async def _declared(self, agent: ObservedAgent, inputs: Inputs | None) -> Snapshot:
        key, fleet = agent.key, self._fleet
        deployment = await self._own_deployment(agent)
        spec = agent.spec if isinstance(agent.spec, AvatarAgentSpec) else fleet.agents[key].spec
        record = fleet.declare(key, agent.uid, spec)
        self._follow(key)
        await self._streams.wait_first_reports(key)
        now = self._clock()
        snapshot = Snapshot(
            key=key,
            now=now,
            agent=agent,
            spec=spec,
            inputs=inputs,
            claims=self._claims(agent, now.monotonic),
            deployment=deployment,
            workers=tuple(record.workers(now.monotonic)),
            pending_calls=fleet.pending(key),
            avatar_failure=record.avatar_failure,
            stages=dict(record.stages),
            history=record.history,
            pending_rollout=record.pending_rollout,
            rival=record.rival,
        )
        if deployment is None and not snapshot.may_start:
            return snapshot
        return replace(snapshot, occupants=await self._occupants(agent))

    async def _deleted(self, key: Key, agent: ObservedAgent | None) -> Snapshot:
        """Nothing is read for an agent that is gone; its workers are still followed while they take calls."""
        self._inputs.forget(key)
        if key not in self._fleet.agents:
            return Snapshot(key, self._clock(), agent)
        self._follow(key)
        # A finalizer of somebody else holds up the deletion, and the garbage collector waits with it.
        deployment = await self._own_deployment(agent) if agent is not None else None
        now = self._clock()
        workers = tuple(self._fleet.agents[key].workers(now.monotonic))
        return Snapshot(key, now, agent, deployment=deployment, workers=workers)

    async def _confirm(self, agent: ObservedAgent) -> ObservedAgent | None:
        """The agent, or None when the API server has it no more: a watch misses deletions before it began or in a
        gap."""
        document = await self._client.get(AVATAR_AGENT, agent.key.namespace, agent.key.name)
        if document is not None and document["metadata"]["uid"] == agent.uid:
            return agent
        self._lost(agent.key, agent.uid)
        return None

    async def _own_deployment(self, agent: ObservedAgent) -> ObservedDeployment | None:
        """The workers' Deployment, if it belongs to this very agent."""
        key, owner, deployments = agent.key, agent.owner, self._children.deployments
        found = deployments.get(key, owner.worker_name)
        if found is None and self._children.pods(key):
            # Its label was removed, so the watch lost sight of it; it must not be taken for a missing one.
            found = await deployments.fetch(key, owner.worker_name)
        return found if found is not None and is_owned(owner, found.object) else None

    async def _occupants(self, agent: ObservedAgent) -> Occupants:
        kinds = (self._children.deployments, self._children.budgets)
        try:
            children = [
                (kind.informer.kind.kind, await kind.existing(agent.key, agent.owner.worker_name)) for kind in kinds
            ]
            return Occupants(tuple(children), await self._shared.occupants(agent.key.namespace))
        except ApiError as error:
            return Occupants(error=error)

    def _claims(self, agent: ObservedAgent, now: float) -> NameClaims:
        claim = agent.claim
        if claim is None or isinstance(agent.spec, Verdict):
            return NameClaims()
        holder = self._agents.holder(claim)
        return NameClaims(holder, self._fleet.other_user(claim, now) if holder is None else None)

    def _follow(self, key: Key) -> None:
        pods = self._children.pods(key)
        self._fleet.set_pods(key, pods)
        self._streams.follow(key, pods)
