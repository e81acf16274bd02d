"""The controller's metrics, declared once.

Labels: `agent_namespace` and `agent` name the AvatarAgent; `namespace` would be Prometheus' own label of the target.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.cluster.agents import ObservedAgent
from controller.fleet.fleet import Counts
from controller.observation import Key
from controller.policy.scale import Decision, ScaleReason

_AGENT = ("agent_namespace", "agent")
_PREFIX = "avatar_agent_controller_"


class Metrics:
    """Small verbs over one registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconciles = Counter(
            f"{_PREFIX}reconciles",
            "Reconciles by outcome: success; refused (the API server refused or did not answer, tried again); "
            "error (a fault of the controller, tried again).",
            ["outcome"],
            registry=self.registry,
        )
        self._reconcile_seconds = Histogram(
            f"{_PREFIX}reconcile_seconds",
            "Duration of one reconcile of one AvatarAgent.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self._decisions = Counter(
            f"{_PREFIX}scale_decisions",
            f"Changes of the number of workers, by reason: {', '.join(ScaleReason)}.",
            [*_AGENT, "reason"],
            registry=self.registry,
        )
        self._last_success = Gauge(
            f"{_PREFIX}last_success_timestamp_seconds",
            "When a reconcile last succeeded, Unix time.",
            registry=self.registry,
        )
        self._leading = Gauge(f"{_PREFIX}leading", "1: this controller works; 0: it stands by.", registry=self.registry)
        self._queue = Gauge(
            f"{_PREFIX}queue_length", "AvatarAgents that wait to be reconciled.", registry=self.registry
        )
        self._gauges = {
            name: Gauge(f"{_PREFIX}{name}", text, _AGENT, registry=self.registry)
            for name, text in {
                "workers_desired": "Workers wanted.",
                "workers_ready": "Workers whose pod is ready.",
                "workers_registered": "Workers registered with LiveKit under the declared name.",
                "workers_draining": "Workers that finish their calls and leave.",
                "slots": "Slots of the registered workers.",
                "slots_free": "Slots not in use.",
                "calls": "Calls on workers.",
                "calls_pending": "Calls waiting for a slot.",
                "ready": "1: the condition Ready is true.",
                "scaling_limited": "1: maxWorkers keeps the agent from having the workers it needs.",
            }.items()
        }

    def reconciled(self, outcome: str, seconds: float) -> None:
        """One reconcile ended."""
        if outcome == "success":
            self._last_success.set_to_current_time()
        self._reconciles.labels(outcome).inc()
        self._reconcile_seconds.observe(seconds)

    def leads(self, waiting: Callable[[], int], agents: Callable[[], Iterable[ObservedAgent]]) -> None:
        """This controller works from now on: `waiting` gives the queue's length, `agents` all that it serves."""
        self._leading.set(1)
        self._queue.set_function(waiting)
        self.registry.register(_Conditions(agents))

    def scaled(self, key: Key, decision: Decision) -> None:
        """The number of workers was changed."""
        self._decisions.labels(*key, decision.reason.value).inc()

    def agent(self, key: Key, counts: Counts, *, ready: bool, limited: bool) -> None:
        """What is so for one agent."""
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
        """The AvatarAgent is gone."""
        for gauge in self._gauges.values():
            gauge.remove_by_labels(dict(zip(_AGENT, key, strict=True)))
        self._decisions.remove_by_labels(dict(zip(_AGENT, key, strict=True)))


class _Conditions(Collector):
    """Counts agents by condition when asked."""

    def __init__(self, agents: Callable[[], Iterable[ObservedAgent]]) -> None:
        self._agents = agents

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The family without samples: registering must not ask for any."""
        return [self._family()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The numbers of now."""
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
            "AvatarAgents by condition, its status and its reason.",
            labels=["condition", "status", "reason"],
        )
