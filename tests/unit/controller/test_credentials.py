"""CredentialsValid: unusable Secrets, and the providers' answers to usable ones."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentspec import ConditionStatus, Reason
from controller.observation import ObservedSecret, Provider, ProviderAnswer, ProviderVerdict, ReadFailure
from controller.policy.credentials import (
    credentials_valid,
    fingerprint,
    observe_secret,
    secrets_complete,
    wanted_secrets,
)
from controller.policy.verdict import Verdict
from tests.unit.controller.builders import SPEC, TAVUS, spec

WANTED = wanted_secrets(spec(avatar=TAVUS))
VALUES = {"livekit": {"apiKey": "key", "apiSecret": "secret"}, "openai": {"apiKey": "sk"}, "tavus": {"apiKey": "tv"}}


def judged(**changes: dict[str, str] | None) -> Verdict | None:
    return secrets_complete(
        "shop", WANTED, {name: observe_secret(name, held) for name, held in {**VALUES, **changes}.items()}
    )


def test_only_secrets_in_use_are_needed() -> None:
    assert [secret.name for secret in wanted_secrets(spec())] == ["livekit", "openai"]
    assert [secret.name for secret in WANTED] == ["livekit", "openai", "tavus"]
    off = {**TAVUS, "provider": "None"}
    assert [secret.name for secret in wanted_secrets(spec(avatar=off))] == ["livekit", "openai"]


def test_secret_of_an_avatar_plugin_is_needed_if_the_plugin_has_one() -> None:
    plugin: dict[str, Any] = {"name": "bey", "credentialsSecretRef": {"name": "bey"}}
    (secret,) = wanted_secrets(spec(avatar={"provider": "Plugin", "plugin": plugin}))[2:]
    assert (secret.name, secret.keys, secret.field) == ("bey", ("apiKey",), "spec.avatar.plugin.credentialsSecretRef")
    unneeded = ({"provider": "None", "plugin": plugin}, {"provider": "Plugin", "plugin": {"name": "bey"}})
    assert all(len(wanted_secrets(spec(avatar=avatar))) == 2 for avatar in unneeded)


def test_secret_of_a_tool_is_needed_and_named() -> None:
    header = {"name": "Authorization", "secretKeyRef": {"name": "shop", "key": "token"}}
    tool = {"name": "order_status", "http": {"description": "d", "url": "https://shop.example/", "headers": [header]}}
    *_, secret = wanted_secrets(spec(tools=[tool]))
    assert (secret.name, secret.keys) == ("shop", ("token",))
    assert secret.field == "header Authorization of the tool order_status in spec.tools"


def test_secrets_of_stages_and_fallbacks_are_needed() -> None:
    own = {"credentialsSecretRef": {"name": "own"}}
    voice = {**SPEC["voice"], "stt": own, "tts": {"fallbacks": [{"credentialsSecretRef": {"name": "spare"}}]}}
    assert [(secret.name, secret.field) for secret in wanted_secrets(spec(voice=voice))][1:] == [
        ("openai", "spec.voice.openai.credentialsSecretRef"),
        ("own", "spec.voice.stt.credentialsSecretRef"),
        ("spare", "spec.voice.tts.fallbacks[0].credentialsSecretRef"),
    ]
    alone = dict.fromkeys(("stt", "llm", "tts"), own)
    unused = {**SPEC["voice"], **alone}
    assert {secret.name for secret in wanted_secrets(spec(voice=unused))} == {"livekit", "own"}


def test_rejected_key_of_a_stage_names_its_fields() -> None:
    own = {"baseURL": "http://whisper.test/v1", "credentialsSecretRef": {"name": "own"}}
    rejected = ProviderAnswer(ProviderVerdict.REJECTED, "HTTP 401")
    answers = {"LiveKit": ProviderAnswer(ProviderVerdict.ACCEPTED), "OpenAI (spec.voice.stt)": rejected}
    message = credentials_valid(spec(voice={**SPEC["voice"], "stt": own}), answers).message
    assert "OpenAI (spec.voice.stt) at http://whisper.test/v1 rejects apiKey of Secret 'own': HTTP 401" in message


def test_secrets_of_reports_and_traces_are_needed_and_named() -> None:
    header = {"name": "Authorization", "secretKeyRef": {"name": "traces", "key": "token"}}
    reference = {"name": "crm", "key": "signingKey"}
    report = {"url": "https://crm.example/calls", "secretKeyRef": reference, "include": ["Usage"]}
    tracing = {"otlpEndpoint": "http://collector:4318", "headers": [header]}
    *_, signing, token = wanted_secrets(spec(report=report, tracing=tracing))
    assert (signing.name, signing.keys, signing.field) == ("crm", ("signingKey",), "spec.report.secretKeyRef")
    assert (token.name, token.keys, token.field) == ("traces", ("token",), "header Authorization in spec.tracing")


@pytest.mark.parametrize("key", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "abc"])
def test_signing_key_of_another_form_is_explained(key: str) -> None:
    reference = {"name": "crm", "key": "signingKey"}
    report = {"url": "https://crm.example/calls", "secretKeyRef": reference, "include": ["Usage"]}
    wanted = wanted_secrets(spec(report=report))
    values = VALUES | {"crm": {"signingKey": key}}
    verdict = secrets_complete("shop", wanted, {name: observe_secret(name, held) for name, held in values.items()})
    if key != "abc":
        assert verdict is None
        return
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, Reason.SECRET_KEY_MISSING)
    assert verdict.message.startswith(
        "Secret 'crm' (spec.report.secretKeyRef) has no signing key in signingKey: set whsec_ and 24 to 64 random bytes"
    )


def test_complete_secrets_have_no_fault() -> None:
    assert judged() is None
    assert judged(openai={"apiKey": "sk", "picture": "\ufffdPNG"}) is None, "an unused key may hold anything"


PATCH = """kubectl -n shop patch secret openai -p '{"stringData":{"apiKey":"…"}}'"""


@pytest.mark.parametrize(
    ("changes", "reason", "text"),
    [
        pytest.param(
            {"livekit": None},
            Reason.SECRET_NOT_FOUND,
            "kubectl -n shop create secret generic livekit --from-literal=apiKey=… --from-literal=apiSecret=…",
            id="missing Secret, with the command that creates it",
        ),
        pytest.param(
            {"livekit": {"apiKey": "key", "secret": "secret"}},
            Reason.SECRET_KEY_MISSING,
            "no value for apiSecret. Keys with a value: apiKey, secret.",
            id="missing key, with the existing keys",
        ),
        pytest.param(
            {"openai": {"OPENAI_API_KEY": "sk"}},
            Reason.SECRET_KEY_MISSING,
            PATCH,
            id="key with another name, with the command that adds it",
        ),
        pytest.param(
            {"tavus": {}},
            Reason.SECRET_KEY_MISSING,
            "(spec.avatar.tavus.credentialsSecretRef) has no value for apiKey. Keys with a value: none.",
            id="empty Secret, with the field that names it",
        ),
        pytest.param(
            {"openai": {"apiKey": ""}},
            Reason.SECRET_KEY_MISSING,
            "has no value for apiKey. Keys with a value: none.",
            id="empty value",
        ),
        pytest.param(
            {"openai": {f"key-{number}": "value" for number in range(5000)}},
            Reason.SECRET_KEY_MISSING,
            "key-1005 and 4990 more.",
            id="Secret with many other keys, not all listed",
        ),
        pytest.param(
            {"openai": {"apiKey": "sk-1\r\nX-Injected: yes"}},
            Reason.SECRET_KEY_MISSING,
            "an unusable value for apiKey: it contains a line break",
            id="two lines",
        ),
        pytest.param(
            {"openai": {"apiKey": "sk-١٢٣"}},
            Reason.SECRET_KEY_MISSING,
            PATCH,
            id="letters that a header cannot contain, with the command",
        ),
        pytest.param({"openai": {"apiKey": "sk\0"}}, Reason.SECRET_KEY_MISSING, "control characters", id="a NUL"),
        pytest.param(
            {"openai": {"apiKey": "\ufffd\ufffd"}}, Reason.SECRET_KEY_MISSING, "is not UTF-8 text", id="bytes"
        ),
        pytest.param(
            {"livekit": {"apiKey": "key", "apiSecret": "s" * 5000}},
            Reason.SECRET_KEY_MISSING,
            "has 5000 characters; the maximum is 4096",
            id="a file",
        ),
    ],
)
def test_faulty_secret_is_reported_with_the_remedy(
    changes: dict[str, dict[str, str] | None], reason: Reason, text: str
) -> None:
    verdict = judged(**changes)
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, reason)
    assert text in verdict.message


def test_forbidden_secret_is_reported_with_the_api_servers_message() -> None:
    seen = {name: observe_secret(name, held) for name, held in VALUES.items()}
    problem = ReadFailure('secrets "openai" is forbidden: User cannot get resource.', permanent=True)
    seen["openai"] = observe_secret("openai", None, problem)
    verdict = secrets_complete("shop", WANTED, seen)
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, Reason.SECRET_UNREADABLE)
    assert '(spec.voice.openai.credentialsSecretRef): secrets "openai" is forbidden' in verdict.message
    assert "Allow the controller's ServiceAccount to get Secrets in namespace 'shop'" in verdict.message


def test_secret_that_the_api_server_fails_to_read_is_unknown() -> None:
    seen = {name: observe_secret(name, held) for name, held in VALUES.items()}
    seen["livekit"] = observe_secret("livekit", None, ReadFailure("kms: unavailable", permanent=False))
    verdict = secrets_complete("shop", WANTED, seen)
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (ConditionStatus.UNKNOWN, Reason.SECRET_UNREADABLE)
    assert "cannot read Secret 'livekit' (spec.livekit.credentialsSecretRef): kms: unavailable." in verdict.message
    assert verdict.blocks_rollout


@given(st.text(max_size=64))
def test_no_message_contains_a_secret_value(value: str) -> None:
    seen = {name: observe_secret(name, held) for name, held in {**VALUES, "openai": {"apiKey": value}}.items()}
    verdict = secrets_complete("shop", WANTED, seen)
    assert len(value) < 12 or value not in str((seen, verdict))
    if verdict is None:
        assert value.encode("ascii")
        assert "\n" not in value


def test_fingerprint_covers_exactly_the_values_in_use() -> None:
    own = fingerprint("uid", WANTED, VALUES)
    assert own == fingerprint("uid", WANTED, {**VALUES, "openai": {"apiKey": "sk", "other": "changed"}})
    assert own != fingerprint("uid", WANTED, {**VALUES, "openai": {"apiKey": "rotated"}})
    assert own != fingerprint("another uid", WANTED, VALUES), "agents cannot be compared"
    assert own == "48019527b4b0", "an upgrade rolls nothing out"
    assert own != fingerprint("uid", WANTED, VALUES, [("MENU", "a")])
    assert fingerprint("uid", WANTED, VALUES, [("MENU", "a")]) != fingerprint("uid", WANTED, VALUES, [("MENU", "b")])


GOOD = ProviderAnswer(ProviderVerdict.ACCEPTED)
REJECTED = ProviderAnswer(ProviderVerdict.REJECTED, "HTTP 401")
UNREACHABLE = ProviderAnswer(ProviderVerdict.UNREACHABLE, "no answer within 5 s")
PENDING = ProviderAnswer(ProviderVerdict.PENDING)
UNKNOWN_FACE_ID = ProviderAnswer(ProviderVerdict.ACCEPTED, "does not know face ID 'face'")


@pytest.mark.parametrize(
    ("livekit", "openai", "tavus", "status", "reason", "texts"),
    [
        pytest.param(
            GOOD,
            GOOD,
            GOOD,
            ConditionStatus.TRUE,
            Reason.CREDENTIALS_ACCEPTED,
            ["LiveKit, OpenAI and Tavus accept their keys."],
            id="all providers accept",
        ),
        pytest.param(
            REJECTED,
            GOOD,
            GOOD,
            ConditionStatus.FALSE,
            Reason.CREDENTIALS_REJECTED,
            ["LiveKit at wss://livekit.example rejects apiKey and apiSecret of Secret 'livekit': HTTP 401."],
            id="LiveKit rejects",
        ),
        pytest.param(
            GOOD,
            REJECTED,
            REJECTED,
            ConditionStatus.FALSE,
            Reason.CREDENTIALS_REJECTED,
            [
                "OpenAI at https://api.openai.com/v1 rejects apiKey of Secret 'openai'",
                "Tavus at https://tavusapi.com/v2 rejects apiKey of Secret 'tavus'",
            ],
            id="two providers reject, both named",
        ),
        pytest.param(
            UNREACHABLE,
            GOOD,
            GOOD,
            ConditionStatus.FALSE,
            Reason.LIVEKIT_UNREACHABLE,
            ["LiveKit is unreachable at wss://livekit.example: no answer within 5 s. Check spec.livekit.url"],
            id="LiveKit unreachable",
        ),
        pytest.param(
            UNREACHABLE,
            REJECTED,
            UNREACHABLE,
            ConditionStatus.FALSE,
            Reason.LIVEKIT_UNREACHABLE,
            ["LiveKit is unreachable", "OpenAI at https://api.openai.com/v1 rejects"],
            id="LiveKit unreachable and OpenAI rejects, both named",
        ),
        pytest.param(
            GOOD,
            UNREACHABLE,
            REJECTED,
            ConditionStatus.FALSE,
            Reason.CREDENTIALS_REJECTED,
            ["Tavus at https://tavusapi.com/v2 rejects"],
            id="a rejection outweighs an unreachable provider",
        ),
        pytest.param(
            GOOD,
            UNREACHABLE,
            GOOD,
            ConditionStatus.UNKNOWN,
            Reason.PROVIDER_UNREACHABLE,
            [
                "could not check apiKey of Secret 'openai' with OpenAI at https://api.openai.com/v1",
                "check spec.voice.openai.baseURL",
                "Workers run",
            ],
            id="OpenAI unreachable",
        ),
        pytest.param(
            PENDING,
            UNREACHABLE,
            GOOD,
            ConditionStatus.UNKNOWN,
            Reason.CREDENTIALS_PENDING,
            ["checking apiKey and apiSecret of Secret 'livekit' with LiveKit at wss://livekit.example", "no new"],
            id="LiveKit pending outweighs OpenAI unreachable",
        ),
        pytest.param(
            GOOD,
            REJECTED,
            PENDING,
            ConditionStatus.FALSE,
            Reason.CREDENTIALS_REJECTED,
            ["OpenAI at https://api.openai.com/v1 rejects"],
            id="a rejection outweighs a pending provider",
        ),
        pytest.param(
            GOOD,
            GOOD,
            UNKNOWN_FACE_ID,
            ConditionStatus.TRUE,
            Reason.CREDENTIALS_ACCEPTED,
            ["accept their keys. Warning: Tavus accepts the key but does not know face ID 'face'."],
            id="a warning is reported",
        ),
    ],
)
def test_credentials_valid(
    livekit: ProviderAnswer,
    openai: ProviderAnswer,
    tavus: ProviderAnswer,
    status: ConditionStatus,
    reason: Reason,
    texts: list[str],
) -> None:
    answers: dict[str, ProviderAnswer] = {Provider.LIVEKIT: livekit, Provider.OPENAI: openai, Provider.TAVUS: tavus}
    verdict = credentials_valid(spec(avatar=TAVUS), answers)
    assert (verdict.status, verdict.reason) == (status, reason)
    for text in texts:
        assert text in verdict.message


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        ([Provider.LIVEKIT], "All Secrets are complete, and LiveKit accepts its keys."),
        ([Provider.OPENAI, Provider.LIVEKIT], "All Secrets are complete, and OpenAI and LiveKit accept their keys."),
    ],
    ids=["one", "two"],
)
def test_message_lists_the_providers_that_accept(providers: list[Provider], message: str) -> None:
    assert credentials_valid(spec(), dict.fromkeys(providers, GOOD)).message == message


def test_observed_secret_has_no_values() -> None:
    assert observe_secret("openai", {"apiKey": "sk", "blank": "", "two": "a\nb"}) == ObservedSecret(
        "openai", frozenset({"apiKey", "two"}), {"two": "contains a line break"}
    )
