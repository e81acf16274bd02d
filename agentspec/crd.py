"""Generates ``crds/`` from the types.

``python -m agentspec.crd`` writes the files; ``--check`` fails when one is stale.

Kubernetes requires a *structural* schema: no ``$ref``, no unions, a type at every level.
Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions", section "Specifying a
structural schema".
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from agentspec import bounds
from agentspec.resource import API_GROUP, API_VERSION, KIND, PLURAL, RESOURCE_RULES, AvatarAgentSpec
from agentspec.status import AvatarAgentStatus

_ROOT = Path(__file__).resolve().parent.parent
CRD_PATHS = [_ROOT / "crds" / f"{API_GROUP}_{PLURAL}.yaml", _ROOT / "charts/avatar-agent/files" / f"{PLURAL}.yaml"]
"""The file for ``kubectl apply``, and its copy in the chart: Helm cannot read files outside a chart."""

_COLUMNS: list[tuple[str, str, str, str]] = [
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether the agent can answer calls."),
    ("Agent", "string", ".status.agentName", "Name that the workers register under."),
    ("Workers", "integer", ".status.workers.registered", "Workers registered with LiveKit."),
    ("Calls", "integer", ".status.calls.active", "Calls in progress."),
    ("Slots", "integer", ".status.slots.total", "Calls that the registered workers can take at once."),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Reason of the condition Ready."),
    ("Age", "date", ".metadata.creationTimestamp", "Time since creation."),
]

_WIDE_COLUMNS: list[tuple[str, str, str, str]] = [
    ("Desired", "integer", ".status.workers.desired", "Workers that should run."),
    ("Pending", "integer", ".status.calls.pending", "Calls waiting for a slot."),
    ("Avatars", "integer", ".status.calls.withAvatar", "Calls with an avatar: seats in use."),
    (
        "Message",
        "string",
        '.status.conditions[?(@.type=="Ready")].message',
        "Message of the condition Ready: what to do.",
    ),
]
"""For ``kubectl get -o wide``."""

RULES = "x-kubernetes-validations"

_DROPPED = {"title", "$defs", "additionalProperties"}


def structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a node of pydantic's JSON schema as a structural one."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        return structural({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    if "anyOf" in node:  # pydantic's ``T | None``: an optional field
        (choice,) = [option for option in node["anyOf"] if option.get("type") != "null"]
        outer = {key: value for key, value in node.items() if key != "anyOf" and value is not None}
        return structural({**choice, **outer}, definitions)
    result = {key: value for key, value in node.items() if key not in _DROPPED}
    if RULES in node:  # the rule checks the same, and has a message
        result.pop("pattern", None)
    if "properties" in node:
        required = node.get("required", [])
        result["properties"] = {
            name: _defaulted(structural(child, definitions), name in required or _is_unset(child))
            for name, child in node["properties"].items()
        }
    if "items" in node:
        result["items"] = structural(node["items"], definitions)
    values = node.get("additionalProperties")
    if isinstance(values, dict):
        result["additionalProperties"] = structural(values, definitions)
    return result


def _is_unset(node: dict[str, Any]) -> bool:
    """Return whether a field of pydantic's JSON schema is absent when a manifest does not set it."""
    return "anyOf" in node and node.get("default") is None


def _defaulted(schema: dict[str, Any], required: bool) -> dict[str, Any]:
    """Return an optional object's schema with a default that contains all defaults below it.

    The API server checks a default against the CEL rules beside it before it fills in the defaults below.
    """
    if schema.get("type") == "object" and "properties" in schema and not required and not schema.get("required"):
        children = {name: child["default"] for name, child in schema["properties"].items() if "default" in child}
        return {**schema, "default": children}
    return schema


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _schema(model: type[AvatarAgentSpec] | type[AvatarAgentStatus]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    return structural(schema, schema.get("$defs", {}))


def crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition; its descriptions end with defaults and bounds."""
    document = definition()
    (version,) = document["spec"]["versions"]
    fields = version["schema"]["openAPIV3Schema"]["properties"]
    fields["spec"] = bounds.describe(fields["spec"])
    return document


def definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition with the descriptions of the types."""
    version = {
        "name": API_VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.scaling.workers",
                "statusReplicasPath": ".status.workers.ready",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            *(_column(*column, priority=0) for column in _COLUMNS),
            *(_column(*column, priority=1) for column in _WIDE_COLUMNS),
        ],
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": "A LiveKit voice agent with an avatar.",
                "required": ["spec"],
                **RESOURCE_RULES,
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": _schema(AvatarAgentSpec),
                    "status": _status_schema(),
                },
            }
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{API_GROUP}"},
        "spec": {
            "group": API_GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ava"],
                "categories": ["all", "avatar"],
            },
            "versions": [version],
        },
    }


def _column(name: str, kind: str, path: str, text: str, *, priority: int) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, "description": text, "priority": priority}


def _status_schema() -> dict[str, Any]:
    schema = _schema(AvatarAgentStatus)
    schema["properties"]["conditions"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    return schema


def render() -> str:
    """Return the text of the committed files."""
    head = "# Generated from agentspec/ by `make generate`. Do not edit.\n"
    return head + yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def main() -> int:
    stale = [path for path in CRD_PATHS if not path.exists() or path.read_text() != render()]
    if "--check" not in sys.argv:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(render())
        return 0
    for path in stale:
        print(f"{path.relative_to(_ROOT)} is stale: run `make generate` and commit the result", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
