"""What a worker on a laptop gets from a manifest's files, and what is missing."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentspec import AvatarAgentSpec, DispatchMode
from agentspec.wire import render
from avatar_agent.local import dev
from avatar_agent.local.check import placeholders
from avatar_agent.local.inputs import LIVEKIT_VARIABLES, Inputs, inputs_of, variables_of
from avatar_agent.local.manifest import Manifest, ManifestError, load
from controller.desired.configmap import worker_config
from controller.desired.identity import Owner
from devkit.paths import REPOSITORY

SPEC: dict[str, Any] = {
    "livekit": {"url": "wss://livekit.example", "credentialsSecretRef": {"name": "livekit"}},
    "voice": {"openai": {"credentialsSecretRef": {"name": "openai"}}},
}
LIVEKIT = {"kind": "Secret", "metadata": {"name": "livekit"}, "stringData": {"apiKey": "key", "apiSecret": "secret"}}
OPENAI = {"kind": "Secret", "metadata": {"name": "openai"}, "data": {"apiKey": base64.b64encode(b"sk-1\n").decode()}}


def written(folder: Path, spec: dict[str, Any], *objects: dict[str, Any]) -> Path:
    path = folder / "agent.yaml"
    agent = {
        "apiVersion": "avataragents.io/v1alpha1",
        "kind": "AvatarAgent",
        "metadata": {"name": "florist"},
        "spec": {**SPEC, **spec},
    }
    path.write_text(yaml.safe_dump_all([agent, *({"apiVersion": "v1", **one} for one in objects)]))
    return path


def made(path: Path, **shell: str) -> Inputs:
    manifest = load(path)
    return inputs_of(manifest, spec_of(manifest), shell)


def spec_of(manifest: Manifest) -> AvatarAgentSpec:
    return AvatarAgentSpec.model_validate(manifest.agent["spec"])


def test_configuration_is_that_of_the_cluster() -> None:
    inputs = made(REPOSITORY / "examples/ornina.yaml", OPENAI_API_KEY="sk-1")
    names = [document.name for document in inputs.config.knowledge]
    persona = inputs.spec.persona
    owner = Owner("default", "ornina", "any")
    expected = worker_config(
        owner, inputs.spec, persona.instructions or "", persona.greeting or "", inputs.config.knowledge
    )
    assert names and all(name.startswith("ornina-knowledge/") for name in names)
    assert render(inputs.config) == render(expected)


def test_values_come_from_secrets_without_surrounding_blanks(tmp_path: Path) -> None:
    variables = made(written(tmp_path, {}, LIVEKIT, OPENAI)).variables
    assert variables.problems == ()
    assert variables.values == {"LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "secret", "OPENAI_API_KEY": "sk-1"}
    assert variables.secrets == {"livekit": {"apiKey": "key", "apiSecret": "secret"}, "openai": {"apiKey": "sk-1"}}


def test_variables_of_the_shell_have_priority(tmp_path: Path) -> None:
    variables = made(written(tmp_path, {}, LIVEKIT, OPENAI), OPENAI_API_KEY="sk-2", HOME="/root").variables
    assert variables.values["OPENAI_API_KEY"] == "sk-2"
    assert "HOME" not in variables.values


def test_missing_keys_and_placeholders_are_reported_with_their_variable(tmp_path: Path) -> None:
    placeholder = {**LIVEKIT, "stringData": {"apiKey": "replace-with-your-key", "apiSecret": "secret"}}
    variables = made(written(tmp_path, {}, placeholder)).variables
    assert [problem.text for problem in variables.problems] == [
        "key 'apiKey' of Secret 'livekit' is still 'replace-with-your-key': set its value, or the variable "
        "LIVEKIT_API_KEY",
        "key 'apiKey' of Secret 'openai' is in none of the files: add it, or set the variable OPENAI_API_KEY",
    ]
    assert variables.lacks(LIVEKIT_VARIABLES)


def test_own_variables_come_from_secrets_and_config_maps(tmp_path: Path) -> None:
    own = {"kind": "Secret", "metadata": {"name": "own"}, "stringData": {"TOKEN": "t-123456"}}
    texts = {"kind": "ConfigMap", "metadata": {"name": "texts"}, "data": {"menu": "soup"}}
    worker = {
        "env": [
            {"name": "MENU", "valueFrom": {"configMapKeyRef": {"name": "texts", "key": "menu"}}},
            {"name": "TABLES", "value": "7"},
        ],
        "envFrom": [{"secretRef": {"name": "own"}, "prefix": "SHOP_"}, {"configMapRef": {"name": "absent"}}],
    }
    inputs = made(written(tmp_path, {"worker": worker}, LIVEKIT, OPENAI, own, texts))
    values = inputs.variables.values
    assert (values["MENU"], values["TABLES"], values["SHOP_TOKEN"]) == ("soup", "7", "t-123456")
    assert inputs.config.secret_variables == ["SHOP_TOKEN"], "their values appear in no log line"
    (problem,) = inputs.variables.problems
    assert problem.text == "ConfigMap 'absent' (spec.worker.envFrom) is in none of the files: add it"


def test_objects_of_other_files_in_the_folder_are_found(tmp_path: Path) -> None:
    path = written(tmp_path, {}, LIVEKIT)
    (tmp_path / "secrets.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", **OPENAI}))
    (tmp_path / "values.yaml").write_text("{{ no manifest }}: [")
    manifest = load(path)
    assert manifest.files == (path, tmp_path / "secrets.yaml", tmp_path / "values.yaml")
    assert variables_of(manifest, spec_of(manifest), {}).problems == ()


@pytest.mark.parametrize(
    "text",
    [
        "metadata: any",
        "metadata: [any]",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: openai}\ndata: any\nstringData: [any]",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: texts}\ndata: any\nbinaryData: [any]",
    ],
    ids=["metadata is a text", "metadata is a list", "Secret", "ConfigMap"],
)
def test_malformed_object_beside_the_manifest_is_no_error(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, {}, LIVEKIT)
    (tmp_path / "other.yaml").write_text(text)
    assert load(path).secrets["livekit"] == {"apiKey": "key", "apiSecret": "secret"}


def test_objects_of_other_namespaces_are_not_used(tmp_path: Path) -> None:
    other = {**OPENAI, "metadata": {"name": "openai", "namespace": "elsewhere"}}
    assert made(written(tmp_path, {}, LIVEKIT, other)).variables.lacks(("OPENAI_API_KEY",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: Secret", "must contain one AvatarAgent; it contains none"),
        ("kind: AvatarAgent", "metadata.name is required"),
        ("kind: AvatarAgent\n---\nkind: AvatarAgent", "must contain one AvatarAgent; it contains None, None"),
        ("kind: AvatarAgent\nmetadata: any\n---\nkind: AvatarAgent", "must contain one AvatarAgent; it contains None"),
        ("kind: [", "is no valid YAML"),
        ("kind: AvatarAgent\nkind: AvatarAgent", "the key 'kind' occurs twice"),
    ],
    ids=["no agent", "no name", "two agents", "metadata is a text", "no YAML", "duplicate key"],
)
def test_file_without_one_agent_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    with pytest.raises(ManifestError, match=message.replace("[", r"\[")):
        load(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cannot read .*: No such file"):
        load(tmp_path / "absent.yaml")


def test_placeholders_of_the_spec_are_named() -> None:
    spec = yaml.safe_load((REPOSITORY / "examples/ornina.yaml").read_text())["spec"]
    assert placeholders(spec, "spec") == ["spec.avatar.tavus.faceID", "spec.avatar.tavus.palID"]


def test_workers_of_a_laptop_take_no_calls_of_the_cluster(tmp_path: Path) -> None:
    automatic = {"dispatch": {"mode": "Automatic"}, "agentName": "a" * 128}
    for spec in ({}, automatic):
        declared = spec_of(load(written(tmp_path, spec)))
        local = dev.local_spec(declared, "florist")
        assert local.dispatch.mode is DispatchMode.EXPLICIT
        assert local.registered_name("florist") != declared.registered_name("florist")
        assert AvatarAgentSpec.model_validate(local.model_dump(by_alias=True)) == local, "a name within its limits"
