"""Brings one AvatarAgent and the world together: observe, decide, apply, report. Idempotent and level-based."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agentspec import AvatarAgentSpec, ConditionStatus, ConditionType, Reason
from controller.apply import Applier
from controller.cluster.agents import Agents, ObservedAgent
from controller.cluster.children import Children
from controller.cluster.observe import children_selector
from controller.fleet.fleet import AgentFleet, Fleet
from controller.fleet.streams import WorkerStreams
from controller.inputs.reader import InputReader, Inputs
from controller.metrics import Metrics
from controller.observation import Key, ObservedDeployment
from controller.policy import conditions
from controller.policy.avatar import avatar_available
from controller.policy.names import name_still_in_use, name_unique
from controller.policy.rollout import progressing
from controller.policy.scale import Decision, scaling_limited, why_no_worker_starts
from controller.policy.specification import room_pattern_warning
from controller.policy.verdict import Verdict, false
from controller.policy.workers import workers_registered
from controller.report import Reporter

NOT_READY_SECONDS = 10.0
"""When to look again at an agent that is not ready: LiveKit may accept its keys by then."""
READY_SECONDS = 600.0
"""When to look again at one that is: everything that matters is watched, followed or read again by itself."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a reconcile works with."""

    agents: Agents
    children: Children
    inputs: InputReader
    fleet: Fleet
    streams: WorkerStreams
    applier: Applier
    reporter: Reporter
    metrics: Metrics


class Reconciler:
    """Reconciles AvatarAgents; the caller sees to it that one key is never reconciled twice at once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def reconcile(self, key: Key) -> float | None:
        """Returns in how many seconds to look again, None for never; raises ApiError."""
        agent = self._parts.agents.get(key)
        if agent is not None and self._parts.children.deployment_removed(key):
            agent = await self._parts.reporter.confirmed(agent)
        if agent is None or agent.deleted:
            return await self._leave(key, agent)
        spec = agent.spec
        if isinstance(spec, Verdict):
            return await self._unusable(agent, spec)
        if agent.generation != agent.status.get("observedGeneration"):
            self._parts.inputs.refresh_soon(key)
        inputs = await self._parts.inputs.read(key, agent.uid, spec)
        running = await self._observe(agent, spec)
        name = self._name(agent)
        stopped = spec.suspend or name.status is ConditionStatus.FALSE
        decision = self._parts.fleet.decide(key, time.monotonic(), stopped=stopped)
        outcome = await self._parts.applier.apply(agent.owner, spec, inputs, decision)
        verdicts = self._verdicts(key, spec, inputs, name, running, decision, refused=outcome.refused)
        early = None if _stands(agent, inputs) else await self._report(agent, spec, verdicts, decision)
        if outcome.error is not None:
            raise outcome.error
        if outcome.again_in is not None or not inputs.usable:
            self._parts.inputs.refresh_soon(key)  # what is changing, or being mended, may not be all that is
        served = verdicts[ConditionType.READY].status is ConditionStatus.TRUE or spec.suspend
        settled = served and ConditionStatus.TRUE is inputs.credentials.status is name.status
        waits = (early, outcome.again_in, decision.requeue_after, READY_SECONDS if settled else NOT_READY_SECONDS)
        return min(seconds for seconds in waits if seconds is not None)

    async def take_up(self, agents: Iterable[ObservedAgent]) -> None:
        """Listen to every agent's workers, before anything is decided: which names are in use is known by all of them
        alone. Bounded."""
        followed = []
        for agent in agents:
            if not agent.deleted and isinstance(agent.spec, AvatarAgentSpec):
                self._follow(agent, agent.spec)
                followed.append(agent.key)
        await asyncio.gather(*(self._parts.streams.wait_first_reports(key) for key in followed))

    async def _leave(self, key: Key, agent: ObservedAgent | None) -> float | None:
        """The agent is gone, or about to be: its workers leave, and as long as they take calls its name is in use."""
        parts = self._parts
        for memory in (parts.inputs, parts.children, parts.applier, parts.reporter, parts.metrics):
            memory.forget(key)
        if key in parts.fleet.agents and not all(pod.terminating for pod in parts.children.pods(key)):
            self._follow_workers(key)
            if agent is not None:  # its deletion waits for somebody's finalizer, and the garbage collector for it
                await parts.applier.stop(agent.owner)
            return NOT_READY_SECONDS
        parts.fleet.forget(key)
        parts.streams.follow(key, ())
        return None

    async def _unusable(self, agent: ObservedAgent, fault: Verdict) -> float | None:
        """What is there goes on as the last manifest that could be used says, if one was seen."""
        key, fleet = agent.key, self._parts.fleet
        verdicts, selector = {ConditionType.READY: fault}, children_selector(agent.key.name)
        if key not in fleet.agents:
            name = agent.status.get("agentName", "")
            return await self._parts.reporter.report(agent, verdicts, agent_name=name, selector=selector, counts=None)
        spec = fleet.agents[key].spec
        await self._observe(agent, spec)
        decision = fleet.decide(key, time.monotonic(), stopped=spec.suspend)
        outcome = await self._parts.applier.apply(agent.owner, spec, None, decision)
        early = await self._report(agent, spec, verdicts, decision)
        if outcome.error is not None:
            raise outcome.error
        waits = (early, decision.requeue_after)
        return min((seconds for seconds in waits if seconds is not None), default=None)

    def _name(self, agent: ObservedAgent) -> Verdict:
        claim = agent.claim
        assert claim is not None  # its spec can be used
        older = self._parts.agents.holder(claim)
        if older is None:
            user = self._parts.fleet.other_user(claim, time.monotonic())
            if user is not None:
                return name_still_in_use(claim, user)
        return name_unique(claim, older, automatic=not claim.name)

    async def _observe(self, agent: ObservedAgent, spec: AvatarAgentSpec) -> ObservedDeployment | None:
        """Take up what there is; gives the Deployment of its workers."""
        running = await self._parts.applier.own_deployment(agent.key, agent.owner)
        record = self._follow(agent, spec)
        record.replicas = None if running is None else running.replicas
        record.template = "" if running is None else running.template
        await self._parts.streams.wait_first_reports(agent.key)
        return running

    def _follow(self, agent: ObservedAgent, spec: AvatarAgentSpec) -> AgentFleet:
        record = self._parts.fleet.declare(agent.key, agent.uid, spec)
        self._follow_workers(agent.key)
        return record

    def _follow_workers(self, key: Key) -> None:
        pods = self._parts.children.pods(key)
        self._parts.fleet.see_pods(key, pods)
        self._parts.streams.follow(key, pods)

    def _verdicts(
        self,
        key: Key,
        spec: AvatarAgentSpec,
        inputs: Inputs,
        name: Verdict,
        running: ObservedDeployment | None,
        decision: Decision,
        *,
        refused: Verdict | None,
    ) -> dict[ConditionType, Verdict]:
        now, fleet = time.monotonic(), self._parts.fleet
        record = fleet.agents[key]
        seen = record.workers(now)
        needed = {
            ConditionType.CREDENTIALS_VALID: inputs.credentials,
            ConditionType.NAME_UNIQUE: name,
            ConditionType.KNOWLEDGE_LOADED: inputs.knowledge,
        }
        obstacle = conditions.obstacle(needed, inputs.fault)
        verdicts = {
            **needed,
            ConditionType.AVATAR_AVAILABLE: avatar_available(spec, seen, record.avatar_failure),
            ConditionType.WORKERS_REGISTERED: workers_registered(
                namespace=key.namespace,
                registered_name=record.registered_name,
                livekit_url=spec.livekit.url,
                wanted=decision.workers,
                seen=seen,
                deployment_trouble="" if running is None else running.create_failure,
                obstacle=obstacle,
                suspended=spec.suspend,
                never=why_no_worker_starts(spec),
            ),
            ConditionType.PROGRESSING: false(Reason.ROLLOUT_BLOCKED, refused.message)
            if refused is not None
            else progressing(fleet.rollout(key, now), decision.workers, obstacle=obstacle, suspended=spec.suspend),
            ConditionType.SCALING_LIMITED: scaling_limited(spec.scaling, decision),
        }
        remark = room_pattern_warning(spec)
        ready = conditions.ready(verdicts, suspended=spec.suspend, refused=inputs.fault or refused, remark=remark)
        return {ConditionType.READY: ready, **verdicts}

    async def _report(
        self, agent: ObservedAgent, spec: AvatarAgentSpec, verdicts: Mapping[ConditionType, Verdict], decision: Decision
    ) -> float | None:
        counts = self._parts.fleet.counts(agent.key, decision.workers, time.monotonic())
        ready = verdicts[ConditionType.READY].status is ConditionStatus.TRUE
        self._parts.metrics.set_agent(agent.key, counts, ready=ready, limited=decision.limited)
        return await self._parts.reporter.report(
            agent,
            verdicts,
            agent_name=spec.registered_name(agent.key.name),
            selector=children_selector(agent.key.name),
            counts=counts,
        )


def _stands(agent: ObservedAgent, inputs: Inputs) -> bool:
    """What an earlier controller said of this very manifest stands until the keys have been tried, within seconds."""
    untried = inputs.credentials.reason is Reason.CREDENTIALS_PENDING
    return untried and agent.generation == agent.status.get("observedGeneration")
