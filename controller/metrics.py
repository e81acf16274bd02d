"""The controller's metrics, declared once.

Labels: `agent_namespace` and `agent` name the AvatarAgent; `namespace` would be Prometheus' own label of the target.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controller.fleet import Counts
from controller.observation import Key
from controller.policy.scale import Decision

_AGENT = ("agent_namespace", "agent")


class Metrics:
    """Small verbs over one registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "avatar_agent_controller_"
        self._reconciles = Counter(
            f"{prefix}reconciles",
            "Reconciles by outcome: success; refused (the API server refused or did not answer, tried again); "
            "error (a fault of the controller, tried again).",
            ["outcome"],
            registry=self.registry,
        )
        self._reconcile_seconds = Histogram(
            f"{prefix}reconcile_seconds",
            "Duration of one reconcile of one AvatarAgent.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self._decisions = Counter(
            f"{prefix}scale_decisions",
            "Changes of the number of workers, by reason: MoreNeeded or FewerNeeded.",
            [*_AGENT, "reason"],
            registry=self.registry,
        )
        self._gauges = {
            name: Gauge(f"{prefix}{name}", text, _AGENT, registry=self.registry)
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
        self._reconciles.labels(outcome).inc()
        self._reconcile_seconds.observe(seconds)

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
