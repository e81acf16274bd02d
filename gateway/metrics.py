"""The gateway's metrics, all named ``avatar_agent_gateway_…``."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway.agents import Agent, InvalidAgent
from gateway.calls import Call, CallReason, CallState, Cause
from gateway.errors import ErrorReason
from gateway.livekit import OK, REQUEST_METHODS, UNREACHABLE
from process.metrics import AGENT_LABELS, CALL_START_BUCKETS, ProcessMetrics, SampledGauge, Samples, prefix_of

_PREFIX: Final = prefix_of("gateway")
_HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""A request for a call's state may wait for 30 s."""
_LIVEKIT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 6.0)
"""A request to LiveKit ends after 6 s."""
_LIVE_STATES: Final = (CallState.WAITING, CallState.DISPATCHED, CallState.JOINED)
_ENDED: Final = frozenset(
    {
        CallReason.HUNG_UP,
        CallReason.FINISHED,
        CallReason.CALLER_LEFT,
        CallReason.CALLER_NEVER_CAME,
        CallReason.CALLER_IDLE,
        CallReason.TOO_LONG,
    }
)
"""Reasons of calls that ended normally. All others are reasons of calls that failed."""
_ONLY_JOINED: Final = frozenset(
    {CallReason.AGENT_LOST, CallReason.FINISHED, CallReason.CALLER_IDLE, CallReason.TOO_LONG}
)
"""Reasons of calls that an agent had joined."""


def _endings() -> Iterator[tuple[str, str, str]]:
    """All combinations of outcome, reason and joined."""
    for reason in CallReason:
        if reason is not CallReason.NONE:
            outcome = CallState.ENDED if reason in _ENDED else CallState.FAILED
            for joined in (True,) if reason in _ONLY_JOINED else (True, False):
                yield outcome.value, reason.value, _flag(joined)


class Metrics:
    """The metrics of one gateway, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.process = ProcessMetrics("gateway", self.registry)
        self._agents: Callable[[], Iterable[Agent | InvalidAgent]] = list
        self._calls: Callable[[], Iterable[Call]] = list
        self._declared: set[tuple[str, str]] = set()
        """Namespaces and names of the agents whose series exist."""
        self._reachable: bool | None = None
        # First, because it creates and removes the series of the metrics below.
        SampledGauge(
            f"{_PREFIX}calls",
            "Calls now, by state: waiting (for a free slot), dispatched (no agent in the room yet), joined.",
            [*AGENT_LABELS, "state"],
            self._sample_calls,
            registry=self.registry,
        )
        self._opened = Counter(
            f"{_PREFIX}calls_opened",
            "Calls that a request opened, each counted once. A gateway that adopts a call does not count it again.",
            AGENT_LABELS,
            registry=self.registry,
        )
        self._ended = Counter(
            f"{_PREFIX}calls_ended",
            "Calls that are over, each counted once. Outcome: ended (normally) or failed (no agent joined, or the "
            "agent was lost); joined: whether an agent had joined.",
            [*AGENT_LABELS, "outcome", "reason", "joined"],
            registry=self.registry,
        )
        self._join_duration = Histogram(
            f"{_PREFIX}join_duration_seconds",
            "Time from the request for a call until the agent first joined its room, waiting included.",
            AGENT_LABELS,
            buckets=CALL_START_BUCKETS,
            registry=self.registry,
        )
        self._dispatches = Counter(
            f"{_PREFIX}dispatches",
            "Dispatches by cause: First, NotTaken (no worker accepted the previous one), JobDied (a worker accepted "
            "the previous one and did not join), AgentLost (the agent had joined and was lost).",
            [*AGENT_LABELS, "cause"],
            registry=self.registry,
        )
        self._without_seat = Counter(
            f"{_PREFIX}calls_without_seat",
            "Calls dispatched without an avatar, because no avatar seat was free (avatar.maxSessions).",
            AGENT_LABELS,
            registry=self.registry,
        )
        self._requests = Histogram(
            f"{_PREFIX}http_request_duration_seconds",
            "Duration of HTTP requests by route, method and status code. Route unmatched: no such path; "
            "GET /v1/calls/{call_id} may wait for a change.",
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
        SampledGauge(
            f"{_PREFIX}controller_reachable",
            "1 while the controller answers, else 0. At 0 the gateway dispatches calls without counting free slots. "
            "Absent where no controller is configured.",
            (),
            lambda: [] if self._reachable is None else [((), int(self._reachable))],
            registry=self.registry,
        )

    def follow(self, agents: Callable[[], Iterable[Agent | InvalidAgent]], calls: Callable[[], Iterable[Call]]) -> None:
        """Report these agents and calls. Both are called at each scrape, in another thread."""
        self._agents, self._calls = agents, calls

    def record_opened(self, call: Call) -> None:
        """Count a new call, and its dispatch if it has one."""
        self._opened.labels(*self._labels(call)).inc()
        for cause in call.causes:
            self._dispatches.labels(*self._labels(call), cause.value).inc()

    def record_without_seat(self, call: Call) -> None:
        """Count a call that got no avatar seat."""
        self._without_seat.labels(*self._labels(call)).inc()

    def record_dispatch(self, call: Call) -> None:
        """Count the call's latest dispatch."""
        self._dispatches.labels(*self._labels(call), call.causes[-1].value).inc()

    def record_join(self, call: Call) -> None:
        """Record that the first agent of a call has joined."""
        self._join_duration.labels(*self._labels(call)).observe(
            call.state_since - call.created_at, {"call_id": call.id}
        )

    def record_ended(self, call: Call) -> None:
        """Count the end of a call."""
        joined = _flag(call.agent_seen_at is not None)
        self._ended.labels(*self._labels(call), call.state.value, call.reason.value, joined).inc()

    def record_request(self, route: str, method: str, code: int, seconds: float) -> None:
        """Record an HTTP request."""
        self._requests.labels(route, method, str(code)).observe(seconds)

    def record_rejection(self, reason: ErrorReason) -> None:
        """Count an HTTP request that was answered with an error."""
        self._rejected.labels(reason.value).inc()

    def record_livekit_request(self, method: str, code: str, seconds: float) -> None:
        """Record a request to LiveKit."""
        self._livekit_requests.labels(method, code).observe(seconds)

    def set_controller_reachable(self, reachable: bool) -> None:
        """Report whether the controller answers."""
        self._reachable = reachable

    def _labels(self, call: Call) -> tuple[str, str]:
        """Return the labels of the call's agent, whose series exist then."""
        labels = call.agent.namespace, call.agent.name
        if labels not in self._declared:
            self._declare(labels)
        return labels

    def _sample_calls(self) -> Samples:
        """Count the calls of each agent, after the agents' series were created and removed."""
        agents = {(agent.namespace, agent.name) for agent in self._agents()}
        for gone in self._declared - agents:
            self._forget(gone)
        for new in agents - self._declared:
            self._declare(new)
        counted = Tally((call.agent.namespace, call.agent.name, call.state) for call in self._calls())
        return [((*labels, state.value), counted[(*labels, state)]) for labels in agents for state in _LIVE_STATES]

    def _declare(self, labels: tuple[str, str]) -> None:
        """Create an agent's counters at 0."""
        self._declared.add(labels)
        for metric in (self._opened, self._without_seat, self._join_duration):
            metric.labels(*labels)
        for cause in Cause:
            self._dispatches.labels(*labels, cause.value)
        for ending in _endings():
            self._ended.labels(*labels, *ending)

    def _forget(self, labels: tuple[str, str]) -> None:
        self._declared.discard(labels)
        for metric in (self._opened, self._without_seat, self._join_duration):
            metric.remove(*labels)
        for cause in Cause:
            self._dispatches.remove(*labels, cause.value)
        self._ended.remove_by_labels(dict(zip(AGENT_LABELS, labels, strict=True)))


def _flag(value: bool) -> str:
    return "true" if value else "false"
