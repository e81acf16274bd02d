"""What is said about Secrets, knowledge and specs that cannot be used."""

import pytest

from agentspec import AvatarAgentSpec, ConditionStatus, Reason
from controller.observation import KnowledgeSeen, LiveKitAnswer, LiveKitVerdict, SecretSeen
from controller.policy.credentials import credentials, secrets_complete, wanted_secrets
from controller.policy.knowledge import MAX_KNOWLEDGE_BYTES, documents, knowledge
from controller.policy.specification import read_spec
from controller.policy.verdict import Verdict
from tests.unit.controller.builders import SPEC, TAVUS, spec


def seen(**keys: set[str] | None) -> dict[str, SecretSeen]:
    known: dict[str, set[str] | None] = {"livekit": {"apiKey", "apiSecret"}, "openai": {"apiKey"}, "tavus": {"apiKey"}}
    found = {**known, **keys}
    return {name: SecretSeen(name, None if held is None else frozenset(held)) for name, held in found.items()}


def test_only_what_the_manifest_uses_is_wanted() -> None:
    assert [secret.name for secret in wanted_secrets(spec())] == ["livekit", "openai"]
    assert [secret.name for secret in wanted_secrets(spec(avatar=TAVUS))] == ["livekit", "openai", "tavus"]
    off = {**TAVUS, "provider": "None"}
    assert [secret.name for secret in wanted_secrets(spec(avatar=off))] == ["livekit", "openai"]


def test_complete_secrets_need_no_word() -> None:
    assert secrets_complete("shop", wanted_secrets(spec(avatar=TAVUS)), seen()) is None


@pytest.mark.parametrize(
    ("keys", "reason", "told"),
    [
        pytest.param(
            {"livekit": None},
            Reason.SECRET_NOT_FOUND,
            "kubectl -n shop create secret generic livekit --from-literal=apiKey=… --from-literal=apiSecret=…",
            id="a missing Secret: the command that makes it",
        ),
        pytest.param(
            {"livekit": {"apiKey", "secret"}},
            Reason.SECRET_KEY_MISSING,
            "no value under apiSecret; keys with a value: apiKey, secret.",
            id="a missing key: the keys that are there",
        ),
        pytest.param(
            {"openai": {"OPENAI_API_KEY"}},
            Reason.SECRET_KEY_MISSING,
            """kubectl -n shop patch secret openai -p '{"stringData":{"apiKey":"…"}}'""",
            id="a key under another name: the command that adds it",
        ),
        pytest.param(
            {"tavus": set()},
            Reason.SECRET_KEY_MISSING,
            "(spec.avatar.tavus.credentialsSecretRef) has no value under apiKey; keys with a value: none.",
            id="an empty Secret: the field that names it",
        ),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(keys: dict[str, set[str] | None], reason: Reason, told: str) -> None:
    verdict = secrets_complete("shop", wanted_secrets(spec(avatar=TAVUS)), seen(**keys))
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, reason)
    assert told in verdict.message


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        pytest.param(
            LiveKitAnswer(LiveKitVerdict.ACCEPTED), ConditionStatus.TRUE, Reason.CREDENTIALS_ACCEPTED, id="accepted"
        ),
        pytest.param(
            LiveKitAnswer(LiveKitVerdict.REJECTED, "invalid API key"),
            ConditionStatus.FALSE,
            Reason.CREDENTIALS_REJECTED,
            id="refused",
        ),
        pytest.param(
            LiveKitAnswer(LiveKitVerdict.UNREACHABLE, "connection refused"),
            ConditionStatus.FALSE,
            Reason.LIVEKIT_UNREACHABLE,
            id="not there",
        ),
    ],
)
def test_what_livekit_says_is_passed_on(answer: LiveKitAnswer, status: ConditionStatus, reason: Reason) -> None:
    verdict = credentials(spec(), answer)
    assert (verdict.status, verdict.reason) == (status, reason)
    assert "wss://livekit.example" in verdict.message
    assert answer.detail in verdict.message


@pytest.mark.parametrize(
    ("sources", "status", "reason", "told"),
    [
        pytest.param([], ConditionStatus.TRUE, Reason.NO_KNOWLEDGE_DECLARED, "names no", id="none is fine"),
        pytest.param(
            [KnowledgeSeen("a", {"x": "text"})], ConditionStatus.TRUE, Reason.KNOWLEDGE_READ, "1 texts, 4", id="text"
        ),
        pytest.param(
            [KnowledgeSeen("a", {"x": "text"}), KnowledgeSeen("b", None)],
            ConditionStatus.FALSE,
            Reason.CONFIG_MAP_NOT_FOUND,
            "'b' (spec.knowledge[1].configMapRef)",
            id="the second is missing: its place in the manifest",
        ),
        pytest.param([KnowledgeSeen("a", {})], ConditionStatus.FALSE, Reason.KNOWLEDGE_EMPTY, "'a'", id="no keys"),
        pytest.param(
            [KnowledgeSeen("a", {"x": "", "y": "\n "})],
            ConditionStatus.FALSE,
            Reason.KNOWLEDGE_EMPTY,
            "'a'",
            id="blanks",
        ),
        pytest.param(
            [KnowledgeSeen("a", {"x": "\u0627" * (MAX_KNOWLEDGE_BYTES // 2)}), KnowledgeSeen("b", {"y": "z"})],
            ConditionStatus.FALSE,
            Reason.KNOWLEDGE_TOO_LARGE,
            f"{MAX_KNOWLEDGE_BYTES + 1} bytes",
            id="bytes count, not characters, and all texts together",
        ),
    ],
)
def test_knowledge(sources: list[KnowledgeSeen], status: ConditionStatus, reason: Reason, told: str) -> None:
    verdict = knowledge("shop", sources)
    assert (verdict.status, verdict.reason) == (status, reason)
    assert told in verdict.message


def test_documents_come_in_the_manifests_order_then_by_key() -> None:
    found = documents(
        [KnowledgeSeen("b", {"y": "2", "x": "1"}), KnowledgeSeen("a", {"z": "3"}), KnowledgeSeen("c", None)]
    )
    assert [(document.name, document.text) for document in found] == [("b/x", "1"), ("b/y", "2"), ("a/z", "3")]


def test_a_good_spec_is_read() -> None:
    assert isinstance(read_spec("ava", SPEC), AvatarAgentSpec)


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        pytest.param(
            "ava", {"dispatch": {"roomNamePattern": "("}}, "spec.dispatch.roomNamePattern", id="no expression"
        ),
        pytest.param("ava", {"voice": {}}, "spec.voice.openai: Field required", id="what the schema would have caught"),
        pytest.param("ava", {"langauge": "ar"}, "spec.langauge", id="a field of another release"),
        pytest.param("a" * 64, {}, "at most 63", id="a name that no label can hold"),
    ],
)
def test_a_bad_spec_is_refused_by_field(name: str, changes: dict[str, object], told: str) -> None:
    verdict = read_spec(name, {**SPEC, **changes})
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, Reason.INVALID_SPEC)
    assert told in verdict.message
