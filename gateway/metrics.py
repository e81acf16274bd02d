"""The gateway's metrics, all named ``avatar_agent_gateway_…``."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_JOIN_BUCKETS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0, 120.0)
_AGENT = ("agent_namespace", "agent")
"""Labels that identify an AvatarAgent. Prometheus sets the label `namespace` to that of the scraped pod."""


class Metrics:
    """The metrics of one gateway, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "avatar_agent_gateway_calls",
            "Calls by outcome and reason. Outcomes: joined (counted once for each call), failed (no agent joined, or "
            "the agent was lost), ended (the call ended normally).",
            [*_AGENT, "outcome", "reason"],
            registry=self.registry,
        )
        self.join_seconds = Histogram(
            "avatar_agent_gateway_join_seconds",
            "Seconds from the request for a call until the agent first joined its room, waiting included.",
            _AGENT,
            buckets=_JOIN_BUCKETS,
            registry=self.registry,
        )
        self.pending = Gauge(
            "avatar_agent_gateway_calls_pending", "Calls waiting for a free slot.", _AGENT, registry=self.registry
        )
        self.dispatches = Counter(
            "avatar_agent_gateway_dispatches",
            "Dispatches by cause: First, NotTaken (no worker accepted the previous one), JobDied (a worker accepted "
            "the previous one and did not join), AgentLost (the agent had joined and was lost).",
            [*_AGENT, "cause"],
            registry=self.registry,
        )
        self.without_avatar = Counter(
            "avatar_agent_gateway_dispatches_without_avatar",
            "Dispatches without an avatar, because no avatar seat was free (avatar.maxSessions).",
            _AGENT,
            registry=self.registry,
        )
        self.requests_refused = Counter(
            "avatar_agent_gateway_requests_refused",
            "Requests that the gateway answered with an error, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.controller_reachable = Gauge(
            "avatar_agent_gateway_controller_reachable",
            "1 while the controller answers, else 0. At 0 the gateway dispatches calls without counting free slots.",
            registry=self.registry,
        )
        self.livekit_errors = Counter(
            "avatar_agent_gateway_livekit_errors",
            "Requests to LiveKit that failed, by kind of error.",
            ["kind"],
            registry=self.registry,
        )
