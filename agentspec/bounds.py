"""Renders a field's default, bounds and unit as text.

`agentspec.crd` appends the text to each description, because ``kubectl explain`` shows nothing else of a schema.
`agentspec.reference` puts it into columns of its own.
"""

from typing import Any

_UNITS = {
    "Seconds": "seconds",
    "Minutes": "minutes",
    "callsPerWorker": "calls",
    "freeSlots": "slots",
    "maxSessions": "avatars",
    "workers": "workers",
    "Workers": "workers",
}
"""Unit of a number, by the end of its field's name."""


def default(schema: dict[str, Any]) -> str:
    """Return the default as in a manifest; empty when there is none, or when only the fields below have some."""
    value = schema.get("default")
    if value is None or "properties" in schema:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"`{key}: {part}`" for key, part in value.items()) or "none"
    if value in ("", []):
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def bounds(name: str, schema: dict[str, Any]) -> str:
    """Return the bounds of a field's values with their unit; empty when only the type limits them."""
    unit = next((f" {unit}" for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    minimum, maximum = schema.get("minimum"), schema.get("maximum")
    parts = []
    if maximum is not None:
        parts.append(f"{minimum} to {maximum}{unit}")
    elif minimum is not None:
        parts.append(f"at least {minimum}{unit}")
    if "maxLength" in schema:
        parts.append(_span(schema.get("minLength", 0), schema["maxLength"], "characters"))
    if "maxItems" in schema:
        parts.append(f"at most {schema['maxItems']} items")
    if "maxProperties" in schema:
        parts.append(f"at most {schema['maxProperties']} keys")
    values = schema.get("items", schema.get("additionalProperties"))
    if isinstance(values, dict) and "maxLength" in values:
        parts.append(f"each at most {values['maxLength']} characters")
    return ", ".join(parts)


def describe(schema: dict[str, Any], name: str = "") -> dict[str, Any]:
    """Return the schema with the default and the bounds appended to every description.

    `name` is the field's name, which gives the unit.
    """
    result = dict(schema)
    default_value = default(schema)
    shown = f"default {default_value}" if default_value not in ("", "empty") else ""
    suffix = "; ".join(filter(None, (shown, bounds(name, schema))))
    if suffix and "description" in schema:
        result["description"] = f"{schema['description']} {suffix[0].upper()}{suffix[1:]}."
    if "properties" in schema:
        result["properties"] = {key: describe(field, key) for key, field in schema["properties"].items()}
    if "items" in schema:
        result["items"] = describe(schema["items"])
    return result


def _span(minimum: int, maximum: int, unit: str) -> str:
    return f"{minimum} to {maximum} {unit}" if minimum else f"at most {maximum} {unit}"
