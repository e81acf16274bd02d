"""The body of ``POST /v1/calls``: bounded, strict, and free of anything that could configure a room."""

import hashlib
import json
import unicodedata
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from agentspec import CallMetadata
from agentspec.model import Model
from gateway.errors import ErrorReason, RequestError

MAX_BODY_BYTES = 16 * 1024
MAX_METADATA_BYTES = 1536
"""With it everything else that the worker is told stays below the 4 KiB that it reads."""

_Text = Annotated[str, Field(min_length=1, max_length=64)]
_Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
_Capability = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
_Value = Annotated[str, Field(max_length=256)] | bool | int | float
_INTEGER_BOUND = 2**53
"""JSON numbers beyond it do not survive every reader."""


class AgentRef(Model):
    """An AvatarAgent by namespace and name."""

    namespace: _Name
    name: _Name


class CallRequest(Model):
    """What a caller may say about a call. It is data for the agent, never part of its instructions."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    agent: _Name | AgentRef = Field(description="Name of the AvatarAgent, in the gateway's namespace or with its own.")
    name: str = Field(min_length=1, max_length=64, description="The caller's name, as shown in the room.")
    language: str | None = Field(
        default=None,
        max_length=35,
        pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$",
        description="Language the caller prefers, BCP 47; the agent's own without it.",
    )
    user_id: str | None = Field(default=None, min_length=1, max_length=128, description="Your own id of the caller.")
    capabilities: list[_Capability] = Field(
        default_factory=list, max_length=16, description="What the caller's page can do, for the agent to know."
    )
    metadata: dict[_Text, _Value] = Field(
        default_factory=dict, max_length=16, description="Flat facts for the agent: text, numbers, true or false."
    )

    @field_validator("name")
    @classmethod
    def _printable(cls, value: str) -> str:
        value = " ".join(value.split())
        if not value or any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
            raise ValueError("write a name of visible characters")
        return value

    @field_validator("metadata")
    @classmethod
    def _exact(cls, values: dict[str, Any]) -> dict[str, Any]:
        for key, value in values.items():
            if isinstance(value, int) and abs(value) > _INTEGER_BOUND:
                raise ValueError(f"{key} is too large for a number: write it as text")
        if len(json.dumps(values, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
            raise ValueError(f"it is larger than {MAX_METADATA_BYTES} bytes: send less")
        return values

    def digest(self) -> str:
        """Equal for equal requests: a repeated idempotency key must come with the same one."""
        document = json.dumps(self.model_dump(by_alias=True), sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()[:32]

    def dispatch_metadata(self, call_id: str, identity: str, default_language: str) -> str:
        """What the agent is told about the call, as JSON."""
        facts = CallMetadata(
            call_id=call_id,
            caller_identity=identity,
            user_id=self.user_id or "",
            language=self.language or default_language,
            capabilities=self.capabilities,
            metadata=self.metadata,
        )
        return facts.model_dump_json(by_alias=True)


def parse_request(body: bytes) -> CallRequest:
    """The request in a body.

    Raises:
        RequestError: 400 with the field and what to write.
    """
    try:
        return CallRequest.model_validate_json(body)
    except ValidationError as error:
        raise _request_error(error.errors(include_url=False, include_input=False)[0]) from None


def _request_error(first: ErrorDetails) -> RequestError:
    field = ".".join(str(part) for part in first["loc"] if part not in ("constrained-str", "AgentRef"))
    match first["type"]:
        case "json_invalid":
            return RequestError(400, ErrorReason.BAD_JSON, f"The body is not JSON: {first['msg']}.")
        case "extra_forbidden":
            known = ", ".join(info.alias or name for name, info in CallRequest.model_fields.items())
            message = f"Unknown field {field}: remove it. Known fields: {known}."
        case "missing":
            message = f"The field {field} is missing: add it."
        case _:
            message = f"The field {field} is wrong: {first['msg']}."
    return RequestError(400, ErrorReason.INVALID_REQUEST, message, field=field)
