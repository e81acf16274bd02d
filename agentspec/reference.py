"""Generates ``docs/reference/avataragent.md``: ``python -m agentspec.reference`` writes, ``--check`` fails when stale.

The page says what the CRD says, read from the generated document itself, and what the conditions mean, read from the
docstrings of their members.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from agentspec import bounds
from agentspec.conditions import REASONS, ConditionType, Reason
from agentspec.crd import RULES, declared
from agentspec.resource import API_GROUP, API_VERSION, KIND

_ROOT = Path(__file__).resolve().parent.parent
PAGE_PATH = _ROOT / "docs" / "reference" / "avataragent.md"

_FEW = 4
"""Values of an enumeration that a table's cell can show; longer ones have a section of their own."""
_HEAD = f"""\
<!-- Generated from agentspec/ by `make generate`. Do not edit. -->
# AvatarAgent

`apiVersion: {API_GROUP}/{API_VERSION}`, `kind: {KIND}`, namespaced. `kubectl explain ava.spec` shows fields,
defaults and bounds in a terminal; [examples/](../../examples/) holds manifests to apply, one for each capability in
[examples/capabilities/](../../examples/capabilities/). What a manifest names (Secrets, ConfigMaps) is in its own
namespace. `metadata.name` has at most 63 characters.

`kubectl apply` refuses what cannot be. What is listed below each table under "Refused with" is answered with what to
write instead. A field that is unknown, missing, of another type or out of bounds is answered in Kubernetes' own words,
which name the field and, of a bound, its value.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One field, as a line of a table."""

    path: str
    schema: dict[str, Any]
    required: bool

    def render(self) -> str:
        default = "required" if self.required else bounds.default(self.schema)
        cells = (f"`{self.path}`", _type(self.schema), default, bounds.bounds(self.path, self.schema))
        return _line(*cells, self.schema.get("description", ""))


def meanings(members: type[StrEnum]) -> dict[str, str]:
    """What each member of an enumeration means: the docstring below it."""
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(members))).body
    assert isinstance(declared, ast.ClassDef)
    found = {}
    for statement, following in zip(declared.body, declared.body[1:], strict=False):
        if (
            isinstance(statement, ast.Assign)
            and isinstance(statement.value, ast.Constant)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            found[str(statement.value.value)] = " ".join(str(following.value.value).split())
    return found


def render() -> str:
    """The committed page's text."""
    document = declared()["spec"]
    (version,) = document["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    parts = [_HEAD, "## spec\n", _spec(schema["spec"]), "## status\n", _table(_rows(schema["status"]))]
    parts += ["## Conditions\n", _conditions(), "## kubectl\n", _kubectl(document["names"], version)]
    return "\n".join(parts)


def _spec(spec: dict[str, Any]) -> str:
    """A table of the plain fields, and one section for each field that has fields of its own."""
    plain = {name: field for name, field in spec["properties"].items() if not _fields_of(field)}
    required = spec.get("required", [])
    parts = [_table(_rows(spec | {"properties": plain}))]
    for name, field in spec["properties"].items():
        if inner := _fields_of(field):
            needed = "Required." if name in required else ""
            listed = f"A list of at most {field['maxItems']}." if field["type"] == "array" else ""
            said = " ".join(filter(None, (field["description"], listed, needed)))
            parts += [f"### spec.{name}\n", f"{said}\n", _table(_rows(inner)), _rules(inner)]
    parts.insert(1, _rules(spec | {"properties": plain}))
    return "\n".join(filter(None, parts))


def _fields_of(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The node that holds a field's own fields: the field itself, or the items of a list."""
    node = schema.get("items", schema)
    return node if "properties" in node else None


def _rows(node: dict[str, Any], prefix: str = "") -> Iterator[Row]:
    for name, field in node["properties"].items():
        path = prefix + name
        yield Row(path, field, name in node.get("required", []))
        if inner := _fields_of(field):
            yield from _rows(inner, f"{path}[]." if field["type"] == "array" else f"{path}.")


def _table(rows: Iterator[Row]) -> str:
    head = [_line("field", "type", "default", "bounds", "meaning"), _line(*["---"] * 5)]
    return "\n".join([*head, *(row.render() for row in rows)]) + "\n"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(schema: dict[str, Any]) -> str:
    if len(schema.get("enum", ())) > _FEW:
        return "string: see [conditions](#conditions)"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if schema["type"] == "array":
        return f"list of {_plural(_type(schema['items']))}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"map of {_plural(_type(values))}"
    return str(schema["type"])


def _plural(kind: str) -> str:
    return {"quantity": "quantities"}.get(kind, f"{kind}s")


def _rules(node: dict[str, Any]) -> str:
    """What is refused beyond types and bounds: the message of every rule, by where it applies."""
    told = [f"- `{path}`: {message}" if path else f"- {message}" for path, message in _messages(node, "")]
    return "Refused with:\n\n" + "\n".join(told) + "\n" if told else ""


def _messages(node: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    yield from ((path, rule["message"]) for rule in node.get(RULES, []))
    for name, field in node.get("properties", {}).items():
        yield from _messages(field, f"{path}.{name}" if path else name)
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(inner := node.get(key), dict):
            yield from _messages(inner, path + suffix)


def _conditions() -> str:
    parts = [
        "Scripts and alerts may rely on types and reasons; messages are for people. A condition carries the\n"
        "`observedGeneration` that it was decided for, and changes its `lastTransitionTime` only with its status.\n"
    ]
    about, why = meanings(ConditionType), meanings(Reason)
    for kind, reasons in REASONS.items():
        rows = [_line(f"`{reason.value}`", why[reason.value]) for reason in reasons]
        parts += [f"### {kind.value}\n", f"{about[kind.value]}\n"]
        parts.append("\n".join([_line("reason", "meaning"), _line("---", "---"), *rows]) + "\n")
    return "\n".join(parts)


def _kubectl(names: dict[str, Any], version: dict[str, Any]) -> str:
    shorts = ", ".join(f"`kubectl get {name}`" for name in (names["shortNames"] + names["categories"]))
    scale = version["subresources"]["scale"]
    rows = [
        _line(column["name"].upper(), "-o wide" if column["priority"] else "", column["description"])
        for column in version["additionalPrinterColumns"]
    ]
    return (
        f"AvatarAgents are shown by {shorts}.\n\n"
        + "\n".join([_line("column", "shown with", "meaning"), _line("---", "---", "---"), *rows])
        + f"\n\n`kubectl scale ava NAME --replicas N` sets `{scale['specReplicasPath'][1:]}` and is refused unless "
        "`spec.scaling.mode` is `Fixed`;\nin mode `Calls` the workers follow the calls.\n"
    )


def main() -> int:
    fresh = PAGE_PATH.exists() and PAGE_PATH.read_text() == render()
    if "--check" not in sys.argv:
        PAGE_PATH.write_text(render())
        return 0
    if not fresh:
        print(f"{PAGE_PATH.relative_to(_ROOT)} is stale: run `make generate` and commit the result", file=sys.stderr)
    return 0 if fresh else 1


if __name__ == "__main__":
    sys.exit(main())
