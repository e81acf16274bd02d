"""Validates an AvatarAgent as the API server does: types, bounds, unknown fields, and the rules of the CRD.

The types of `agentspec` check types and bounds. The CRD's rules are evaluated in CEL by the library
common-expression-language. It lacks Kubernetes' own functions for quantities, so this module adds them.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Final

import cel
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from agentspec import API_GROUP, API_VERSION, AvatarAgentSpec
from agentspec.crd import RULES, definition
from agentspec.fields import DNS_SUBDOMAIN

_FIELDS: Final = ("apiVersion", "kind", "metadata", "spec", "status")
_WORDS: Final = {
    "extra_forbidden": "unknown field",
    "missing": "required value",
    "greater_than_equal": "should be greater than or equal to {ge}",
    "less_than_equal": "should be less than or equal to {le}",
    "string_too_long": "Too long: may not be more than {max_length} characters",
    "too_long": "Too many: {actual_length}: must have at most {max_length} items",
    "too_short": "Too few: {actual_length}: must have at least {min_length} items",
}
"""The API server's words for errors of the types."""
_CONSEQUENCE: Final = "default_factory_not_called"
"""Error of a default that depends on another field, which has an error of its own."""
_PATTERN: Final = "string_pattern_mismatch"
"""Error of the types that a rule of the CRD reports too, with what to set."""
_QUANTITY: Final = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_UNITS: Final = {
    "": Decimal(1), "m": Decimal("0.001"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
}  # fmt: skip


def faults(agent: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the resource, each with the path of its field; empty: the API server accepts it."""
    found = list(_envelope_faults(agent))
    if not isinstance(agent.get("spec"), dict):
        return [*found, "spec: required value"]
    spec = _without_null(agent["spec"])
    typed = _type_faults(spec)
    found += [fault for kind, fault in typed if kind != _PATTERN]
    if found:
        return found
    schema = _schema()
    whole = {**agent, "spec": _defaulted(spec, schema["properties"]["spec"])}
    ruled = list(dict.fromkeys(_rule_faults(whole, schema, "")))
    return ruled or [fault for _, fault in typed]


def _envelope_faults(agent: Mapping[str, Any]) -> Iterator[str]:
    version = f"{API_GROUP}/{API_VERSION}"
    if agent.get("apiVersion") != version:
        yield f"apiVersion: is {agent.get('apiVersion')!r}: set {version}"
    yield from (f"{name}: unknown field" for name in agent if name not in _FIELDS)
    if not re.fullmatch(DNS_SUBDOMAIN, agent["metadata"]["name"]):
        yield (
            "metadata.name: set lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
        )


def _type_faults(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return pydantic's type and the text of each fault."""
    try:
        AvatarAgentSpec.model_validate_json(json.dumps(spec), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        found = error.errors(include_url=False)
        return [
            (fault["type"], f"{_path(fault['loc'])}: {_words(fault)}")
            for fault in found
            if fault["type"] != _CONSEQUENCE
        ]
    return []


def _words(fault: ErrorDetails) -> str:
    if fault["type"] == "enum":
        return _unsupported(fault["input"], re.findall("'([^']*)'", fault["ctx"]["expected"]))
    words = _WORDS.get(fault["type"])
    return fault["msg"] if words is None else words.format_map(fault.get("ctx", {}))


def _unsupported(value: object, supported: Sequence[object]) -> str:
    return f"Unsupported value: {json.dumps(value)}: supported values: {', '.join(map(json.dumps, supported))}"


def _path(location: tuple[int | str, ...]) -> str:
    path = "spec"
    for part in location:
        if part != "[key]":
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def _without_null(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    """Return the value without null fields, which the API server drops."""
    if isinstance(value, dict):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    return [_without_null(inner) for inner in value] if isinstance(value, list) else value


def _defaulted(value: Any, schema: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a JSON value
    """Return the value with the schema's defaults, as the API server stores it."""
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        filled = {name: field["default"] for name, field in fields.items() if "default" in field} | value
        inner = schema.get("additionalProperties", {})
        return {name: _defaulted(each, fields.get(name, inner)) for name, each in filled.items()}
    if isinstance(value, list):
        return [_defaulted(each, schema.get("items", {})) for each in value]
    return value


def _rule_faults(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:  # noqa: ANN401 - a JSON value
    """Yield the messages of broken rules, and what else the types of `agentspec` do not check."""
    for rule in schema.get(RULES, []):
        if not _holds(rule["rule"], value):
            yield f"{path}: {rule['message']}".removeprefix(": ")
    if value not in schema.get("enum", [value]):
        yield f"{path}: {_unsupported(value, schema['enum'])}"
    if isinstance(value, dict):
        fields, inner = schema.get("properties", {}), schema.get("additionalProperties", {})
        for name, each in value.items():
            yield from _rule_faults(each, fields.get(name, inner), f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _rule_faults(each, schema.get("items", {}), f"{path}[{index}]")
        yield from _duplicates(value, schema, path)


def _duplicates(entries: list[Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield the later one of two equal entries of a set, and of two with equal keys in a list that is a map."""
    kind, keys = schema.get("x-kubernetes-list-type", "atomic"), schema.get("x-kubernetes-list-map-keys", [])
    if kind == "atomic":
        return
    seen: set[object] = set()
    for index, entry in enumerate(entries):
        identity = tuple(entry.get(key) for key in keys) if kind == "map" else entry
        if identity in seen:
            yield f"{path}[{index}]: duplicate value"
        seen.add(identity)


def _holds(rule: str, value: object) -> bool:
    context = cel.Context({"self": value})
    context.add_function("isQuantity", lambda text: _QUANTITY.fullmatch(text) is not None)
    context.add_function("quantity", lambda text: text)
    context.add_function("compareTo", _compare)
    return bool(_compiled(rule).execute(context))


@cache
def _compiled(rule: str) -> cel.Program:
    return cel.compile(rule)


@cache
def _schema() -> dict[str, Any]:
    (version,) = definition()["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def _compare(one: str, other: str) -> int:
    """Compare two quantities; `_holds` has made sure that both are some."""
    first, second = _number(one), _number(other)
    return (first > second) - (first < second)


def _number(quantity: str) -> Decimal:
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity")
    return Decimal(match[1]) * _UNITS[match[2] or ""]
