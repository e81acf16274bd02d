"""The controller's metrics."""

import time
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from agentspec import AvatarAgentSpec, ScalingMode
from controller.observation import Key, ObservedPod
from controller.policy.lost_workers import LossReason
from controller.policy.plan import Counts
from controller.policy.scale import Decision, ScaleReason
from controller.policy.snapshot import ObservedAgent
from process.metrics import AGENT_LABELS, ProcessMetrics, SampledGauge, Samples, prefix_of

_PREFIX: Final = prefix_of("controller")
_RECONCILE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 90.0)
_QUEUE_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WORKER_START_BUCKETS: Final = (1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0)


class ReconcileOutcome(StrEnum):
    """How a reconcile ended: a label of `reconciles_total`. One that a shutdown cancelled has no outcome."""

    SUCCESS = "success"
    REJECTED = "rejected"
    """The API server rejected a request; somebody has to change the manifest, a quota or a policy."""
    FAILED = "failed"
    """The API server failed or did not answer; the reconcile is retried."""
    TIMEOUT = "timeout"
    """The reconcile took too long and was cancelled; it is retried."""
    CRASHED = "crashed"
    """An internal error; the reconcile is retried."""


Contacts = Callable[[], Iterable[tuple[str, float]]]
"""Returns the kind of each watch, and when the API server last sent anything, in monotonic seconds."""


class Metrics:
    """The metrics of one controller process, in one registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.process = ProcessMetrics("controller", self.registry)
        self._declared: set[Key] = set()
        """Agents whose counters exist."""
        self._figures: dict[Key, dict[str, float | None]] = {}
        """Each agent's gauges by name; None: the agent does not have it."""
        self._leading_since = float("inf")
        """When this process became the leader, in Unix seconds."""
        self._success_at: float | None = None
        self._reconciles = Counter(
            f"{_PREFIX}reconciles",
            "Reconciles by outcome: success; rejected (the API server rejected a request); failed (the API server "
            "failed or did not answer); timeout (cancelled after 90 s); crashed (an internal error). All but success "
            "are retried.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ReconcileOutcome:
            self._reconciles.labels(outcome.value)
        self._reconcile_duration = Histogram(
            f"{_PREFIX}reconcile_duration_seconds",
            "Duration of a reconcile of one AvatarAgent.",
            buckets=_RECONCILE_BUCKETS,
            registry=self.registry,
        )
        self._queue_wait = Histogram(
            f"{_PREFIX}queue_wait_duration_seconds",
            "Time from the first change of an AvatarAgent until its reconcile starts.",
            buckets=_QUEUE_BUCKETS,
            registry=self.registry,
        )
        self._queue_retries = Counter(
            f"{_PREFIX}queue_retries", "Failed reconciles that were queued again.", registry=self.registry
        )
        self._requests = Histogram(
            f"{_PREFIX}api_request_duration_seconds",
            "Duration of requests to the API server by HTTP method and status code; code 0: no answer. Verb WATCH: "
            "until the API server accepted the watch. The watch of AvatarAgents, which kopf opens, is not included.",
            ["verb", "code"],
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._decisions = Counter(
            f"{_PREFIX}scale_decisions",
            f"Changes of the number of workers by reason: {', '.join(ScaleReason)}.",
            [*AGENT_LABELS, "reason"],
            registry=self.registry,
        )
        self._workers_lost = Counter(
            f"{_PREFIX}workers_lost",
            f"Workers that were lost with their calls, by reason: {', '.join(LossReason)}.",
            ["reason"],
            registry=self.registry,
        )
        for reason in LossReason:
            self._workers_lost.labels(reason.value)
        self._worker_start = Histogram(
            f"{_PREFIX}worker_start_duration_seconds",
            "Time from the creation of a worker's pod until the worker first reports that it is registered with "
            "LiveKit. Kubernetes records whole seconds of the creation, so it may be 1 s too long. Pods older than "
            "this leader are not included.",
            AGENT_LABELS,
            buckets=_WORKER_START_BUCKETS,
            registry=self.registry,
        )
        SampledGauge(
            f"{_PREFIX}last_success_timestamp_seconds",
            "Unix time of the last successful reconcile. Absent before the first one, and on a standby.",
            (),
            self._last_success,
            registry=self.registry,
        )
        self._leading = Gauge(
            f"{_PREFIX}leading", "1: this controller is the leader; 0: it is on standby.", registry=self.registry
        )
        self._queue = Gauge(
            f"{_PREFIX}queue_length", "AvatarAgents in the queue to be reconciled.", registry=self.registry
        )
        for name, text in {
            "workers_desired": "Workers that the agent should have.",
            "workers_ready": "Workers whose pod is ready.",
            "workers_registered": "Workers registered with LiveKit under the declared name.",
            "workers_updated": "Workers that run the current configuration.",
            "workers_draining": "Workers that are draining.",
            "workers_max": "Most workers that the agent may have: scaling.maxWorkers, or scaling.workers in mode "
            "Fixed.",
            "slots": "Slots of the registered workers.",
            "slots_free": "Free slots of the registered workers.",
            "calls": "Calls that workers hold.",
            "calls_pending": "Calls waiting for a slot.",
            "calls_with_avatar": "Calls with an avatar.",
            "avatar_seats": "Avatar seats that avatar.maxSessions allows. Absent where it is not set.",
            "avatar_seats_free": "Avatar seats that no call uses. Absent where avatar.maxSessions is not set.",
            "ready": "1: the condition Ready is true; 0: it is not.",
            "scaling_limited": "1: calls need more workers than maxWorkers allows; 0: they do not.",
        }.items():
            SampledGauge(f"{_PREFIX}{name}", text, AGENT_LABELS, partial(self._sample, name), registry=self.registry)

    def start_leading(
        self, queue_length: Callable[[], int], agents: Callable[[], list[ObservedAgent]], contacts: Contacts
    ) -> None:
        """Report this controller as leader. The functions are called at each scrape, in another thread."""
        self._leading_since = time.time()
        self._leading.set(1)
        self._queue.set_function(queue_length)
        SampledGauge(
            f"{_PREFIX}agent_condition",
            "Always 1: the present status and reason of each condition of each AvatarAgent.",
            [*AGENT_LABELS, "condition", "status", "reason"],
            lambda: _conditions(agents()),
            registry=self.registry,
        )
        SampledGauge(
            f"{_PREFIX}watch_last_contact_timestamp_seconds",
            "Unix time at which the API server last sent anything for a watch; bookmarks come every 60 s. Kind "
            "AvatarAgent: the last list, which is read every 60 s.",
            ["kind"],
            lambda: _timestamps(contacts()),
            registry=self.registry,
        )

    def record_reconcile(self, outcome: ReconcileOutcome, seconds: float) -> None:
        """Record the end of a reconcile."""
        if outcome is ReconcileOutcome.SUCCESS:
            self._success_at = time.time()
        self._reconciles.labels(outcome.value).inc()
        self._reconcile_duration.observe(seconds)

    def record_queue_wait(self, seconds: float) -> None:
        """Record how long an agent waited for its reconcile."""
        self._queue_wait.observe(seconds)

    def record_retry(self) -> None:
        """Record that a failed reconcile was queued again."""
        self._queue_retries.inc()

    def record_request(self, verb: str, status: int, seconds: float) -> None:
        """Record a request to the API server; status 0: no answer."""
        self._requests.labels(verb, str(status)).observe(seconds)

    def record_scaling(self, key: Key, decision: Decision) -> None:
        """Record a change of the number of workers."""
        self._declare(key)
        self._decisions.labels(*key, decision.reason.value).inc()

    def record_lost_worker(self, reason: LossReason) -> None:
        """Record a worker that was lost with its calls."""
        self._workers_lost.labels(reason.value).inc()

    def record_worker_start(self, key: Key, pod: ObservedPod) -> None:
        """Record the first registration of a pod's worker.

        A new leader sees workers that have run for long register for the first time; they are left out.
        """
        if key in self._declared and pod.created >= self._leading_since - 1:
            self._worker_start.labels(*key).observe(max(0.0, time.time() - pod.created))

    def set_agent(
        self, key: Key, counts: Counts, spec: AvatarAgentSpec, *, free_seats: int | None, ready: bool, limited: bool
    ) -> None:
        """Set the gauges of one agent. `free_seats` None: the agent has no limit."""
        self._declare(key)
        scaling = spec.scaling
        self._figures[key] = {
            "workers_desired": counts.workers.desired,
            "workers_ready": counts.workers.ready,
            "workers_registered": counts.workers.registered,
            "workers_updated": counts.workers.updated,
            "workers_draining": counts.workers.draining,
            "workers_max": (scaling.workers or 0) if scaling.mode is ScalingMode.FIXED else scaling.max_workers,
            "slots": counts.slots.total,
            "slots_free": counts.slots.free,
            "calls": counts.calls.active,
            "calls_pending": counts.calls.pending,
            "calls_with_avatar": counts.calls.with_avatar,
            "avatar_seats": None if free_seats is None else spec.avatar.max_sessions,
            "avatar_seats_free": free_seats,
            "ready": int(ready),
            "scaling_limited": int(limited),
        }

    def forget(self, key: Key) -> None:
        """Remove the series of an AvatarAgent that no longer exists."""
        self._declared.discard(key)
        self._figures.pop(key, None)
        self._worker_start.remove(*key)
        for reason in ScaleReason:
            self._decisions.remove(*key, reason.value)

    def _declare(self, key: Key) -> None:
        """Create the agent's counters at 0."""
        if key not in self._declared:
            self._declared.add(key)
            self._worker_start.labels(*key)
            for reason in ScaleReason:
                self._decisions.labels(*key, reason.value)

    def _sample(self, name: str) -> Samples:
        """One gauge of every agent."""
        return [(key, value) for key, figures in list(self._figures.items()) if (value := figures[name]) is not None]

    def _last_success(self) -> Samples:
        return [] if self._success_at is None else [((), self._success_at)]


def _conditions(agents: Iterable[ObservedAgent]) -> Iterator[tuple[tuple[str, ...], float]]:
    for agent in agents:
        for condition in agent.status.get("conditions") or []:
            yield (*agent.key, condition["type"], condition["status"], condition["reason"]), 1


def _timestamps(contacts: Iterable[tuple[str, float]]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Unix times of monotonic ones, rounded so that two scrapes return the same value."""
    offset = time.time() - time.monotonic()
    for kind, at in contacts:
        yield (kind,), round(offset + at, 1)
