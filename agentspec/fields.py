"""Building blocks of the resource's fields: bounded texts, references, quantities, and rules with a message.

When a text does not match a schema's ``pattern``, Kubernetes shows the pattern. People need to know what to set, so a
pattern here becomes a CEL rule with a message in the CRD. `agentspec.crd` leaves out the pattern itself.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic.fields import FieldInfo

from agentspec.model import Model

DNS_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
"""A DNS subdomain as Kubernetes validates it (RFC 1123): names of objects, and prefixes of label keys."""
_PORT = r"(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}))?"
_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_]{0,61}[A-Za-z0-9])?"
"""One label of a host name: resolvers raise an error for an empty one, and for more than 63 characters."""
_HOST = rf"({_LABEL}(\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])" + _PORT
_PATH = r"(/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*)?"
_PATH_WITH_ARGUMENTS = r"(/[A-Za-z0-9._~%!$&'()*+,;=:@/{}-]*)?"
_QUERY = r"(\?[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?"
_QUANTITY = r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"

_VISIBLE = r"[^\p{Z}\p{Cc}\p{Cf}]"
"""A visible character, in Unicode's categories: the regular expression engines differ in `\\s` beyond ASCII."""


def rules(*expressions_and_messages: tuple[str, str]) -> dict[str, Any]:
    """Return CEL rules for ``json_schema_extra``. The message of each says what to set."""
    return {
        "x-kubernetes-validations": [
            {"rule": expression, "message": message} for expression, message in expressions_and_messages
        ]
    }


def matches(pattern: str, subject: str = "self") -> str:
    """Return the CEL expression that is true when `subject` matches the pattern."""
    literal = pattern.replace("\\", "\\\\").replace("'", "\\'")
    return f"{subject}.matches('{literal}')"


def text(pattern: str, message: str, *, max_length: int) -> FieldInfo:
    """Return the field metadata of a bounded text that must match; the API server rejects others with `message`."""
    rule = rules((matches(pattern), message))
    info: FieldInfo = Field(max_length=max_length, pattern=pattern, json_schema_extra=rule)
    return info


def provider_word(what: str) -> FieldInfo:
    """Return the field metadata of a provider's own name, such as a model: any text that is not blank."""
    return text(_VISIBLE, f"set the provider's name of the {what}: it must not be blank", max_length=128)


ObjectName = Annotated[
    str,
    text(
        f"^{DNS_SUBDOMAIN}$",
        "set an object's name: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
        max_length=253,
    ),
]

WebSocketURL = Annotated[
    str,
    text(
        f"^wss?://{_HOST}{_PATH}$",
        "set a WebSocket URL such as wss://project.livekit.cloud, without user, query or fragment",
        max_length=512,
    ),
]


def http_url(example: str) -> FieldInfo:
    """Return the field metadata of a provider's base URL, with an example for the message."""
    return text(
        f"^https?://{_HOST}{_PATH}$",
        f"set a base URL such as {example}, without user, query or fragment",
        max_length=512,
    )


def tool_url() -> FieldInfo:
    """Return the field metadata of a tool's address: with a query, and with `{NAME}` in the path."""
    return text(
        f"^https?://{_HOST}{_PATH_WITH_ARGUMENTS}{_QUERY}$",
        "set an address such as https://shop.example/orders/{order_id}, without user or fragment",
        max_length=1024,
    )


def base_url(example: str) -> FieldInfo:
    """Return the field metadata of a base URL whose query is part of each request."""
    return text(
        f"^https?://{_HOST}{_PATH}{_QUERY}$",
        f"set a base URL such as {example}, with a query if the server needs one, without user or fragment",
        max_length=512,
    )


Origin = Annotated[
    str,
    text(
        f"^https?://{_HOST}$",
        "set an exact origin such as https://www.example.com: scheme, host and port, without path or wildcard",
        max_length=256,
    ),
]

PublishableKey = Annotated[
    str,
    text(
        r"^[-_.A-Za-z0-9]{8,64}$",
        "set 8 to 64 letters, digits, '-', '_' and '.', such as ios-2f7c9a1e",
        max_length=64,
    ),
]

_QUANTITY_RULE = rules(
    (
        matches(_QUANTITY, "string(self)"),
        "set a quantity such as 250m, 2, 512Mi or 1.5Gi: digits, then m, k, Ki, M, Mi, G, Gi, T, Ti or no unit",
    )
)


def as_text(value: object) -> object:
    """Return an integer as text: both are the same in a field that takes a number or a text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(as_text),
    Field(max_length=32, pattern=_QUANTITY),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32, **_QUANTITY_RULE}),
]
"""A Kubernetes quantity, such as ``cpu: 2``. The pattern is a part of the grammar that Kubernetes accepts."""


Language = Annotated[
    str,
    text(
        r"^[a-z]{2}(-[A-Za-z0-9]{2,8})*$",
        "set a language of two letters (ISO 639-1), as transcription models require, with an optional region: en, "
        "ar or pt-BR",
        max_length=35,
    ),
]
"""A BCP 47 language tag with a two-letter code."""

FreeObject = Annotated[
    dict[str, Any],
    Field(max_length=64),
    WithJsonSchema({"type": "object", "maxProperties": 64, "x-kubernetes-preserve-unknown-fields": True}),
]
"""An object whose fields another program defines: options of a plugin, arguments of a tool, settings of own code."""


class LocalRef(Model):
    """A Secret or ConfigMap in the AvatarAgent's own namespace."""

    name: ObjectName = Field(description="Name of the object.")


class SecretKeyRef(Model):
    """One key of a Secret in the AvatarAgent's own namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: Annotated[
        str,
        text(r"^[-._a-zA-Z0-9]+$", "set a Secret's key: letters, digits, '-', '_' and '.'", max_length=253),
    ] = Field(description="Key with the value.")


class ConfigMapKeyRef(Model):
    """One key of a ConfigMap in the AvatarAgent's own namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: Annotated[
        str,
        text(r"^[-._a-zA-Z0-9]+$", "set a ConfigMap's key: letters, digits, '-', '_' and '.'", max_length=253),
    ] = Field(description="Key that contains the text.")
