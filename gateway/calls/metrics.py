"""The metrics of calls, named ``avatar_agent_gateway_…``."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from agentspec.wire import agent_key
from gateway.agents import Agent, InvalidAgent
from gateway.calls.call import Call, CallReason, CallState, Cause
from process.metrics import AGENT_LABELS, CALL_START_BUCKETS, SampledGauge, Samples, prefix_of

_PREFIX: Final = prefix_of("gateway")
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


class CallMetrics:
    """The metrics of one gateway's calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._agents: Callable[[], Iterable[Agent | InvalidAgent]] = list
        self._counts: Callable[[], Mapping[tuple[str, CallState], int]] = dict
        self._acts_for: Callable[[str], bool] = lambda agent_key: True
        self._declared: set[tuple[str, str]] = set()
        """Namespaces and names of the agents whose series exist."""
        # First, because it creates and removes the series of the metrics below.
        SampledGauge(
            f"{_PREFIX}calls",
            "Calls now, by state: waiting (the line for a free slot), dispatched (no agent in the room yet), joined. "
            "0 on a gateway that does not act for the agent, so the sum over all gateways counts each call once.",
            [*AGENT_LABELS, "state"],
            self._sample_calls,
            registry=registry,
        )
        self._opened = Counter(
            f"{_PREFIX}calls_opened",
            "Calls that a request opened, each counted once. A gateway that adopts a call does not count it again.",
            AGENT_LABELS,
            registry=registry,
        )
        self._ended = Counter(
            f"{_PREFIX}calls_ended",
            "Calls that are over, each counted once. Outcome: ended (normally) or failed (no agent joined, or the "
            "agent was lost); joined: whether an agent had joined.",
            [*AGENT_LABELS, "outcome", "reason", "joined"],
            registry=registry,
        )
        self._join_duration = Histogram(
            f"{_PREFIX}join_duration_seconds",
            "Time from the request for a call until the agent first joined its room, waiting included.",
            AGENT_LABELS,
            buckets=CALL_START_BUCKETS,
            registry=registry,
        )
        self._wait_duration = Histogram(
            f"{_PREFIX}wait_duration_seconds",
            "Time that a call waited for a slot: from its request until the dispatch by which its first agent joined "
            "(joined=true), or until it ended in the line while its caller was there (joined=false).",
            [*AGENT_LABELS, "joined"],
            buckets=CALL_START_BUCKETS,
            registry=registry,
        )
        self._rescue_duration = Histogram(
            f"{_PREFIX}rescue_duration_seconds",
            "Time from the moment that the gateway noticed the loss of a call's agent until another agent joined. The "
            "5 s in which an agent may come back are included, unless its worker is known to be lost.",
            AGENT_LABELS,
            buckets=CALL_START_BUCKETS,
            registry=registry,
        )
        self._dispatches = Counter(
            f"{_PREFIX}dispatches",
            "Dispatches by cause: First, NotTaken (no worker accepted the previous one), JobDied (a worker accepted "
            "the previous one and did not join), AgentLost (the agent had joined and was lost).",
            [*AGENT_LABELS, "cause"],
            registry=registry,
        )
        self._without_seat = Counter(
            f"{_PREFIX}calls_without_seat",
            "Calls dispatched without an avatar, because no avatar seat was free (avatar.maxSessions).",
            AGENT_LABELS,
            registry=registry,
        )
        self._of_agents = (self._opened, self._without_seat, self._join_duration, self._rescue_duration)
        """The metrics whose only labels are the agent's."""

    def follow(
        self,
        agents: Callable[[], Iterable[Agent | InvalidAgent]],
        counts: Callable[[], Mapping[tuple[str, CallState], int]],
        acts_for: Callable[[str], bool],
    ) -> None:
        """Report these agents, and these numbers of calls by agent key and state.

        ``acts_for`` returns whether this gateway acts for an agent key. A gateway that was cut off may still hold calls
        that another one follows by now. All three are called at each scrape, in another thread.
        """
        self._agents, self._counts, self._acts_for = agents, counts, acts_for

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

    def record_join(self, before: Call, call: Call) -> None:
        """Record that an agent has joined: the call's first, or another one after the first was lost."""
        labels, call_id = self._labels(call), {"call_id": call.id}
        if Cause.AGENT_LOST in call.causes:
            lost_at = call.search_started_at if before.agent_seen_at is None else before.agent_seen_at
            self._rescue_duration.labels(*labels).observe(call.state_since - lost_at, call_id)
            return
        waited_until = before.state_since if before.state is CallState.DISPATCHED else call.state_since
        self._wait_duration.labels(*labels, _flag(True)).observe(waited_until - call.created_at, call_id)
        self._join_duration.labels(*labels).observe(call.state_since - call.created_at, call_id)

    def record_ended(self, before: Call, call: Call) -> None:
        """Count the end of a call, and record its wait if it was still in the line."""
        labels, had_agent = self._labels(call), call.agent_seen_at is not None
        self._ended.labels(*labels, call.state.value, call.reason.value, _flag(had_agent)).inc()
        if before.state is CallState.WAITING and call.caller_seen_at is not None and not had_agent:
            waited = call.state_since - call.created_at
            self._wait_duration.labels(*labels, _flag(False)).observe(waited, {"call_id": call.id})

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
        counts = self._counts()
        acting = {labels for labels in agents if self._acts_for(agent_key(*labels))}
        return [
            ((*labels, state.value), counts.get((agent_key(*labels), state), 0) if labels in acting else 0)
            for labels in agents
            for state in _LIVE_STATES
        ]

    def _declare(self, labels: tuple[str, str]) -> None:
        """Create an agent's counters at 0."""
        self._declared.add(labels)
        for metric in self._of_agents:
            metric.labels(*labels)
        for joined in (True, False):
            self._wait_duration.labels(*labels, _flag(joined))
        for cause in Cause:
            self._dispatches.labels(*labels, cause.value)
        for ending in _endings():
            self._ended.labels(*labels, *ending)

    def _forget(self, labels: tuple[str, str]) -> None:
        self._declared.discard(labels)
        for metric in self._of_agents:
            metric.remove(*labels)
        for joined in (True, False):
            self._wait_duration.remove(*labels, _flag(joined))
        for cause in Cause:
            self._dispatches.remove(*labels, cause.value)
        self._ended.remove_by_labels(dict(zip(AGENT_LABELS, labels, strict=True)))


def _flag(value: bool) -> str:
    return "true" if value else "false"
