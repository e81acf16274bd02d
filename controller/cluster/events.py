"""Kubernetes Events: `kubectl describe` shows an AvatarAgent's condition transitions with them."""

from datetime import UTC, datetime, timedelta

from agentspec import API_GROUP, API_VERSION, KIND, Condition
from controller.desired.identity import FIELD_MANAGER, Owner
from controller.policy.conditions import is_warning
from controller.policy.event_budget import EventSeries
from kube.client import KubeClient
from kube.kinds import EVENT

_MESSAGE_LENGTH = 1024
"""The API server's limit for an Event's message."""


async def post_transition(
    client: KubeClient, owner: Owner, condition: Condition, series: EventSeries, instance: str
) -> None:
    """Post an Event that a condition changed. `series`: how often; `instance`: the reporting controller process."""
    now = datetime.now(UTC)
    await client.create(
        EVENT,
        owner.namespace,
        {
            "metadata": {"namespace": owner.namespace, "generateName": f"{owner.name[:200]}-"},
            "firstTimestamp": _time(now - timedelta(seconds=series.seconds)),
            "lastTimestamp": _time(now),
            "count": series.count,
            "source": {"component": FIELD_MANAGER, "host": instance},
            "involvedObject": {
                "apiVersion": f"{API_GROUP}/{API_VERSION}",
                "kind": KIND,
                "namespace": owner.namespace,
                "name": owner.name,
                "uid": owner.uid,
            },
            "reason": condition.reason.value,
            "type": "Warning" if is_warning(condition) else "Normal",
            "message": condition.message[:_MESSAGE_LENGTH],
        },
    )


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
