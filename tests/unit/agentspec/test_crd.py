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
def test_committed_files_are_up_to_date(path: Path) -> None:
    assert path.read_text() == crd.render(), "stale: run `make generate` and commit the result"


def test_schema_is_structural() -> None:
    for path, node in nodes(root()):
        assert ("type" in node) != node.get("x-kubernetes-int-or-string", False), path
        assert not {"$ref", "anyOf", "allOf", "oneOf", "title"} & set(node), path


def test_every_field_has_a_description_and_bounds() -> None:
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


def test_status_accepts_conditions_of_other_releases() -> None:
    condition = root()["properties"]["status"]["properties"]["conditions"]["items"]["properties"]
    for name in ("type", "reason"):
        assert set(condition[name]) == {"type", "description", "minLength", "maxLength"}


def test_every_rule_has_a_message_instead_of_a_pattern() -> None:
    for path, node in nodes(root()):
        assert "pattern" not in node, path
        for rule in node.get("x-kubernetes-validations", []):
            assert rule["message"][0].islower() and "\n" not in rule["message"], path


def test_descriptions_end_with_default_bounds_and_unit() -> None:
    spec = root()["properties"]["spec"]["properties"]
    scaling, worker = spec["scaling"]["properties"], spec["worker"]["properties"]
    assert scaling["minWorkers"]["description"].endswith(" Default `1`; 0 to 1000 workers.")
    assert scaling["scaleDownDelaySeconds"]["description"].endswith(" Default `300`; 0 to 86400 seconds.")
    assert scaling["mode"]["description"].endswith(" Default `Calls`.")
    assert worker["image"]["description"].endswith(" At most 512 characters.")
    assert worker["pod"]["properties"]["tolerations"]["items"]["properties"]["tolerationSeconds"][
        "description"
    ].endswith(" 0 to 86400 seconds.")


def test_every_description_has_its_default_and_bounds() -> None:
    for path, node in nodes(root()["properties"]["spec"], "spec"):
        description = node.get("description", "")
        if node.get("type") == "integer":
            assert f"{node['minimum']} to {node['maximum']}" in description, path
        if node.get("default") not in (None, "") and "properties" not in node:
            assert "efault `" in description, path


def test_optional_objects_have_the_defaults_of_their_fields() -> None:
    spec = root()["properties"]["spec"]["properties"]
    assert spec["scaling"]["default"]["minWorkers"] == 1
    assert spec["avatar"]["default"]["provider"] == "None"
    assert spec["dispatch"]["properties"]["joinTimeoutSeconds"]["default"] == 10
    assert "default" not in spec["livekit"], "required fields below it"
    variable = spec["worker"]["properties"]["env"]["items"]["properties"]
    assert "default" not in variable["valueFrom"], "absent unless set, and one field below it is needed"


def test_minimal_manifest_gets_the_defaults() -> None:
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
        *("unknown field", "negative count", "not a WebSocket URL", "not a Secret name", "blank model"),
        *("invisible voice", "language of three letters"),
    ],
)
def test_invalid_value_is_rejected_with_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        AvatarAgentSpec.model_validate(MINIMAL | change)


LONGEST_LABEL = "a" * 63


@pytest.mark.parametrize(
    ("host", "is_valid"),
    [
        ("livekit", True),
        ("my_host.example.com:7880", True),
        ("10.0.0.1", True),
        ("[2001:db8::1]:443", True),
        (f"{LONGEST_LABEL}.{LONGEST_LABEL}.example", True),
        ("hooks..example.com", False),
        ("example.com.", False),
        (".example.com", False),
        ("a-.example.com", False),
        ("a.-b.example.com", False),
        (f"a{LONGEST_LABEL}.example.com", False),
        (f"example.a{LONGEST_LABEL}", False),
    ],
)
def test_host_has_labels_that_a_resolver_accepts(host: str, is_valid: bool) -> None:
    spec = MINIMAL | {"livekit": {"url": f"wss://{host}/rtc", "credentialsSecretRef": {"name": "a"}}}
    if is_valid:
        AvatarAgentSpec.model_validate(spec)
    else:
        with pytest.raises(ValidationError, match="url"):
            AvatarAgentSpec.model_validate(spec)


@pytest.mark.parametrize(
    ("attribute", "name"),
    [("url", "url"), ("base_url", "baseURL"), ("face_id", "faceID"), ("config_map_ref", "configMapRef")],
)
def test_field_names_follow_kubernetes_conventions(attribute: str, name: str) -> None:
    assert field_name(attribute) == name
