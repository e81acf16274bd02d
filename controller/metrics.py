"""The controller's metrics.

The labels `agent_namespace` and `agent` name the AvatarAgent. Prometheus uses `namespace` for the scraped target.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.observation import Key
from controller.policy.plan import Counts
from controller.policy.scale import Decision, ScaleReason
from controller.policy.snapshot import ObservedAgent

_AGENT = ("agent_namespace", "agent")
_PREFIX = "avatar_agent_controller_"


class Metrics:
    """The metrics of one controller process, in one registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconciles = Counter(
            f"{_PREFIX}reconciles",
            "Reconciles by outcome: success; refused (the API server rejected a request or did not answer; retried); "
            "error (an internal error of the controller; retried).",
            ["outcome"],
            registry=self.registry,
        )
        self._reconcile_seconds = Histogram(
            f"{_PREFIX}reconcile_seconds",
            "Duration of a reconcile of one AvatarAgent.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self._decisions = Counter(
            f"{_PREFIX}scale_decisions",
            f"Changes of the number of workers by reason: {', '.join(ScaleReason)}.",
            [*_AGENT, "reason"],
            registry=self.registry,
        )
        self._last_success = Gauge(
            f"{_PREFIX}last_success_timestamp_seconds",
            "Unix time of the last successful reconcile.",
            registry=self.registry,
        )
        self._leading = Gauge(
            f"{_PREFIX}leading", "1: this controller is the leader; 0: it is on standby.", registry=self.registry
        )
        self._queue = Gauge(
            f"{_PREFIX}queue_length", "AvatarAgents in the queue to be reconciled.", registry=self.registry
        )
        self._gauges = {
            name: Gauge(f"{_PREFIX}{name}", text, _AGENT, registry=self.registry)
            for name, text in {
                "workers_desired": "Workers that the agent should have.",
                "workers_ready": "Workers whose pod is ready.",
                "workers_registered": "Workers registered with LiveKit under the declared name.",
                "workers_draining": "Workers that are draining.",
                "slots": "Slots of the registered workers.",
                "slots_free": "Free slots of the registered workers.",
                "calls": "Calls that workers hold.",
                "calls_pending": "Calls waiting for a slot.",
                "ready": "1: the condition Ready is true; 0: it is not.",
                "scaling_limited": "1: calls need more workers than maxWorkers allows; 0: they do not.",
            }.items()
        }

    def record_reconcile(self, outcome: str, seconds: float) -> None:
        """Record the end of a reconcile."""
        if outcome == "success":
            self._last_success.set_to_current_time()
        self._reconciles.labels(outcome).inc()
        self._reconcile_seconds.observe(seconds)

    def start_leading(self, queue_length: Callable[[], int], agents: Callable[[], Iterable[ObservedAgent]]) -> None:
        """Report this controller as leader. `queue_length` and `agents` are called at each scrape."""
        self._leading.set(1)
        self._queue.set_function(queue_length)
        self.registry.register(_Conditions(agents))

    def record_scaling(self, key: Key, decision: Decision) -> None:
        """Record a change of the number of workers."""
        self._decisions.labels(*key, decision.reason.value).inc()

    def set_agent(self, key: Key, counts: Counts, *, ready: bool, limited: bool) -> None:
        """Set the gauges of one agent."""
        values = {
            "workers_desired": counts.workers.desired,
            "workers_ready": counts.workers.ready,
            "workers_registered": counts.workers.registered,
            "workers_draining": counts.workers.draining,
            "slots": counts.slots.total,
            "slots_free": counts.slots.free,
            "calls": counts.calls.active,
            "calls_pending": counts.calls.pending,
            "ready": int(ready),
            "scaling_limited": int(limited),
        }
        for name, value in values.items():
            self._gauges[name].labels(*key).set(value)

    def forget(self, key: Key) -> None:
        """Remove the series of an AvatarAgent that no longer exists."""
        for gauge in self._gauges.values():
            gauge.remove_by_labels(dict(zip(_AGENT, key, strict=True)))
        self._decisions.remove_by_labels(dict(zip(_AGENT, key, strict=True)))


class _Conditions(Collector):
    """Counts agents by condition at each scrape."""

    def __init__(self, agents: Callable[[], Iterable[ObservedAgent]]) -> None:
        self._agents = agents

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The metric family without samples, which registration uses."""
        return [self._family()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The current counts."""
        family = self._family()
        counted: dict[tuple[str, str, str], int] = {}
        for agent in self._agents():
            for condition in agent.status.get("conditions") or []:
                labels = (condition["type"], condition["status"], condition["reason"])
                counted[labels] = counted.get(labels, 0) + 1
        for labels, number in sorted(counted.items()):
            family.add_metric(labels, number)
        yield family

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            f"{_PREFIX}agents",
            "AvatarAgents by condition type, status and reason.",
            labels=["condition", "status", "reason"],
        )
