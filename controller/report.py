"""Writes an AvatarAgent's status, its metrics and the events of its transitions; decides nothing."""

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from agentspec import AvatarAgentStatus, Condition, ConditionStatus, ConditionType, Reason
from controller.cluster.events import post_transition
from controller.cluster.observe import children_selector
from controller.metrics import Metrics
from controller.observation import Key
from controller.policy import conditions
from controller.policy.avatar import free_seats
from controller.policy.event_budget import EventBudget
from controller.policy.plan import Conclusion, Counts, Report
from controller.policy.snapshot import ObservedAgent
from kube.client import ApiError, Document, KubeClient
from kube.kinds import AVATAR_AGENT

logger = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
"""Least time between two writes of one agent's status."""
NUMBERS_SECONDS = 2.0
"""How long a change of only numbers and messages waits, so that several make one write."""


class Reporter:
    """Writes statuses, metrics and events."""

    def __init__(
        self,
        client: KubeClient,
        metrics: Metrics,
        updated: Callable[[Document], None],
        lost: Callable[[Key, str], None],
    ) -> None:
        """`updated` is called with every AvatarAgent as it is after a write, `lost` with the key and uid of one that
        turns out to be gone."""
        self._client = client
        self._metrics = metrics
        self._updated = updated
        self._lost = lost
        self._instance = socket.gethostname()
        self._written: dict[Key, float] = {}
        self._differs_since: dict[Key, float] = {}
        self._budgets: dict[Key, dict[Reason, EventBudget]] = {}

    async def report(self, conclusion: Conclusion) -> float | None:
        """Write what differs; return the seconds after which to reconcile again. Raises ApiError."""
        snapshot, report = conclusion.snapshot, conclusion.report
        if snapshot.agent is None or snapshot.agent.deleted:
            self._forget(snapshot.key)
            return conclusion.requeue_after
        if report is None:
            return conclusion.requeue_after
        if report.counts is not None and snapshot.spec is not None:
            self._metrics.set_agent(
                snapshot.key,
                report.counts,
                snapshot.spec,
                free_seats=free_seats(snapshot.spec, snapshot.workers),
                ready=report.verdicts[ConditionType.READY].status is ConditionStatus.TRUE,
                limited=conclusion.limited,
            )
        wait = await self._write_status(conclusion, snapshot.agent, report)
        waits = [seconds for seconds in (wait, conclusion.requeue_after) if seconds is not None]
        return min(waits, default=None)

    async def _write_status(self, conclusion: Conclusion, agent: ObservedAgent, report: Report) -> float | None:
        """Write the status if it differs; return the seconds until it may be written when that is too early now."""
        now = conclusion.snapshot.now
        previous = _conditions(agent.status)
        current = conditions.assemble(previous, report.verdicts, generation=agent.generation, now=now.rfc3339)
        after = {
            **agent.status,
            "observedGeneration": agent.generation,
            "agentName": report.agent_name,
            "selector": children_selector(agent.key.name),
            **({} if report.counts is None else _numbers(report.counts)),
            "conditions": [condition.model_dump(mode="json", by_alias=True) for condition in current],
        }
        if after == agent.status:
            self._differs_since.pop(agent.key, None)
            return None
        urgent = _essence(after) != _essence(agent.status)
        early = self._due(agent.key, now.monotonic, urgent=urgent) - now.monotonic
        if early > 0:
            return early
        await self._write(agent, after, now.monotonic, conditions.reportable_transitions(previous, current))
        return None

    def _due(self, key: Key, now: float, *, urgent: bool) -> float:
        """When the present difference may be written."""
        differs_since = self._differs_since.setdefault(key, now)
        patience = 0.0 if urgent else NUMBERS_SECONDS
        return max(differs_since + patience, self._written.get(key, float("-inf")) + WRITE_SECONDS)

    async def _write(self, agent: ObservedAgent, status: Document, now: float, transitions: list[Condition]) -> None:
        key = agent.key
        identity = {"namespace": key.namespace, "name": key.name, "uid": agent.uid}
        try:
            answer = await self._client.apply(AVATAR_AGENT, {"metadata": identity, "status": status}, "status")
        except ApiError as error:
            if error.status == 404:
                self._lost(key, agent.uid)  # a watch that began later never reports this deletion
                return
            raise
        self._written[key] = now
        self._differs_since.pop(key, None)
        self._updated(answer)
        for condition in transitions:
            await self._emit(agent, condition, now)

    async def _emit(self, agent: ObservedAgent, condition: Condition, now: float) -> None:
        """Log a transition, and post an event unless the reason's rate limit forbids it."""
        logger.info(
            "condition changed",
            extra={
                "agent": str(agent.key),
                "condition": condition.type.value,
                "status": condition.status.value,
                "reason": condition.reason.value,
            },
        )
        budgets = self._budgets.setdefault(agent.key, {})
        occurrences = budgets.setdefault(condition.reason, EventBudget(now)).record(now)
        if occurrences is None:
            return
        try:
            await post_transition(self._client, agent.owner, condition, occurrences, self._instance)
        except ApiError as error:
            logger.warning("could not post event", extra={"agent": str(agent.key), "error": str(error)})

    def _forget(self, key: Key) -> None:
        for memory in (self._written, self._differs_since, self._budgets):
            memory.pop(key, None)
        self._metrics.forget(key)


def _essence(status: Mapping[str, Any]) -> list[Any]:
    """The parts of a status whose change is written at once."""
    found = [(one.get("type"), one.get("status"), one.get("reason")) for one in status.get("conditions") or []]
    return [status.get("observedGeneration"), status.get("agentName"), status.get("selector"), found]


def _numbers(counts: Counts) -> dict[str, Any]:
    return {
        "workers": counts.workers.model_dump(by_alias=True),
        "slots": counts.slots.model_dump(by_alias=True),
        "calls": counts.calls.model_dump(by_alias=True),
    }


def _conditions(status: Mapping[str, Any]) -> list[Condition]:
    try:
        return AvatarAgentStatus.model_validate({"conditions": status.get("conditions") or []}).conditions
    except ValidationError:
        return []  # another release wrote them; they are decided anew
