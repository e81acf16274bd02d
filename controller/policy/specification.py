"""Reads a manifest's spec: everything the schema cannot check is checked here, and named."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from agentspec import AvatarAgentSpec, DispatchMode, Reason
from agentspec.resource import MAX_NAME_LENGTH
from agentspec.roompattern import RoomPatternInvalid, compiled, gateway_obstacle
from controller.policy.verdict import Verdict, false
from controller.policy.wording import AT_LENGTH, quoted


def read_spec(name: str, raw: Mapping[str, Any]) -> AvatarAgentSpec | Verdict:
    """The typed spec of the resource of that name, or why nothing can be read from it."""
    if len(name) > MAX_NAME_LENGTH:
        return false(
            Reason.INVALID_SPEC,
            f"metadata.name has {len(name)} characters; at most {MAX_NAME_LENGTH} can be used. "
            "Choose a shorter name; spec.agentName may be longer.",
        )
    try:
        return AvatarAgentSpec.model_validate(raw)
    except ValidationError as error:
        faults = [f"spec.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        told = quoted("; ".join(faults), AT_LENGTH)
        return false(Reason.INVALID_SPEC, f"{told}. Correct the manifest and apply it again.")


def pattern_fault(spec: AvatarAgentSpec) -> Verdict | None:
    """Why workers could not use the pattern of room names; None: they can. What runs goes on as it is."""
    try:
        compiled(spec.dispatch.room_name_pattern)
    except RoomPatternInvalid as error:
        return false(
            Reason.INVALID_SPEC,
            f"spec.dispatch.roomNamePattern: {spec.dispatch.room_name_pattern!r} cannot be used: {error}. "
            "Write for example '^calls-', or leave the field out to accept every room.",
        )
    return None


def pattern_remark(spec: AvatarAgentSpec) -> str:
    """Why the gateway can open no rooms for the agent although its workers can serve others; empty: it can.

    No fault: who dispatches by other means than the gateway names rooms as they like.
    """
    obstacle = "" if spec.dispatch.mode is DispatchMode.AUTOMATIC else gateway_obstacle(spec.dispatch.room_name_pattern)
    if not obstacle:
        return ""
    return (
        f"The gateway takes no calls for it: spec.dispatch.roomNamePattern is {spec.dispatch.room_name_pattern!r}, and "
        f"{obstacle}. Rooms that others dispatch to the agent are served."
    )
