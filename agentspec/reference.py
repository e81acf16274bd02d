"""Generates ``docs/reference/avataragent.md`` and ``docs/reference/call-report.json`` from the types.

``python -m agentspec.reference`` writes both; ``--check`` fails when one is stale. Fields come from the generated
CRD, and the meanings of conditions and reasons from the docstrings of their members.
"""

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from agentspec import bounds
from agentspec.conditions import REASONS, ConditionType, Reason
from agentspec.crd import RULES, definition
from agentspec.resource import API_GROUP, API_VERSION, KIND
from agentspec.wire.callreport import CallReport

_ROOT = Path(__file__).resolve().parent.parent
PAGE_PATH = _ROOT / "docs" / "reference" / "avataragent.md"
REPORT_PATH = _ROOT / "docs" / "reference" / "call-report.json"

_HEAD = f"""\
<!-- Generated from agentspec/ by `make generate`. Do not edit. -->
# AvatarAgent

`apiVersion: {API_GROUP}/{API_VERSION}`, `kind: {KIND}`, namespaced. `kubectl explain ava.spec` shows fields,
defaults and bounds in a terminal. [examples/](../../examples/) contains manifests to apply, and
[examples/capabilities/](../../examples/capabilities/) has one for each capability. A manifest refers to Secrets and
ConfigMaps in its own namespace. `metadata.name` has at most 63 characters.

The API server rejects an invalid manifest. The list under "Rejected with" below a table contains the messages, which
say what to set. For a field that is unknown, missing, of another type or out of bounds, Kubernetes' own message names
the field and the bound.
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
    """Return the meaning of each member of an enumeration: the docstring below it."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(members))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(statement, ast.Assign)
            and isinstance(statement.value, ast.Constant)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            found[str(statement.value.value)] = " ".join(str(following.value.value).split())
    return found


def render() -> str:
    """Return the text of the committed page."""
    document = definition()["spec"]
    (version,) = document["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    parts = [_HEAD, "## spec\n", _spec(schema["spec"]), "## status\n", _table(_rows(schema["status"]))]
    parts += ["## Conditions\n", _conditions(), "## kubectl\n", _kubectl(document["names"], version)]
    return "\n".join(parts)


def _spec(spec: dict[str, Any]) -> str:
    """Return a table of the plain fields, and a section for each field that has fields of its own."""
    plain = {name: field for name, field in spec["properties"].items() if not _fields_of(field)}
    required = spec.get("required", [])
    parts = [_table(_rows(spec | {"properties": plain}))]
    for name, field in spec["properties"].items():
        if inner := _fields_of(field):
            needed = "Required." if name in required else ""
            listed = f"A list of at most {field['maxItems']}." if field["type"] == "array" else ""
            about = " ".join(filter(None, (field["description"], listed, needed)))
            parts += [f"### spec.{name}\n", f"{about}\n", _table(_rows(inner)), _rules(inner)]
    parts.insert(1, _rules(spec | {"properties": plain}))
    return "\n".join(filter(None, parts))


def _fields_of(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return the node with a field's own fields: the field itself, or the items of a list."""
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
    """Return the message of every rule, with the path of the field that it checks."""
    lines = [f"- `{path}`: {message}." if path else f"- {message}." for path, message in _messages(node, "")]
    return "Rejected with:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _messages(node: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    yield from ((path, rule["message"]) for rule in node.get(RULES, []))
    for name, field in node.get("properties", {}).items():
        yield from _messages(field, f"{path}.{name}" if path else name)
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(inner := node.get(key), dict):
            yield from _messages(inner, path + suffix)


def _conditions() -> str:
    parts = [
        "Scripts and alerts can rely on types and reasons; messages are for people. `observedGeneration` is the\n"
        "generation that the controller evaluated. `lastTransitionTime` changes only with the status.\n"
    ]
    condition_meanings, reason_meanings = meanings(ConditionType), meanings(Reason)
    for kind, reasons in REASONS.items():
        rows = [_line(f"`{reason.value}`", reason_meanings[reason.value]) for reason in reasons]
        parts += [f"### {kind.value}\n", f"{condition_meanings[kind.value]}\n"]
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
        f"{shorts} show AvatarAgents.\n\n"
        + "\n".join([_line("column", "shown with", "meaning"), _line("---", "---", "---"), *rows])
        + f"\n\n`kubectl scale ava NAME --replicas N` sets `{scale['specReplicasPath'][1:]}`. It needs\n"
        "`spec.scaling.mode: Fixed`; in mode `Calls` the number of workers follows the calls.\n"
    )


def report_schema() -> str:
    """Return the JSON Schema of a call's report. Unknown fields are allowed: a later release may add some."""
    schema = CallReport.model_json_schema(by_alias=True, mode="serialization")
    for node in (schema, *schema["$defs"].values()):
        node.pop("additionalProperties", None)
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def main() -> int:
    stale = 0
    for path, text in ((PAGE_PATH, render()), (REPORT_PATH, report_schema())):
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path.relative_to(_ROOT)} is stale: run `make generate` and commit the result", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
