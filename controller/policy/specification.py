"""Reads a manifest's spec: everything the schema cannot check is checked here, and named."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from agentspec import AvatarAgentSpec, Reason
from controller.policy.verdict import Verdict, false

MAX_NAME_LENGTH = 63
"""A resource's name becomes a label's value."""


def read_spec(name: str, raw: Mapping[str, Any]) -> AvatarAgentSpec | Verdict:
    """The typed spec of the resource of that name, or why it cannot be used."""
    if len(name) > MAX_NAME_LENGTH:
        return false(
            Reason.INVALID_SPEC,
            f"metadata.name has {len(name)} characters; at most {MAX_NAME_LENGTH} can be used. "
            "Choose a shorter name; spec.agentName may be longer.",
        )
    try:
        spec = AvatarAgentSpec.model_validate(raw)
    except ValidationError as error:
        faults = [f"spec.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        return false(Reason.INVALID_SPEC, "; ".join(faults) + ". Correct the manifest and apply it again.")
    try:
        re.compile(spec.dispatch.room_name_pattern)
    except re.error as error:
        return false(
            Reason.INVALID_SPEC,
            f"spec.dispatch.roomNamePattern: {spec.dispatch.room_name_pattern!r} is not a regular expression: {error}. "
            "Write for example '^calls-', or leave the field out to accept every room.",
        )
    return spec
