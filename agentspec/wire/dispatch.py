"""Dispatch metadata: what a back end says about a call. Data, never instructions.

LiveKit passes the metadata of a dispatch to the worker as text. The gateway writes it, or another back end, a token's
room configuration, or a SIP dispatch rule. `read_dispatch_metadata` accepts all of them.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from agentspec.model import Model
from agentspec.wire.facts import MAX_FACTS, MAX_TEXT_LENGTH, MAX_VALUE_BYTES, Facts, clean, decode

TEXT_FACT: Final = "text"
"""Key of the one fact that metadata without an object becomes."""
MAX_CALL_ID_LENGTH: Final = 128
MAX_CAPABILITIES: Final = 16
MAX_CAPABILITY_LENGTH: Final = 64
SEAT: Final = "avatarSeat"
"""Key by which a gateway says, in metadata that is not its own, that no avatar seat is free: its value is false."""
VIDEO: Final = "video"
"""The capability of a caller's client that shows an avatar."""
MAX_USER_ID_LENGTH: Final = 256
MAX_LANGUAGE_LENGTH: Final = 35

_TRACEPARENT: Final = r"^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$"
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
_FIELDS: Final = {"userid": "user_id", "language": "language", "capabilities": "capabilities"}
"""Fields recognised in metadata that is not a gateway's, by the key without case, hyphens and underscores."""


class DispatchMetadata(Model):
    """What a dispatch says about its call: the dispatch's JSON metadata, as the gateway writes it."""

    call_id: str = Field(
        default="",
        max_length=MAX_CALL_ID_LENGTH,
        description="The gateway's id of the call; empty: no gateway made the dispatch.",
    )
    caller_identity: str = Field(default="", max_length=256, description="LiveKit identity that the caller joins with.")
    user_id: str = Field(
        default="", max_length=MAX_USER_ID_LENGTH, description="The website's own id of the caller, if it sent one."
    )
    language: str = Field(
        default="", max_length=MAX_LANGUAGE_LENGTH, description="Language that the caller prefers, BCP 47."
    )
    avatar: bool = Field(
        default=True, description="False: no avatar seat is free. The agent acts as when the avatar fails."
    )
    capabilities: list[Annotated[str, Field(max_length=MAX_CAPABILITY_LENGTH)]] = Field(
        default_factory=list,
        max_length=MAX_CAPABILITIES,
        description="What the caller's client can do, such as `video` or `captions`. With some capabilities and "
        "without `video`, the call gets no avatar.",
    )
    traceparent: Annotated[str, Field(max_length=55, pattern=_TRACEPARENT)] = Field(
        default="",
        exclude_if=lambda value: not value,
        description="W3C trace context of the gateway's request, of which the session's traces are a part. Left out "
        "when the gateway makes no traces.",
    )
    metadata: dict[str, Annotated[str, Field(max_length=MAX_VALUE_BYTES)] | bool | int | float] = Field(
        default_factory=dict, max_length=MAX_FACTS, description="Flat facts that the caller's back end sent."
    )

    @property
    def is_from_gateway(self) -> bool:
        """Whether a gateway made the dispatch. It follows the call then, and reads the room record."""
        return bool(self.call_id)

    @property
    def has_video(self) -> bool | None:
        """Whether the caller's client can show an avatar; None when the dispatch states no capabilities."""
        return VIDEO in self.capabilities if self.capabilities else None


def valid_traceparent(text: str) -> str:
    """Return a W3C trace context of the version 00, as it is; empty when the text is not one."""
    return text if re.fullmatch(_TRACEPARENT, text) else ""


def read_dispatch_metadata(text: str) -> tuple[DispatchMetadata, int]:
    """Return what a dispatch's metadata says, and how many facts were dropped or cut. Never raises.

    An object with a ``callID`` is a gateway's. Its unknown fields are ignored, and so is each field with an invalid
    value, so that a newer gateway can add to both.

    Any other object is another back end's. A user id, a language and a list of capabilities are recognised
    (``user_id``, ``userId`` and ``userID`` are the same), and so is the gateway's word that no avatar seat is free. All
    other keys become facts, nested ones with dotted keys, in the order of the document. An invalid value of a
    recognised field is a fact as well.

    Anything else, including text that is not JSON or longer than `MAX_TEXT_LENGTH`, is one fact of text.
    """
    document = decode(text)
    facts = Facts()
    if not isinstance(document, dict):
        if text.strip():
            facts.add(TEXT_FACT, document if isinstance(document, str) else text)
        return DispatchMetadata(metadata=facts.values), facts.dropped
    fields = _gateway_fields(document, facts) if _is_gateways(document) else _foreign_fields(document, facts)
    return DispatchMetadata.model_validate(fields | {"metadata": facts.values}), facts.dropped


def with_avatar(metadata: str, avatar: bool) -> str:
    """Return dispatch metadata that says whether the call may have an avatar. All else that it says stays the same.

    Metadata that JSON cannot express, or that would become too long to be read, stays unchanged. True is left out,
    because workers before release 0.1.0 reject unknown fields of a gateway.
    """
    document = decode(metadata)
    if not isinstance(document, dict):
        text = document if isinstance(document, str) else metadata
        document = {TEXT_FACT: text} if text.strip() else {}
    key = "avatar" if _is_gateways(document) else SEAT
    if avatar and key == SEAT and document.get(SEAT) is not False:
        return metadata
    rest = {name: value for name, value in document.items() if name != key}
    fields = rest if avatar else rest | {key: False}
    try:
        changed = clean(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))
    except TypeError:  # NaN, or an integer with too many digits
        return metadata
    return changed if len(changed) <= MAX_TEXT_LENGTH else metadata


def _is_gateways(document: Mapping[str, Any]) -> bool:
    call_id = document.get("callID")
    return isinstance(call_id, str) and 0 < len(call_id) <= MAX_CALL_ID_LENGTH


def _gateway_fields(document: Mapping[str, Any], facts: Facts) -> dict[str, object]:
    """Return the valid fields of a gateway's document, and add its facts."""
    names = {str(info.alias): name for name, info in DispatchMetadata.model_fields.items() if name != "metadata"}
    fields = {key: _cleaned(value) for key, value in document.items() if key in names}
    try:
        DispatchMetadata.model_validate(fields, strict=True)
    except ValidationError as error:
        for key in {str(fault["loc"][0]) for fault in error.errors(include_url=False, include_input=False)}:
            del fields[key]
            facts.dropped += 1
    sent = document.get("metadata")
    if isinstance(sent, dict):
        facts.add("", sent)
    else:
        facts.dropped += sent is not None
    return {names[key]: value for key, value in fields.items()}


def _foreign_fields(document: Mapping[str, Any], facts: Facts) -> dict[str, object]:
    """Return the recognised fields of another back end's document, and add the others as facts."""
    fields: dict[str, object] = {}
    for key, value in document.items():
        if key == SEAT and value is False:
            fields["avatar"] = False
            continue
        name = _FIELDS.get(key.replace("_", "").replace("-", "").lower(), "")
        valid = _valid(name, value, facts) if name and name not in fields else None
        if valid is None:
            facts.add(key, value)
        else:
            fields[name] = valid
    return fields


def _valid(name: str, value: object, facts: Facts) -> str | list[str] | None:
    """Return a recognised field's value; None when it is not valid."""
    match name, value:
        case "user_id", str() | int() if not isinstance(value, bool):
            user_id = clean(str(value))
            return user_id if 0 < len(user_id) <= MAX_USER_ID_LENGTH else None
        case "language", str():
            language = value.strip().replace("_", "-")
            return language if len(language) <= MAX_LANGUAGE_LENGTH and _LANGUAGE.fullmatch(language) else None
        case "capabilities", list():
            known = [clean(item) for item in value if isinstance(item, str) and 0 < len(item) <= MAX_CAPABILITY_LENGTH]
            facts.dropped += len(value) - len(known[:MAX_CAPABILITIES]) if known else 0
            return known[:MAX_CAPABILITIES] or None
    return None


def _cleaned(value: object) -> object:
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return clean(value) if isinstance(value, str) else value
