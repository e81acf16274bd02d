"""Writes what the controller found into an AvatarAgent's status: on changes only, numbers at most once a second."""

import logging
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from agentspec import AvatarAgentStatus, Condition, ConditionType
from controller.cluster.client import ApiError, Document, KubeClient
from controller.cluster.events import post_transition
from controller.cluster.kinds import AVATAR_AGENT
from controller.desired.identity import Owner
from controller.fleet import Counts
from controller.observation import Key
from controller.policy import conditions
from controller.policy.verdict import Verdict

logger = logging.getLogger(__name__)

NUMBERS_SECONDS = 1.0
"""Least time between two writes for one agent that change nothing but numbers."""


class Reporter:
    """Writes statuses and posts events."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._instance = socket.gethostname()
        self._written: dict[Key, float] = {}

    def forget(self, key: Key) -> None:
        """The AvatarAgent is gone."""
        self._written.pop(key, None)

    async def report(
        self,
        key: Key,
        document: Document,
        verdicts: Mapping[ConditionType, Verdict],
        *,
        agent_name: str,
        counts: Counts | None,
    ) -> float | None:
        """Write the status if it differs; seconds until it may be written when it is too early now, else None.

        Without `counts` the numbers stay as they are.
        """
        before: dict[str, Any] = document.get("status") or {}
        previous = _conditions(before)
        generation = document["metadata"]["generation"]
        current = conditions.assemble(previous, verdicts, generation=generation, now=_now())
        numbers = {} if counts is None else _numbers(counts)
        after = {**before, "observedGeneration": generation, "agentName": agent_name, **numbers}
        after["conditions"] = [condition.model_dump(mode="json", by_alias=True) for condition in current]
        if after == before:
            return None
        if {**before, **numbers} == after:
            early = self._written.get(key, 0.0) + NUMBERS_SECONDS - time.monotonic()
            if early > 0:
                return early
        metadata = document["metadata"]
        identity = {"namespace": key.namespace, "name": key.name, "uid": metadata["uid"]}
        try:
            await self._client.apply(AVATAR_AGENT, {"metadata": identity, "status": after}, "status")
        except ApiError as error:
            if error.status == 404:
                return None  # deleted meanwhile
            raise
        self._written[key] = time.monotonic()
        await self._tell(Owner(key.namespace, key.name, metadata["uid"]), conditions.worth_telling(previous, current))
        return None

    async def _tell(self, owner: Owner, transitions: list[Condition]) -> None:
        for condition in transitions:
            logger.info(
                "condition changed",
                extra={
                    "agent": str(Key(owner.namespace, owner.name)),
                    "condition": condition.type.value,
                    "status": condition.status.value,
                    "reason": condition.reason.value,
                },
            )
            try:
                await post_transition(self._client, owner, condition, self._instance)
            except ApiError as error:
                logger.warning("event not posted", extra={"agent": owner.name, "error": str(error)})


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
