"""The gateway's metrics, all named ``avatar_agent_gateway_…``."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway.agents import Agent, InvalidAgent
from gateway.calls.metrics import CallMetrics
from gateway.cluster.members import Members
from gateway.errors import ErrorReason
from gateway.livekit.server import OK, REQUEST_METHODS, UNREACHABLE
from gateway.livekit.webhooks import OTHER_EVENT, ROOM_EVENTS
from process.metrics import ProcessMetrics, SampledGauge, prefix_of

_PREFIX: Final = prefix_of("gateway")
_HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""A request for a call's state may wait for 30 s."""
_LIVEKIT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 6.0)
"""A request to LiveKit ends after 6 s."""


class ForwardResult(StrEnum):
    """How an attempt to forward a request to the owner of its agent ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """The owner's process is gone."""
    UNREACHABLE = "unreachable"
    """The owner was not reached, or ended the connection."""
    MOVED = "moved"
    """The agent has another owner, or will have one."""
    FAILED = "failed"
    """All attempts failed, and the sender got 503."""


class Metrics:
    """The metrics of one gateway, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.process = ProcessMetrics("gateway", self.registry)
        self.calls = CallMetrics(self.registry)
        self._reachable: bool | None = None
        self._requests = Histogram(
            f"{_PREFIX}http_request_duration_seconds",
            "Duration of HTTP requests by route, method and status code. Route unmatched: no such path; "
            "GET /v1/calls/{call_id} may wait for a change, and its events last up to 5 minutes.",
            ["route", "method", "code"],
            buckets=_HTTP_BUCKETS,
            registry=self.registry,
        )
        self._rejected = Counter(
            f"{_PREFIX}requests_rejected",
            "HTTP requests that the gateway answered with an error, by reason.",
            ["reason"],
            registry=self.registry,
        )
        for reason in ErrorReason:
            self._rejected.labels(reason.value)
        self._livekit_requests = Histogram(
            f"{_PREFIX}livekit_request_duration_seconds",
            "Duration of requests to LiveKit by method and code: ok, the error code of LiveKit's API, or unreachable "
            "(no answer, or not from LiveKit).",
            ["method", "code"],
            buckets=_LIVEKIT_BUCKETS,
            registry=self.registry,
        )
        for method in REQUEST_METHODS:
            for code in (OK, UNREACHABLE):
                self._livekit_requests.labels(method, code)
        self._forwarded = Counter(
            f"{_PREFIX}forwarded_requests",
            "Attempts to forward a request to the gateway that owns its agent, by result: answered, refused, "
            "unreachable, moved, or failed (the sender got 503).",
            ["result"],
            registry=self.registry,
        )
        for result in ForwardResult:
            self._forwarded.labels(result.value)
        self._webhooks = Counter(
            f"{_PREFIX}webhooks",
            "LiveKit's webhooks with a valid signature, by event. Each counts once, at the gateway that received it.",
            ["event"],
            registry=self.registry,
        )
        for event in (*ROOM_EVENTS, OTHER_EVENT):
            self._webhooks.labels(event)
        self._gateways: Callable[[], int] = lambda: 1
        self._owned: Callable[[], int] = lambda: 0
        SampledGauge(
            f"{_PREFIX}members",
            "Live gateways, as this one knows them, itself included.",
            (),
            lambda: [((), self._gateways())],
            registry=self.registry,
        )
        SampledGauge(
            f"{_PREFIX}owned_agents",
            "Agents whose calls this gateway follows. The sum over all gateways is the number of agents.",
            (),
            lambda: [((), self._owned())],
            registry=self.registry,
        )
        SampledGauge(
            f"{_PREFIX}controller_reachable",
            "1 while the controller answers, else 0. At 0 the gateway dispatches calls without counting free slots. "
            "Absent where no controller is configured.",
            (),
            lambda: [] if self._reachable is None else [((), int(self._reachable))],
            registry=self.registry,
        )

    def record_request(self, route: str, method: str, code: int, seconds: float) -> None:
        """Record an HTTP request."""
        self._requests.labels(route, method, str(code)).observe(seconds)

    def record_rejection(self, reason: ErrorReason) -> None:
        """Count an HTTP request that was answered with an error."""
        self._rejected.labels(reason.value).inc()

    def record_webhook(self, event: str) -> None:
        """Count a webhook with a valid signature."""
        self._webhooks.labels(event if event in ROOM_EVENTS else OTHER_EVENT).inc()

    def record_livekit_request(self, method: str, code: str, seconds: float) -> None:
        """Record a request to LiveKit."""
        self._livekit_requests.labels(method, code).observe(seconds)

    def follow_gateways(self, members: Members, agents: Callable[[], Iterable[Agent | InvalidAgent]]) -> None:
        """Report the live gateways, and how many of the agents this one owns. Both are read at each scrape."""
        self._gateways = lambda: len(members.known)
        self._owned = lambda: sum(members.acts_for(agent.key) for agent in agents())

    def record_forwarded(self, result: ForwardResult) -> None:
        """Count an attempt to forward a request."""
        self._forwarded.labels(result.value).inc()

    def set_controller_reachable(self, reachable: bool) -> None:
        """Report whether the controller answers."""
        self._reachable = reachable
