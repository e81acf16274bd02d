"""Manifests are judged on a laptop as the API server judges them in tests/cluster/test_schema.py."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from agentspec import API_GROUP, API_VERSION
from avatar_agent.local import schema
from tests.cluster.test_schema import EXAMPLES, REFUSED, minimal, pod, resources, toleration


def faults(spec: dict[str, Any], more: dict[str, Any] | None = None) -> list[str]:
    agent = {"apiVersion": f"{API_GROUP}/{API_VERSION}", "kind": "AvatarAgent", "metadata": {"name": "a"}}
    return schema.faults({**agent, "spec": spec} | (more or {}))


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_rejection_has_the_message_of_the_api_server(change: dict[str, Any], message: str) -> None:
    assert any(message.lower() in fault.lower() for fault in faults(minimal(**change)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scaling": {"freeSlots": -1}}, "spec.scaling.freeSlots: should be greater than or equal to 0"),
        ({"scaling": {"freeSlots": "2"}}, "spec.scaling.freeSlots: Input should be a valid integer"),
        ({"suspend": "no"}, "spec.suspend: Input should be a valid boolean"),
        ({"worker": {"maxCallMinutes": 721}}, "spec.worker.maxCallMinutes: should be less than or equal to 720"),
        (
            {"dispatch": {"mode": "Manual"}},
            'spec.dispatch.mode: Unsupported value: "Manual": supported values: "Explicit", "Automatic"',
        ),
        ({"persona": {"greeting": "x" * 1025}}, "spec.persona.greeting: Too long: may not be more than 1024"),
        ({"knowledge": [{"configMapRef": {"name": "a"}}] * 17}, "spec.knowledge: Too many: 17: must have at most 16"),
        ({"livekit": {"url": None}}, "spec.livekit.url: required value"),
        ({"worker": {"serviceAccountName": "root"}}, "spec.worker.serviceAccountName: unknown field"),
        ({"agent_name": "front-desk"}, "spec.agent_name: unknown field"),
        (pod(hostNetwork=True), "spec.worker.pod.hostNetwork: unknown field"),
        ({"knowledge": [{"name": "hours", "text": 9}]}, "spec.knowledge[0].text: Input should be a valid string"),
    ],
    ids=str,
)
def test_wrong_types_and_bounds_are_named_by_field(change: dict[str, Any], message: str) -> None:
    assert any(fault.startswith(message) for fault in faults(minimal(**change)))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"livekit": {"url": "wss://[2001:db8::1]:443/rtc"}},
        {"scaling": {"mode": "Fixed", "workers": 2, "minWorkers": 25}},
        {"scaling": {"minWorkers": 0, "maxWorkers": 1, "freeSlots": 0}},
        {"persona": {"instructions": None}},
        {"settings": {"menu": None, "tables": [1, 2.5, {"seats": True}]}},
        resources(requests={}, limits={}),
        resources(requests={"cpu": 2, "memory": "1.5Gi"}, limits={"cpu": "2000m", "memory": "2Gi"}),
        resources(limits={"cpu": 1, "memory": "1Gi", "nvidia.com/gpu": 1}),
        toleration(operator="Exists"),
        pod(nodeSelector={"kubernetes.io/arch": "arm64", "empty": ""}, annotations={"example.com/note": "\u00e9\n"}),
    ],
    ids=str,
)
def test_valid_manifest_has_no_faults(change: dict[str, Any]) -> None:
    assert faults(minimal(**change)) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_accepted(path: Path) -> None:
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document["kind"] == "AvatarAgent"]
    assert [fault for document in documents for fault in schema.faults(document)] == []


def test_every_fault_of_a_manifest_is_reported() -> None:
    change = {"language": "English", "livekit": {"url": "https://livekit.example"}}
    assert {fault.partition(":")[0] for fault in faults(minimal(**change))} == {"spec.livekit.url", "spec.language"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"apiVersion": "avataragents.io/v1"}, f"apiVersion: is 'avataragents.io/v1': set {API_GROUP}/{API_VERSION}"),
        ({"metadata": {"name": "Front_Desk"}}, "metadata.name: set lower-case letters"),
        ({"metadata": {"name": "a" * 64}}, "metadata.name must have at most 63 characters"),
        ({"specs": {}}, "specs: unknown field"),
        ({"spec": None}, "spec: required value"),
    ],
    ids=["version", "name", "long name", "unknown", "no spec"],
)
def test_faults_outside_of_the_spec_are_reported(more: dict[str, Any], message: str) -> None:
    assert any(fault.startswith(message) for fault in faults(minimal(), more))
