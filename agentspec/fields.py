"""What the fields of the resource are made of: bounded texts, references, quantities, and rules with a message.

Kubernetes answers a text that misses a schema's ``pattern`` with the pattern. People need what to write instead, so a
pattern here is one for pydantic and, in the CRD, a CEL rule with a message (`agentspec.crd` leaves the pattern out).
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic.fields import FieldInfo

from agentspec.model import Model

DNS_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
"""RFC 1123, as Kubernetes reads it: names of objects, and prefixes of labels' keys."""
_PORT = r"(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?"
_HOST = r"([A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])" + _PORT
_PATH = r"(/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?"
_QUANTITY = r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"

_VISIBLE = r"[^\p{Z}\p{Cc}\p{Cf}]"
"""Some letter, digit or sign. In Unicode's categories, because the engines' `\\s` differ beyond ASCII."""


def rules(*expressions_and_messages: tuple[str, str]) -> dict[str, Any]:
    """CEL rules for ``json_schema_extra``; the message of each says what to write instead."""
    return {
        "x-kubernetes-validations": [
            {"rule": expression, "message": message} for expression, message in expressions_and_messages
        ]
    }


def matches(pattern: str, subject: str = "self") -> str:
    """The CEL expression for a text that matches."""
    literal = pattern.replace("\\", "\\\\").replace("'", "\\'")
    return f"{subject}.matches('{literal}')"


def text(pattern: str, message: str, *, max_length: int) -> FieldInfo:
    """Metadata of a bounded text that matches; else the refusal is the message."""
    rule = rules((matches(pattern), message))
    info: FieldInfo = Field(max_length=max_length, pattern=pattern, json_schema_extra=rule)
    return info


def provider_word(what: str) -> FieldInfo:
    """Metadata of a word that only a provider knows, such as a model: anything that can be seen."""
    return text(_VISIBLE, f"write the {what} as the provider names it: it must not be blank", max_length=128)


ObjectName = Annotated[
    str,
    text(
        f"^{DNS_SUBDOMAIN}$",
        "write an object's name: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
        max_length=253,
    ),
]

WebSocketURL = Annotated[
    str,
    text(
        f"^wss?://{_HOST}{_PATH}$",
        "write a WebSocket URL such as wss://project.livekit.cloud, without user, query or fragment",
        max_length=512,
    ),
]


def http_url(example: str) -> FieldInfo:
    """Metadata of a provider's base URL, of which `example` is one."""
    return text(
        f"^https?://{_HOST}{_PATH}$",
        f"write a base URL such as {example}, without user, query or fragment",
        max_length=512,
    )


Origin = Annotated[
    str,
    text(
        f"^https?://{_HOST}$",
        "write an exact origin such as https://www.example.com: scheme, host and port, no path and no wildcard",
        max_length=256,
    ),
]

_QUANTITY_RULE = rules(
    (
        matches(_QUANTITY, "string(self)"),
        "write a quantity such as 250m, 2, 512Mi or 1.5Gi: digits, then m, k, Ki, M, Mi, G, Gi, T, Ti or nothing",
    )
)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(max_length=32, pattern=_QUANTITY),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32, **_QUANTITY_RULE}),
]
"""A Kubernetes quantity, ``cpu: 2`` included: a part of the grammar, all of which Kubernetes accepts."""


class LocalRef(Model):
    """A Secret or ConfigMap in the AvatarAgent's own namespace."""

    name: ObjectName = Field(description="Name of the object.")


class ConfigMapKeyRef(Model):
    """One key of a ConfigMap in the AvatarAgent's own namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: Annotated[
        str,
        text(r"^[-._a-zA-Z0-9]+$", "write a ConfigMap's key: letters, digits, '-', '_' and '.'", max_length=253),
    ] = Field(description="Key that holds the text.")
