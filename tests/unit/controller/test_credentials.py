"""What is said about Secrets that cannot be used, and about what providers say to those that can."""

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
from tests.unit.controller.builders import TAVUS, spec

WANTED = wanted_secrets(spec(avatar=TAVUS))
VALUES = {"livekit": {"apiKey": "key", "apiSecret": "secret"}, "openai": {"apiKey": "sk"}, "tavus": {"apiKey": "tv"}}


def judged(**changes: dict[str, str] | None) -> Verdict | None:
    return secrets_complete(
        "shop", WANTED, {name: observe_secret(name, held) for name, held in {**VALUES, **changes}.items()}
    )


def test_only_what_the_manifest_uses_is_wanted() -> None:
    assert [secret.name for secret in wanted_secrets(spec())] == ["livekit", "openai"]
    assert [secret.name for secret in WANTED] == ["livekit", "openai", "tavus"]
    off = {**TAVUS, "provider": "None"}
    assert [secret.name for secret in wanted_secrets(spec(avatar=off))] == ["livekit", "openai"]


def test_complete_secrets_need_no_word() -> None:
    assert judged() is None
    assert judged(openai={"apiKey": "sk", "picture": "\ufffdPNG"}) is None, "what nobody uses is nobody's fault"


PATCH = """kubectl -n shop patch secret openai -p '{"stringData":{"apiKey":"…"}}'"""


@pytest.mark.parametrize(
    ("changes", "reason", "told"),
    [
        pytest.param(
            {"livekit": None},
            Reason.SECRET_NOT_FOUND,
            "kubectl -n shop create secret generic livekit --from-literal=apiKey=… --from-literal=apiSecret=…",
            id="a missing Secret: the command that makes it",
        ),
        pytest.param(
            {"livekit": {"apiKey": "key", "secret": "secret"}},
            Reason.SECRET_KEY_MISSING,
            "no value for apiSecret. Keys with a value: apiKey, secret.",
            id="a missing key: the keys that are there",
        ),
        pytest.param(
            {"openai": {"OPENAI_API_KEY": "sk"}},
            Reason.SECRET_KEY_MISSING,
            PATCH,
            id="a key under another name: the command that adds it",
        ),
        pytest.param(
            {"tavus": {}},
            Reason.SECRET_KEY_MISSING,
            "(spec.avatar.tavus.credentialsSecretRef) has no value for apiKey. Keys with a value: none.",
            id="an empty Secret: the field that names it",
        ),
        pytest.param(
            {"openai": {"apiKey": ""}},
            Reason.SECRET_KEY_MISSING,
            "has no value for apiKey. Keys with a value: none.",
            id="an empty value",
        ),
        pytest.param(
            {"openai": {f"key-{number}": "value" for number in range(5000)}},
            Reason.SECRET_KEY_MISSING,
            "key-1005 and 4990 more.",
            id="a Secret of another purpose: not all of its keys",
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
            id="letters that no header can hold: the command that mends it",
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
def test_what_is_wrong_is_named_with_what_to_do(
    changes: dict[str, dict[str, str] | None], reason: Reason, told: str
) -> None:
    verdict = judged(**changes)
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, reason)
    assert told in verdict.message


def test_a_secret_that_may_not_be_read_is_told_in_the_api_servers_words() -> None:
    seen = {name: observe_secret(name, held) for name, held in VALUES.items()}
    problem = ReadFailure('secrets "openai" is forbidden: User cannot get resource.', permanent=True)
    seen["openai"] = observe_secret("openai", None, problem)
    verdict = secrets_complete("shop", WANTED, seen)
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (ConditionStatus.FALSE, Reason.SECRET_UNREADABLE)
    assert '(spec.voice.openai.credentialsSecretRef): secrets "openai" is forbidden' in verdict.message
    assert "Allow the controller's ServiceAccount to get Secrets in namespace 'shop'" in verdict.message


def test_a_secret_that_the_api_server_fails_to_read_is_not_known() -> None:
    seen = {name: observe_secret(name, held) for name, held in VALUES.items()}
    seen["livekit"] = observe_secret("livekit", None, ReadFailure("kms: unavailable", permanent=False))
    verdict = secrets_complete("shop", WANTED, seen)
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (ConditionStatus.UNKNOWN, Reason.SECRET_UNREADABLE)
    assert "cannot read Secret 'livekit' (spec.livekit.credentialsSecretRef): kms: unavailable." in verdict.message
    assert verdict.blocks_rollout


@given(st.text(max_size=64))
def test_no_value_is_shown_and_none_is_too_odd(value: str) -> None:
    seen = {name: observe_secret(name, held) for name, held in {**VALUES, "openai": {"apiKey": value}}.items()}
    verdict = secrets_complete("shop", WANTED, seen)
    assert len(value) < 12 or value not in str((seen, verdict))
    if verdict is None:
        assert value.encode("ascii")
        assert "\n" not in value


def test_the_fingerprint_follows_what_workers_use_and_nothing_else() -> None:
    own = fingerprint("uid", WANTED, VALUES)
    assert own == fingerprint("uid", WANTED, {**VALUES, "openai": {"apiKey": "sk", "other": "changed"}})
    assert own != fingerprint("uid", WANTED, {**VALUES, "openai": {"apiKey": "rotated"}})
    assert own != fingerprint("another uid", WANTED, VALUES), "nobody compares agents"


GOOD = ProviderAnswer(ProviderVerdict.ACCEPTED)
REFUSED = ProviderAnswer(ProviderVerdict.REJECTED, "HTTP 401")
SILENT = ProviderAnswer(ProviderVerdict.UNREACHABLE, "no answer within 5 s")
AWAITED = ProviderAnswer(ProviderVerdict.PENDING)
UNKNOWN_FACE = ProviderAnswer(ProviderVerdict.ACCEPTED, "does not know face ID 'face'")


@pytest.mark.parametrize(
    ("livekit", "openai", "tavus", "status", "reason", "told"),
    [
        pytest.param(
            GOOD,
            GOOD,
            GOOD,
            ConditionStatus.TRUE,
            Reason.CREDENTIALS_ACCEPTED,
            ["LiveKit, OpenAI and Tavus accept their keys."],
            id="all accept",
        ),
        pytest.param(
            REFUSED,
            GOOD,
            GOOD,
            ConditionStatus.FALSE,
            Reason.CREDENTIALS_REJECTED,
            ["LiveKit at wss://livekit.example rejects apiKey and apiSecret of Secret 'livekit': HTTP 401."],
            id="LiveKit rejects",
        ),
        pytest.param(
            GOOD,
            REFUSED,
            REFUSED,
            ConditionStatus.FALSE,
            Reason.CREDENTIALS_REJECTED,
            [
                "OpenAI at https://api.openai.com/v1 rejects apiKey of Secret 'openai'",
                "Tavus at https://tavusapi.com/v2 rejects apiKey of Secret 'tavus'",
            ],
            id="two refuse: both are named",
        ),
        pytest.param(
            SILENT,
            GOOD,
            GOOD,
            ConditionStatus.FALSE,
            Reason.LIVEKIT_UNREACHABLE,
            ["LiveKit is unreachable at wss://livekit.example: no answer within 5 s. Check spec.livekit.url"],
            id="LiveKit is not there",
        ),
        pytest.param(
            SILENT,
            REFUSED,
            SILENT,
            ConditionStatus.FALSE,
            Reason.LIVEKIT_UNREACHABLE,
            ["LiveKit is unreachable", "OpenAI at https://api.openai.com/v1 rejects"],
            id="LiveKit is not there, and what a person can mend meanwhile",
        ),
        pytest.param(
            GOOD,
            SILENT,
            REFUSED,
            ConditionStatus.FALSE,
            Reason.CREDENTIALS_REJECTED,
            ["Tavus at https://tavusapi.com/v2 rejects"],
            id="a refusal counts more than silence",
        ),
        pytest.param(
            GOOD,
            SILENT,
            GOOD,
            ConditionStatus.UNKNOWN,
            Reason.PROVIDER_UNREACHABLE,
            ["OpenAI at https://api.openai.com/v1 could not check", "check spec.voice.openai.baseURL", "Workers run"],
            id="OpenAI is not there: nobody knows",
        ),
        pytest.param(
            AWAITED,
            SILENT,
            GOOD,
            ConditionStatus.UNKNOWN,
            Reason.CREDENTIALS_PENDING,
            ["checking apiKey and apiSecret of Secret 'livekit' with LiveKit at wss://livekit.example", "no new"],
            id="LiveKit is being asked: what it says comes first",
        ),
        pytest.param(
            GOOD,
            REFUSED,
            AWAITED,
            ConditionStatus.FALSE,
            Reason.CREDENTIALS_REJECTED,
            ["OpenAI at https://api.openai.com/v1 rejects"],
            id="Tavus is being asked: a refusal is known already",
        ),
        pytest.param(
            GOOD,
            GOOD,
            UNKNOWN_FACE,
            ConditionStatus.TRUE,
            Reason.CREDENTIALS_ACCEPTED,
            ["accept their keys. Warning: Tavus accepts the key but does not know face ID 'face'."],
            id="a remark is passed on",
        ),
    ],
)
def test_what_providers_say_is_passed_on(
    livekit: ProviderAnswer,
    openai: ProviderAnswer,
    tavus: ProviderAnswer,
    status: ConditionStatus,
    reason: Reason,
    told: list[str],
) -> None:
    answers = {Provider.LIVEKIT: livekit, Provider.OPENAI: openai, Provider.TAVUS: tavus}
    verdict = credentials_valid(spec(avatar=TAVUS), answers)
    assert (verdict.status, verdict.reason) == (status, reason)
    for words in told:
        assert words in verdict.message


def test_a_secret_is_seen_without_its_values() -> None:
    assert observe_secret("openai", {"apiKey": "sk", "blank": "", "two": "a\nb"}) == ObservedSecret(
        "openai", frozenset({"apiKey", "two"}), {"two": "contains a line break"}
    )
