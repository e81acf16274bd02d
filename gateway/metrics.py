"""The gateway's metrics, all named ``avatar_agent_gateway_…``."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_JOIN_BUCKETS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0, 120.0)
_AGENT = ("agent_namespace", "agent")
"""Labels of an AvatarAgent. Prometheus itself sets `namespace`, to that of the pod it asks."""


class Metrics:
    """One gateway's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "avatar_agent_gateway_calls",
            "Calls by outcome and reason: joined (once a call), failed (no agent came, or it was lost), ended (over).",
            [*_AGENT, "outcome", "reason"],
            registry=self.registry,
        )
        self.join_seconds = Histogram(
            "avatar_agent_gateway_join_seconds",
            "Seconds from the request for a call to the first agent in its room, waiting included.",
            _AGENT,
            buckets=_JOIN_BUCKETS,
            registry=self.registry,
        )
        self.pending = Gauge(
            "avatar_agent_gateway_calls_pending", "Calls waiting for a free slot.", _AGENT, registry=self.registry
        )
        self.dispatches = Counter(
            "avatar_agent_gateway_dispatches",
            "Dispatches by cause: First, NotTaken (no worker accepted the one before), JobDied (a worker accepted it "
            "and did not join), AgentLost (it had joined and vanished).",
            [*_AGENT, "cause"],
            registry=self.registry,
        )
        self.without_avatar = Counter(
            "avatar_agent_gateway_dispatches_without_avatar",
            "Dispatches that told the worker to do without an avatar, because no seat was free (avatar.maxSessions).",
            _AGENT,
            registry=self.registry,
        )
        self.requests_refused = Counter(
            "avatar_agent_gateway_requests_refused",
            "Requests answered with an error, by its reason.",
            ["reason"],
            registry=self.registry,
        )
        self.controller_reachable = Gauge(
            "avatar_agent_gateway_controller_reachable",
            "1 while the controller answers; otherwise calls are dispatched without knowing of free slots.",
            registry=self.registry,
        )
        self.livekit_errors = Counter(
            "avatar_agent_gateway_livekit_errors",
            "Requests that LiveKit did not serve, by kind of error.",
            ["kind"],
            registry=self.registry,
        )
