"""KnowledgeLoaded, and the texts that a worker gets."""

from typing import Any

import pytest

from agentspec import AvatarAgentSpec, ConditionStatus, Reason
from agentspec.persona import DEFAULT_INSTRUCTIONS
from agentspec.wire import WHOLE_KNOWLEDGE_BYTES
from controller.observation import ObservedConfigMap, ReadFailure
from controller.policy.knowledge import (
    MAX_GREETING_CHARACTERS,
    MAX_TEXT_BYTES,
    knowledge_loaded,
    texts,
    wanted_config_maps,
)
from tests.unit.controller.builders import spec

HOURS = {"name": "hours", "text": "Open from nine to five."}
PERSONA = {"instructionsRef": {"name": "texts", "key": "task"}, "greetingRef": {"name": "texts", "key": "hello"}}


def declared(*knowledge_of: str | dict[str, str], **persona: Any) -> AvatarAgentSpec:
    """A spec with knowledge: names of ConfigMaps, or texts in the manifest."""
    sources = [{"configMapRef": {"name": one}} if isinstance(one, str) else one for one in knowledge_of]
    return spec(knowledge=sources, persona=persona)


def seen(**config_maps: dict[str, str] | None) -> dict[str, ObservedConfigMap]:
    return {name: ObservedConfigMap(name, held) for name, held in config_maps.items()}


def test_each_config_map_is_read_once() -> None:
    assert wanted_config_maps(declared()) == []
    assert wanted_config_maps(declared("b", HOURS, "a", "b", **PERSONA)) == ["texts", "b", "a"]


@pytest.mark.parametrize(
    ("declaration", "held", "status", "reason", "text"),
    [
        pytest.param(declared(), {}, "True", Reason.NO_KNOWLEDGE_DECLARED, "is empty", id="no knowledge"),
        pytest.param(declared(HOURS), {}, "True", Reason.KNOWLEDGE_LOADED, "1 text is", id="text in the manifest"),
        pytest.param(
            declared("a", HOURS),
            {"a": {"x": "text"}},
            "True",
            Reason.KNOWLEDGE_LOADED,
            "2 texts",
            id="text and ConfigMap",
        ),
        pytest.param(
            declared("a", HOURS, "b"),
            {"a": {"x": "text"}, "b": None},
            "False",
            Reason.CONFIG_MAP_NOT_FOUND,
            "'b' (spec.knowledge[2].configMapRef) does not exist in namespace 'shop'. Correct the name, or create the "
            "ConfigMap: kubectl",
            id="missing ConfigMap, with its index in the manifest",
        ),
        pytest.param(declared("a"), {"a": {}}, "False", Reason.KNOWLEDGE_EMPTY, "at least one key", id="no keys"),
        pytest.param(
            declared("a"), {"a": {"x": "", "y": "\n "}}, "False", Reason.KNOWLEDGE_EMPTY, "'a'", id="only white space"
        ),
        pytest.param(
            declared("a", "b"),
            {"a": {"x": "\u0627" * (MAX_TEXT_BYTES // 2)}, "b": {"y": "z"}},
            "False",
            Reason.KNOWLEDGE_TOO_LARGE,
            f"{MAX_TEXT_BYTES + 1 + len(DEFAULT_INSTRUCTIONS)} bytes together; the maximum is "
            f"{MAX_TEXT_BYTES}. Shorten them; the largest is a/x.",
            id="the bytes of all texts together count",
        ),
        pytest.param(
            declared("a", "a", instructions="Short."),
            {"a": {"x": "z" * (MAX_TEXT_BYTES // 2)}},
            "False",
            Reason.KNOWLEDGE_TOO_LARGE,
            f"{MAX_TEXT_BYTES + len('Short.')} bytes",
            id="ConfigMap named twice counts twice",
        ),
        pytest.param(
            declared(**PERSONA),
            {"texts": {"task": "Guide.", "hello": "Welcome."}},
            "True",
            Reason.NO_KNOWLEDGE_DECLARED,
            "spec.knowledge is empty",
            id="persona in a ConfigMap",
        ),
        pytest.param(
            declared(**PERSONA),
            {"texts": None},
            "False",
            Reason.CONFIG_MAP_NOT_FOUND,
            "ConfigMap 'texts' (spec.persona.instructionsRef) does not exist",
            id="missing ConfigMap of the persona",
        ),
        pytest.param(
            declared(**PERSONA),
            {"texts": {"task": "Guide.", "greeting": "Welcome."}},
            "False",
            Reason.CONFIG_MAP_KEY_MISSING,
            "'texts' (spec.persona.greetingRef) has no text for key 'hello'. Keys with text: greeting, task.",
            id="missing key, with the existing keys",
        ),
        pytest.param(
            declared(**PERSONA),
            {"texts": {"task": " \n", "hello": "Welcome."}},
            "False",
            Reason.CONFIG_MAP_KEY_MISSING,
            "has no text for key 'task'. Keys with text: hello.",
            id="empty key",
        ),
        pytest.param(
            declared(**PERSONA),
            {"texts": {"task": "Guide.", "hello": "x" * (MAX_GREETING_CHARACTERS + 1)}},
            "False",
            Reason.KNOWLEDGE_TOO_LARGE,
            f"has {MAX_GREETING_CHARACTERS + 1} characters",
            id="greeting too long",
        ),
        pytest.param(
            declared(**PERSONA),
            {"texts": {"task": "x" * (MAX_TEXT_BYTES + 1), "hello": "Welcome."}},
            "False",
            Reason.KNOWLEDGE_TOO_LARGE,
            "the largest is the instructions.",
            id="instructions too long",
        ),
    ],
)
def test_knowledge_loaded(
    declaration: AvatarAgentSpec, held: dict[str, dict[str, str] | None], status: str, reason: Reason, text: str
) -> None:
    verdict = knowledge_loaded("shop", declaration, seen(**held))
    assert (verdict.status, verdict.reason) == (ConditionStatus(status), reason)
    assert text in verdict.message


@pytest.mark.parametrize(("letters", "is_split"), [(WHOLE_KNOWLEDGE_BYTES // 2, False), (112_000, True)])
def test_knowledge_that_is_not_sent_whole_is_announced_with_its_size(letters: int, is_split: bool) -> None:
    verdict = knowledge_loaded("shop", declared("a"), seen(a={"x": "\u0627" * letters}))
    assert (verdict.status, verdict.reason) == (ConditionStatus.TRUE, Reason.KNOWLEDGE_LOADED)
    announced = (
        f"The knowledge has {2 * letters} bytes; above 16 KiB the worker sends the language model only the passages"
    )
    assert (announced in verdict.message) is is_split


def test_unread_keys_are_named_with_their_fault() -> None:
    faults = {"prices.txt": "not UTF-8", "plan.pdf": "a PDF file, not text"}
    verdict = knowledge_loaded("shop", declared("a", "a"), {"a": ObservedConfigMap("a", {"x": "text"}, faults)})
    assert (verdict.status, verdict.reason) == (ConditionStatus.TRUE, Reason.KNOWLEDGE_PARTLY_LOADED)
    assert verdict.message.startswith(
        "Warning: 2 keys were not read: a/plan.pdf (a PDF file, not text), a/prices.txt (not UTF-8). Save them as UTF-8"
    )
    assert "2 texts are loaded" in verdict.message


def test_message_about_unread_keys_is_bounded() -> None:
    faults = {f"{number:03}{'x' * 250}": "not UTF-8" for number in range(500)}
    verdict = knowledge_loaded("shop", declared("a"), {"a": ObservedConfigMap("a", {"x": "text"}, faults)})
    assert "500 keys were not read" in verdict.message and "and 490 more" in verdict.message
    assert len(verdict.message) < 4096


def test_config_map_with_only_unreadable_files_is_empty() -> None:
    unread = ObservedConfigMap("a", {}, {"prices.txt": "not UTF-8"})
    verdict = knowledge_loaded("shop", declared("a"), {"a": unread})
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, Reason.KNOWLEDGE_EMPTY)
    assert "Not read: a/prices.txt (not UTF-8). Save them as UTF-8" in verdict.message


def test_unreadable_instructions_are_named_with_their_fault() -> None:
    texts_of = ObservedConfigMap("texts", {"hello": "Welcome."}, {"task": "not UTF-8"})
    verdict = knowledge_loaded("shop", declared(**PERSONA), {"texts": texts_of})
    assert verdict.reason is Reason.CONFIG_MAP_KEY_MISSING
    assert "has no text for key 'task': the value is not UTF-8." in verdict.message


@pytest.mark.parametrize(
    ("problem", "status", "text"),
    [
        pytest.param(
            ReadFailure("configmaps is forbidden", permanent=True),
            ConditionStatus.FALSE,
            ": configmaps is forbidden. Allow the controller's ServiceAccount to get ConfigMaps in namespace",
            id="forbidden",
        ),
        pytest.param(
            ReadFailure("connection refused", permanent=False),
            ConditionStatus.UNKNOWN,
            ": connection refused. The controller retries",
            id="API server unreachable",
        ),
    ],
)
@pytest.mark.parametrize(
    ("declaration", "field"),
    [
        pytest.param(declared(HOURS, "texts"), "spec.knowledge[1].configMapRef", id="knowledge"),
        pytest.param(declared(**PERSONA), "spec.persona.instructionsRef", id="instructions"),
    ],
)
def test_unreadable_config_map_blocks_rollouts(
    declaration: AvatarAgentSpec, field: str, problem: ReadFailure, status: ConditionStatus, text: str
) -> None:
    verdict = knowledge_loaded("shop", declaration, {"texts": ObservedConfigMap("texts", None, read_failure=problem)})
    assert (verdict.status, verdict.reason) == (status, Reason.CONFIG_MAP_UNREADABLE)
    assert f"cannot read ConfigMap 'texts' ({field}){text}" in verdict.message
    assert verdict.blocks_rollout


def test_documents_are_in_manifest_order_then_by_key() -> None:
    _, _, documents = texts(declared("b", HOURS, "a"), seen(b={"y": "2", "x": "1"}, a={"z": "3"}))
    assert [(document.name, document.text) for document in documents] == [
        ("b/x", "1"),
        ("b/y", "2"),
        ("hours", "Open from nine to five."),
        ("a/z", "3"),
    ]


@pytest.mark.parametrize(
    ("persona", "expected"),
    [
        pytest.param({}, (DEFAULT_INSTRUCTIONS, ""), id="none"),
        pytest.param({"instructions": "Guide.", "greeting": "Welcome."}, ("Guide.", "Welcome."), id="in the manifest"),
        pytest.param(PERSONA, ("Guide them.", "Good evening."), id="in a ConfigMap, without the final newline"),
    ],
)
def test_persona(persona: dict[str, Any], expected: tuple[str, str]) -> None:
    held = seen(texts={"task": "Guide them.\n", "hello": "Good evening.\n"})
    assert texts(declared(**persona), held)[:2] == expected


def test_missing_config_maps_give_no_text() -> None:
    assert texts(declared("a", **PERSONA), seen(a=None, texts=None)) == (DEFAULT_INSTRUCTIONS, "", [])
