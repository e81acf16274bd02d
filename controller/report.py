"""Writes what the controller found into an AvatarAgent's status: on changes only, and what comes together once."""

import logging
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from agentspec import AvatarAgentStatus, Condition, ConditionType, Reason
from controller.cluster.agents import ObservedAgent
from controller.cluster.events import post_transition
from controller.fleet.fleet import Counts
from controller.observation import Key
from controller.policy import conditions
from controller.policy.event_budget import EventBudget
from controller.policy.verdict import Verdict
from kube.client import ApiError, Document, KubeClient
from kube.kinds import AVATAR_AGENT

logger = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
"""Least time between two writes for one agent."""
NUMBERS_SECONDS = 2.0
"""How long a change of nothing but numbers and texts waits, for more of them or for a transition."""


class Reporter:
    """Writes statuses and posts events."""

    def __init__(self, client: KubeClient, seen: Callable[[Document], None], lost: Callable[[Key, str], None]) -> None:
        """`seen` is told of every AvatarAgent as it is after a write, `lost` of one that turns out to be gone, by name
        and uid."""
        self._client = client
        self._seen = seen
        self._lost = lost
        self._instance = socket.gethostname()
        self._written: dict[Key, float] = {}
        self._noticed: dict[Key, float] = {}
        self._budgets: dict[Key, dict[Reason, EventBudget]] = {}

    def forget(self, key: Key) -> None:
        """The AvatarAgent is gone."""
        self._written.pop(key, None)
        self._noticed.pop(key, None)
        self._budgets.pop(key, None)

    async def confirmed(self, agent: ObservedAgent) -> ObservedAgent | None:
        """The same, unless the API server has it no more: a watch tells nothing of what went before it began, or in a
        gap. Raises ApiError."""
        document = await self._client.get(AVATAR_AGENT, agent.key.namespace, agent.key.name)
        if document is not None and document["metadata"]["uid"] == agent.uid:
            return agent
        self._lost(agent.key, agent.uid)
        return None

    async def report(
        self,
        agent: ObservedAgent,
        verdicts: Mapping[ConditionType, Verdict],
        *,
        agent_name: str,
        selector: str = "",
        counts: Counts | None,
    ) -> float | None:
        """Write the status if it differs; seconds until it may be written when it is too early now, else None.

        Without `counts` the numbers stay as they are.
        """
        previous = _conditions(agent.status)
        current = conditions.assemble(previous, verdicts, generation=agent.generation, now=_now())
        after = {
            **agent.status,
            "observedGeneration": agent.generation,
            "agentName": agent_name,
            "selector": selector,
            **({} if counts is None else _numbers(counts)),
            "conditions": [condition.model_dump(mode="json", by_alias=True) for condition in current],
        }
        if after == agent.status:
            self._noticed.pop(agent.key, None)
            return None
        early = self._due(agent.key, urgent=_essence(after) != _essence(agent.status)) - time.monotonic()
        if early > 0:
            return early
        await self._write(agent, after, conditions.worth_telling(previous, current))
        return None

    def _due(self, key: Key, *, urgent: bool) -> float:
        """When the difference that is there now may be written."""
        noticed = self._noticed.setdefault(key, time.monotonic())
        patience = 0.0 if urgent else NUMBERS_SECONDS
        return max(noticed + patience, self._written.get(key, float("-inf")) + WRITE_SECONDS)

    async def _write(self, agent: ObservedAgent, status: Document, transitions: list[Condition]) -> None:
        key = agent.key
        identity = {"namespace": key.namespace, "name": key.name, "uid": agent.uid}
        try:
            answer = await self._client.apply(AVATAR_AGENT, {"metadata": identity, "status": status}, "status")
        except ApiError as error:
            if error.status == 404:
                self._lost(key, agent.uid)  # before it was watched, perhaps: then nobody else tells of it
                return
            raise
        self._written[key] = time.monotonic()
        self._noticed.pop(key, None)
        self._seen(answer)
        await self._tell(agent, transitions)

    async def _tell(self, agent: ObservedAgent, transitions: list[Condition]) -> None:
        budgets = self._budgets.setdefault(agent.key, {})
        for condition in transitions:
            logger.info(
                "condition changed",
                extra={
                    "agent": str(agent.key),
                    "condition": condition.type.value,
                    "status": condition.status.value,
                    "reason": condition.reason.value,
                },
            )
            now = time.monotonic()
            occurrences = budgets.setdefault(condition.reason, EventBudget(now)).record(now)
            if occurrences is None:
                continue
            try:
                await post_transition(self._client, agent.owner, condition, occurrences, self._instance)
            except ApiError as error:
                logger.warning("event not posted", extra={"agent": str(agent.key), "error": str(error)})


def _essence(status: Mapping[str, Any]) -> list[Any]:
    """What is written at once when it changes."""
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
        return []  # written by another release: decided anew


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
