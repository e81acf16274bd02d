"""A reader keeps a document of a newer release, and rejects one that lacks what it needs."""

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentspec import AvatarAgentSpec, AvatarProvider, DispatchMode, OnAvatarFailure, Placement
from agentspec.wire import Demand, WorkerConfig, WorkerStatus, read

CONFIG = Path(__file__).parent / "0.1.0" / "worker-config-full.json"


def newer(path: tuple[str, ...], value: object) -> str:
    """The full worker configuration with another value at a path."""
    document: dict[str, Any] = json.loads(CONFIG.read_text())
    *parents, last = path
    target = document
    for key in parents:
        target = target[key]
    target[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "default"),
    [
        (("dispatchMode",), DispatchMode.EXPLICIT),
        (("placement",), Placement.PACKED),
        (("avatar", "provider"), AvatarProvider.NONE),
        (("avatar", "onFailure"), OnAvatarFailure.VOICE_ONLY),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_unknown_value_of_an_enumeration_reads_as_its_default(
    path: tuple[str, ...], default: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        config = read(WorkerConfig, newer(path, "ValueOfANewerRelease"))
    assert json.loads(config.model_dump_json(by_alias=True)) == json.loads(newer(path, default))
    assert [record.__dict__["field"] for record in caplog.records] == [".".join(path)]
    assert "ValueOfANewerRelease" not in caplog.text


def test_several_unknown_values_are_read_together_with_unknown_fields() -> None:
    document = json.loads(newer(("avatar", "provider"), "Anam"))
    document["avatar"]["anam"] = {"persona": "p1"}
    document["placement"] = "Zoned"
    config = read(WorkerConfig, json.dumps(document))
    assert (config.avatar.provider, config.placement, config.name) == (AvatarProvider.NONE, Placement.PACKED, "ornina")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{",
        '"\\ud800"',
        '{"registered": true, "draining": false, "slots": 1, "calls": 0}',
        '{"agentName": "a", "registered": true, "draining": false, "slots": -1, "calls": 0}',
        '{"agentName": "a", "registered": "Perhaps", "draining": false, "slots": 1, "calls": 0}',
    ],
    ids=["empty", "null", "broken", "surrogate", "missing field", "out of bounds", "wrong type"],
)
def test_invalid_document_is_rejected(text: str) -> None:
    with pytest.raises(ValidationError):
        read(WorkerStatus, text)


def test_unknown_value_does_not_hide_another_fault() -> None:
    document = json.loads(newer(("placement",), "Zoned"))
    del document["name"]
    with pytest.raises(ValidationError, match="name"):
        read(WorkerConfig, json.dumps(document))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PATHS = [(), ("voice",), ("voice", "openai"), ("avatar",), ("avatar", "tavus"), ("knowledge",)]


@given(st.sampled_from(PATHS), st.text(max_size=12) | st.sampled_from(["placement", "provider", "dispatchMode"]), JSON)
def test_any_change_of_a_document_is_read_or_rejected(path: tuple[str, ...], key: str, value: object) -> None:
    """A reader raises nothing but the error that its callers handle."""
    text = newer((*path, key), value) if path != ("knowledge",) else newer(path, [{"name": "a", key: value}])
    with contextlib.suppress(ValidationError):
        assert read(WorkerConfig, text).name == "ornina" or key == "name"


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_rejected(text: bytes) -> None:
    with contextlib.suppress(ValidationError):
        assert read(Demand, text).gateway


def test_manifest_still_rejects_unknown_fields() -> None:
    livekit = {"url": "wss://livekit.example", "credentialsSecretRef": {"name": "livekit"}}
    voice = {"openai": {"credentialsSecretRef": {"name": "openai", "key": "x"}}}
    with pytest.raises(ValidationError, match="key"):
        AvatarAgentSpec.model_validate({"livekit": livekit, "voice": voice})
