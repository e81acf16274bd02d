"""The audit log: one line for each call that is opened, refused or ended, on a logger of its own."""

import logging

from gateway.calls.call import Call
from gateway.client import Client
from gateway.errors import ErrorReason

logger = logging.getLogger("gateway.audit")


def record_opened(call: Call) -> None:
    """Record a call whose room was just created."""
    logger.info("call opened", extra=_fields(call))


def record_ended(call: Call) -> None:
    """Record a call that is over, with its state, its reason and its duration."""
    seconds = round(call.state_since - call.created_at, 3)
    fields = {"state": call.state.value, "reason": call.reason.value, "seconds": seconds}
    logger.info("call ended", extra=_fields(call) | fields)


def record_refused(agent: str, client: Client, status: int, reason: ErrorReason) -> None:
    """Record a refused request. ``agent`` is the one that it named, which need not exist."""
    fields = {"agent": agent, "status": status, "reason": reason.value}
    logger.info("call refused", extra=fields | client.log_fields())


def _fields(call: Call) -> dict[str, object]:
    return {"call_id": call.id, "agent": call.agent.key, "room": call.room, **call.client.log_fields()}
