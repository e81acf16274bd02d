"""The generated CRD: structural, described, and what is committed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agentspec import AvatarAgentSpec, crd
from agentspec.model import field_name

MINIMAL: dict[str, Any] = {
    "livekit": {"url": "wss://livekit.example", "credentialsSecretRef": {"name": "livekit"}},
    "voice": {"openai": {"credentialsSecretRef": {"name": "openai"}}},
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def root() -> dict[str, Any]:
    schema: dict[str, Any] = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


@pytest.mark.parametrize("path", crd.CRD_PATHS, ids=lambda path: path.parent.name)
def test_the_committed_files_are_what_the_types_generate(path: Path) -> None:
    assert path.read_text() == crd.render(), "stale: run `make generate` and commit the result"


def test_every_node_has_a_type_and_no_reference_or_union() -> None:
    for path, node in nodes(root()):
        assert ("type" in node) != node.get("x-kubernetes-int-or-string", False), path
        assert not {"$ref", "anyOf", "allOf", "oneOf", "title"} & set(node), path


def test_every_declared_field_is_described_and_every_string_and_list_is_bounded() -> None:
    for path, node in nodes(root()["properties"]["spec"], "spec"):
        if not path.endswith("[]"):
            assert node.get("description"), path
        kind = node.get("type", "string")
        if kind == "string":
            assert "maxLength" in node or "enum" in node, path
        if kind == "array":
            assert "maxItems" in node, path
        if kind == "integer":
            assert {"minimum", "maximum"} <= set(node), path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_no_refusal_shows_a_bare_pattern_because_nobody_can_read_one() -> None:
    for path, node in nodes(root()):
        assert "pattern" not in node, path
        for rule in node.get("x-kubernetes-validations", []):
            assert rule["message"][0].islower() and "\n" not in rule["message"], path


def test_descriptions_tell_default_bounds_and_unit_because_kubectl_explain_shows_nothing_else() -> None:
    spec = root()["properties"]["spec"]["properties"]
    scaling, worker = spec["scaling"]["properties"], spec["worker"]["properties"]
    assert scaling["minWorkers"]["description"].endswith(" Default `1`; 0 to 1000 workers.")
    assert scaling["scaleDownDelaySeconds"]["description"].endswith(" Default `300`; 0 to 86400 seconds.")
    assert scaling["mode"]["description"].endswith(" Default `Calls`.")
    assert worker["image"]["description"].endswith(" At most 512 characters.")
    assert worker["pod"]["properties"]["tolerations"]["items"]["properties"]["tolerationSeconds"][
        "description"
    ].endswith(" 0 to 86400 seconds.")


def test_every_default_and_bound_of_a_number_is_told() -> None:
    for path, node in nodes(root()["properties"]["spec"], "spec"):
        told = node.get("description", "")
        if node.get("type") == "integer":
            assert f"{node['minimum']} to {node['maximum']}" in told, path
        if node.get("default") not in (None, "") and "properties" not in node:
            assert "efault `" in told, path


def test_objects_that_may_be_left_out_default_to_their_own_defaults_because_rules_are_checked_on_them() -> None:
    spec = root()["properties"]["spec"]["properties"]
    assert spec["scaling"]["default"]["minWorkers"] == 1
    assert spec["avatar"]["default"]["provider"] == "None"
    assert spec["dispatch"]["properties"]["joinTimeoutSeconds"]["default"] == 10
    assert "default" not in spec["livekit"], "required fields below it"


def test_the_least_manifest_gets_the_defaults_of_the_product() -> None:
    spec = AvatarAgentSpec.model_validate(MINIMAL)
    assert (spec.voice.stt.model, spec.voice.llm.model, spec.voice.tts.model) == ("whisper-1", "gpt-4o-mini", "tts-1")
    assert spec.voice.tts.voice == "onyx"
    assert spec.registered_name("ornina") == "ornina"
    assert AvatarAgentSpec.model_validate(MINIMAL | {"agentName": "a"}).registered_name("ornina") == "a"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"agentname": "x"}, "agentname"),
        ({"scaling": {"minWorkers": -1}}, "minWorkers"),
        ({"livekit": {"url": "https://x", "credentialsSecretRef": {"name": "a"}}}, "url"),
        ({"voice": {"openai": {"credentialsSecretRef": {"name": "UPPER"}}}}, "name"),
        ({"voice": MINIMAL["voice"] | {"llm": {"model": " \u00a0"}}}, "model"),
        ({"voice": MINIMAL["voice"] | {"tts": {"voice": "\u200b"}}}, "voice"),
        ({"language": "arz"}, "language"),
    ],
    ids=[
        *("an unknown field", "a negative count", "not a WebSocket URL", "not a Secret's name", "a blank model"),
        *("an invisible voice", "a language of three letters"),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        AvatarAgentSpec.model_validate(MINIMAL | change)


@pytest.mark.parametrize(
    ("attribute", "name"),
    [("url", "url"), ("base_url", "baseURL"), ("face_id", "faceID"), ("config_map_ref", "configMapRef")],
)
def test_wire_names_follow_kubernetes_conventions(attribute: str, name: str) -> None:
    assert field_name(attribute) == name
