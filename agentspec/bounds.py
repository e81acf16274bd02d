"""What a schema says of a field's values, in words: its default, its bounds and what they count.

`agentspec.crd` says it at the end of each description, because ``kubectl explain`` shows nothing else of a schema;
`agentspec.reference` in columns of its own.
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
"""What a number counts, by how its field's name ends."""


def default(schema: dict[str, Any]) -> str:
    """The default as one writes it; empty: there is none, or it is made of the defaults of fields below."""
    value = schema.get("default")
    if value is None or "properties" in schema:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"`{key}: {part}`" for key, part in value.items()) or "none"
    if value in ("", []):
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def bounds(name: str, schema: dict[str, Any]) -> str:
    """How much, how long or how many it may be; empty: as the type allows."""
    unit = next((f" {unit}" for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    least, most = schema.get("minimum"), schema.get("maximum")
    parts = []
    if most is not None:
        parts.append(f"{least} to {most}{unit}")
    elif least is not None:
        parts.append(f"at least {least}{unit}")
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


def told(schema: dict[str, Any], name: str = "") -> dict[str, Any]:
    """The schema of a field of that name, with default and bounds at the end of its description and of those below."""
    result = dict(schema)
    known = default(schema)
    said = "; ".join(filter(None, (f"default {known}" if known not in ("", "empty") else "", bounds(name, schema))))
    if said and "description" in schema:
        result["description"] = f"{schema['description']} {said[0].upper()}{said[1:]}."
    if "properties" in schema:
        result["properties"] = {key: told(field, key) for key, field in schema["properties"].items()}
    if "items" in schema:
        result["items"] = told(schema["items"])
    return result


def _span(least: int, most: int, what: str) -> str:
    return f"{least} to {most} {what}" if least else f"at most {most} {what}"
