"""Keeps what workers and gateways reported last, and what the next decision about each agent builds on.

A restart loses all of it, and it comes back within seconds: the controller lists pods and reads worker statuses, and
gateways report their demand. Times are seconds of one monotonic clock that the caller passes in.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agentspec import AgentSupply, AvatarAgentSpec, Demand, DispatchMode, WorkerStatus
from agentspec.wire import StageReports
from controller.observation import Key, ObservedPod, ObservedWorker
from controller.policy.availability import is_registered
from controller.policy.avatar import AvatarFailure, free_seats, newest_failure
from controller.policy.capacity import slots_of
from controller.policy.lost_workers import has_restarted
from controller.policy.names import Claim, server_of
from controller.policy.providers_health import merged, outcomes_differ
from controller.policy.rivals import Rival
from controller.policy.rollout import PendingTemplate
from controller.policy.scale import History

WORKER_MEMORY_SECONDS = 30.0
"""How long the last status of an unreachable worker counts."""
GATEWAY_MEMORY_SECONDS = 3.0
"""How long the last demand of a gateway counts. Another gateway then reports the calls of one that is gone."""


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A worker's last status."""

    status: WorkerStatus
    first: float
    """When the worker's current process reported for the first time."""
    at: float
    """When it reported this status."""
    has_registered: bool = False
    """Whether the pod's worker has ever reported that it is registered."""
    took_calls: float | None = None
    """Until when the worker's current process took calls, as far as it reported; None: it never did."""
    busy_at: float | None = None
    """When the worker's current process last reported a call; None: it never did."""
    silent: bool = False
    """Whether it did not answer when asked after this status."""
    hangs: bool = False
    """Whether it accepted the connection and did not answer: the network works, and the process hangs."""


@dataclass(slots=True)
class AgentFleet:
    """The workers of one AvatarAgent."""

    uid: str
    spec: AvatarAgentSpec
    """The newest spec that this release can use."""
    registered_name: str
    pods: dict[str, ObservedPod] = field(default_factory=dict)
    reports: dict[str, StatusReport] = field(default_factory=dict)
    history: History = ()
    """How many workers the agent needed lately."""
    avatar_failure: AvatarFailure | None = None
    """The newest avatar failure; None after an avatar that joined."""
    stages: dict[str, StageReports] = field(default_factory=dict)
    """Newest outcomes of the requests to providers, by the digest of the workers' pod template."""
    pending_rollout: PendingTemplate | None = None
    """A pod template that waits until changes settle."""
    rival: Rival | None = None
    """Another client that set the number of workers lately."""

    def workers(self, now: float) -> list[ObservedWorker]:
        """Its worker pods, each with its status unless that is stale."""
        return [self._observe(pod, now) for _, pod in sorted(self.pods.items())]

    def record_stages(self, pod: ObservedPod, status: WorkerStatus) -> bool:
        """Record a worker's outcomes of requests to providers; return whether a stage failed or recovered.

        Workers that drain do not count. What is known of a configuration stays while its workers are gone, until a
        worker with another one reports.
        """
        if status.stages is None or status.draining or pod.terminating:
            return False
        known = self.stages.get(pod.template)
        if known is None:
            used = {other.template for other in self.pods.values()}
            self.stages = {template: reports for template, reports in self.stages.items() if template in used}
        newest = self.stages[pod.template] = merged(known or StageReports(), status.stages)
        return known is None or outcomes_differ(known, newest)

    def _observe(self, pod: ObservedPod, now: float) -> ObservedWorker:
        report = self.reports.get(pod.name)
        if report is None:
            return ObservedWorker(pod, None)
        return ObservedWorker(
            pod,
            self._fresh_status(pod.name, now),
            reporting_seconds=now - report.first,
            idle_seconds=now - (report.first if report.busy_at is None else report.busy_at),
            unregistered_seconds=None if report.took_calls is None else now - report.took_calls,
            hangs_idle=report.hangs and not report.status.calls,
        )

    def _fresh_status(self, pod: str, now: float) -> WorkerStatus | None:
        report = self.reports.get(pod)
        if report is None or report.silent or now - report.at > WORKER_MEMORY_SECONDS:
            return None
        return report.status

    def unheard(self, now: float, seconds: float) -> set[str]:
        """The pods whose worker last reported free slots, and has reported nothing since for this many seconds."""
        return {name for name, report in self.reports.items() if report.status.free_slots and now - report.at > seconds}


class Fleet:
    """All agents' workers and all gateways' demands."""

    def __init__(self, on_first_registration: Callable[[Key, ObservedPod], None] = lambda key, pod: None) -> None:
        """`on_first_registration`: called when a pod's worker reports for the first time that it is registered."""
        self.agents: dict[Key, AgentFleet] = {}
        self._on_first_registration = on_first_registration
        self._demands: dict[str, tuple[float, Mapping[str, int]]] = {}
        self._expired_until = 0.0
        """When stale reports were last searched for."""
        self._users: dict[str, set[Key]] = {}
        """Agents whose workers ever reported a name, by name."""

    def declare(self, key: Key, uid: str, spec: AvatarAgentSpec) -> AgentFleet:
        """Return the agent's record, updated to this spec. A new agent with an old name inherits only the workers."""
        name = spec.registered_name(key.name) if spec.dispatch.mode is DispatchMode.EXPLICIT else ""
        agent = self.agents.get(key)
        if agent is None or agent.uid != uid:
            workers = (agent.pods, agent.reports) if agent is not None else ({}, {})
            agent = self.agents[key] = AgentFleet(uid, spec, name)
            agent.pods, agent.reports = workers
        agent.spec, agent.registered_name = spec, name
        return agent

    def forget(self, key: Key) -> None:
        """Drop the record of an agent that is gone, workers included."""
        self.agents.pop(key, None)
        for name in [name for name, users in self._users.items() if key in users]:
            self._users[name].discard(key)
            if not self._users[name]:
                del self._users[name]

    def set_pods(self, key: Key, pods: Iterable[ObservedPod]) -> None:
        """Replace the agent's pods; drop the reports of pods that are gone."""
        agent = self.agents[key]
        agent.pods = {pod.name: pod for pod in pods}
        agent.reports = {name: report for name, report in agent.reports.items() if name in agent.pods}

    def record_status(self, key: Key, pod: str, status: WorkerStatus, now: float) -> bool:
        """Record a worker's status; return whether a decision could differ from the last one.

        A heartbeat is the same object as before; a thousand workers send fifty a second.
        """
        agent = self.agents.get(key)
        if agent is None or pod not in agent.pods:
            return False
        before = agent._fresh_status(pod, now)
        known = agent.reports.get(pod)
        if known is not None and known.status is status and before is not None:
            agent.reports[pod] = _repeated(known, now)
            return False
        agent.avatar_failure = newest_failure(
            agent.avatar_failure, pod, None if known is None else known.status, status
        )
        self._users.setdefault(status.agent_name, set()).add(key)
        process = None if known is None or has_restarted(known.status, status) else known
        first = now if process is None else process.first
        had_registered = known is not None and known.has_registered
        agent.reports[pod] = StatusReport(
            status,
            first=first,
            at=now,
            has_registered=had_registered or status.registered,
            took_calls=_took_calls(process, status, now),
            busy_at=_busy_at(process, status, now),
        )
        if status.registered and not had_registered:
            self._on_first_registration(key, agent.pods[pod])
        changed = agent.record_stages(agent.pods[pod], status)
        return changed or before is None or _without_reports(before) != _without_reports(status)

    def record_silence(self, key: Key, pod: str, *, hangs: bool) -> bool:
        """Record that a worker does not answer; return whether a decision could differ from the last one.

        `hangs`: it accepted the connection.
        """
        agent = self.agents.get(key)
        report = None if agent is None else agent.reports.get(pod)
        if agent is None or report is None or (report.silent, report.hangs) == (True, hangs):
            return False
        agent.reports[pod] = replace(report, silent=True, hangs=hangs)
        return True

    def record_demand(self, demand: Demand, now: float) -> set[Key]:
        """Record a gateway's demand; return the agents whose waiting calls changed."""
        _, before = self._demands.get(demand.gateway, (now, {}))
        self._demands[demand.gateway] = (now, demand.pending)
        names = {name for name in {*before, *demand.pending} if before.get(name, 0) != demand.pending.get(name, 0)}
        return self._named(names)

    def expire_gateways(self, now: float) -> set[Key]:
        """Drop the demand of gateways that stopped reporting; return the agents whose waiting calls changed."""
        silent = [gateway for gateway, (at, _) in self._demands.items() if now - at > GATEWAY_MEMORY_SECONDS]
        return self._named({name for gateway in silent for name in self._demands.pop(gateway)[1]})

    def expire_workers(self, now: float) -> set[Key]:
        """Return the agents with a worker whose last report became stale since the last call."""
        before, self._expired_until = self._expired_until - WORKER_MEMORY_SECONDS, now
        stale = now - WORKER_MEMORY_SECONDS
        return {
            key
            for key, agent in self.agents.items()
            if any(before <= report.at < stale for report in agent.reports.values())
        }

    def other_user(self, claim: Claim, now: float) -> Key | None:
        """Another agent with workers under the claimed name; None: none has, or the claimant has some too."""
        users = self._users.get(claim.name, set())
        using = {key for key in users if self._is_using(key, claim, now)}
        return None if claim.key in using else min(using, default=None)

    def _is_using(self, key: Key, claim: Claim, now: float) -> bool:
        agent = self.agents.get(key)
        if agent is None or server_of(agent.spec.livekit.url, key.namespace) != claim.server:
            return False
        return any(is_registered(worker, claim.name) for worker in agent.workers(now))

    def pending(self, key: Key) -> int:
        """Calls that wait for a slot of this agent, at all gateways."""
        name = str(key)
        return sum(max(0, waiting.get(name, 0)) for _, waiting in self._demands.values())

    def with_waiting_calls(self) -> set[Key]:
        """The agents for which calls wait."""
        waiting = [waiting for _, waiting in self._demands.values()]
        return self._named({name for one in waiting for name, calls in one.items() if calls > 0})

    def _named(self, names: set[str]) -> set[Key]:
        """The agents with these names of `agentspec.wire.agent_key`."""
        return {key for key in self.agents if str(key) in names} if names else set()

    def remember(
        self, key: Key, history: History, pending_rollout: PendingTemplate | None, rival: Rival | None
    ) -> None:
        """Keep what the next decision about the agent builds on."""
        agent = self.agents[key]
        agent.history, agent.pending_rollout, agent.rival = history, pending_rollout, rival

    def clear_pending_rollout(self, key: Key) -> None:
        """The pending pod template is applied."""
        self.agents[key].pending_rollout = None

    def supply(self, now: float) -> dict[str, AgentSupply]:
        """Slots of every agent, by agent key."""
        return {str(key): self._supply(key, now) for key in self.agents}

    def _supply(self, key: Key, now: float) -> AgentSupply:
        agent = self.agents[key]
        workers = agent.workers(now)
        slots = slots_of(worker for worker in workers if is_registered(worker, agent.registered_name))
        free_avatars = free_seats(agent.spec, workers)
        return AgentSupply(free_slots=slots.free, slots=slots.total, free_avatars=free_avatars)


def _repeated(report: StatusReport, now: float) -> StatusReport:
    """The report after a heartbeat."""
    status = report.status
    took_calls, busy_at = _took_calls(report, status, now), _busy_at(report, status, now)
    return StatusReport(status, report.first, now, report.has_registered, took_calls, busy_at)


def _took_calls(before: StatusReport | None, status: WorkerStatus, now: float) -> float | None:
    """Until when a worker process took calls. `before`: its previous report; None: this is its first."""
    takes = status.registered and not status.draining
    took = before is not None and before.status.registered and not before.status.draining
    if takes or took:
        return now
    return None if before is None else before.took_calls


def _without_reports(status: WorkerStatus) -> WorkerStatus:
    """The status without the reports about single stages and jobs, on which no decision depends."""
    return status.model_copy(update={"stages": None, "jobs": None})


def _busy_at(before: StatusReport | None, status: WorkerStatus, now: float) -> float | None:
    """When a worker process last had a call. `before`: its previous report; None: this is its first."""
    if status.calls or (before is not None and before.status.calls):
        return now
    return None if before is None else before.busy_at
