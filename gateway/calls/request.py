"""The body of ``POST /v1/calls``: bounded, strictly typed, and without any field that could configure a room.

It also holds what the bodies of other requests for an agent share.
"""

import hashlib
import json
import unicodedata
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from agentspec.model import Model
from agentspec.wire import DispatchMetadata, render
from gateway.errors import ErrorReason, RequestError

MAX_BODY_BYTES = 16 * 1024
MAX_METADATA_BYTES = 1536
"""Keeps the facts below the 2048 bytes that workers read, and the whole below the 4 KiB that release 0.1.0 reads."""

_M = TypeVar("_M", bound=BaseModel)
_Text = Annotated[str, Field(min_length=1, max_length=64)]
_Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
_Capability = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
_Value = Annotated[str, Field(max_length=256)] | bool | int | float
_INTEGER_BOUND = 2**53
"""Many JSON readers round larger integers."""


def printable(value: str) -> str:
    """Return a name with single spaces.

    Raises:
        ValueError: the name has a control character, or none that is visible.
    """
    value = " ".join(value.split())
    if not value or any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError("use at least one visible character, and no control characters")
    return value


class AgentRef(Model):
    """An AvatarAgent by namespace and name."""

    namespace: _Name
    name: _Name


class CallRequest(Model):
    """A request for a call. Its fields are data for the agent, never part of the agent's instructions."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    agent: _Name | AgentRef = Field(
        description="The AvatarAgent: its name in the gateway's default namespace, or both."
    )
    name: str = Field(min_length=1, max_length=64, description="The caller's name, as shown in the room.")
    language: str | None = Field(
        default=None,
        max_length=35,
        pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$",
        description="The caller's preferred language, as a BCP 47 tag; the default is the agent's language.",
    )
    user_id: str | None = Field(
        default=None, min_length=1, max_length=128, description="The caller's id in your system."
    )
    capabilities: list[_Capability] = Field(
        default_factory=list,
        max_length=16,
        description="Features of the caller's client, such as video or captions. A list without video: no avatar.",
    )
    metadata: dict[_Text, _Value] = Field(
        default_factory=dict,
        max_length=16,
        description="Facts about the call for the agent, by name: text, numbers or booleans.",
    )

    @field_validator("name")
    @classmethod
    def _printable(cls, value: str) -> str:
        return printable(value)

    @field_validator("metadata")
    @classmethod
    def _exact(cls, values: dict[str, Any]) -> dict[str, Any]:
        for key, value in values.items():
            if isinstance(value, int) and abs(value) > _INTEGER_BOUND:
                raise ValueError(f"{key} is larger than 2^53; send it as text")
        if len(json.dumps(values, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
            raise ValueError(f"the metadata is larger than {MAX_METADATA_BYTES} bytes; send less")
        return values

    def digest(self) -> str:
        """Return a hash that is equal for equal requests. Requests with one idempotency key must have the same hash."""
        document = json.dumps(self.model_dump(by_alias=True), sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()[:32]

    def dispatch_metadata(self, call_id: str, identity: str, default_language: str, traceparent: str = "") -> str:
        """Return the dispatch metadata of the call, as JSON."""
        metadata = DispatchMetadata(
            call_id=call_id,
            caller_identity=identity,
            user_id=self.user_id or "",
            language=self.language or default_language,
            capabilities=self.capabilities,
            traceparent=traceparent,
            metadata=self.metadata,
        )
        return render(metadata)


def parse_request(body: bytes) -> CallRequest:
    """Parse the body of a request for a call.

    Raises:
        RequestError: 400; the message names the field and says what to send.
    """
    return parse_body(CallRequest, body)


def parse_body(model: type[_M], body: bytes) -> _M:
    """Parse a request body.

    Raises:
        RequestError: 400; the message names the field and says what to send.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _request_error(model, _first(error.errors(include_url=False, include_input=False))) from None


def _first(errors: list[ErrorDetails]) -> ErrorDetails:
    """Return the error to report. Of an agent given as an object, that is the object's error, not "no string"."""
    if errors[0]["loc"][:1] == ("agent",):
        return next((error for error in errors if "AgentRef" in error["loc"][:-1]), errors[0])
    return errors[0]


def _request_error(model: type[BaseModel], error: ErrorDetails) -> RequestError:
    field = ".".join(str(part) for part in error["loc"] if part not in ("constrained-str", "AgentRef"))
    detail = error["msg"].removeprefix("Value error, ").removeprefix("Invalid JSON: ")
    match error["type"]:
        case "json_invalid":
            return RequestError(400, ErrorReason.BAD_JSON, f"The body is not valid JSON: {detail}.")
        case "extra_forbidden":
            known = ", ".join(info.alias or name for name, info in model.model_fields.items())
            message = f"The field {field} is unknown. Remove it. Known fields: {known}."
        case "missing":
            message = f"The field {field} is missing. Add it."
        case _ if not field:
            message = f"The body is not valid: {detail}."
        case _:
            message = f"The field {field} is not valid: {detail}."
    return RequestError(400, ErrorReason.INVALID_REQUEST, message, field=field)
