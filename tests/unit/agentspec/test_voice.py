"""The stages of the voice: defaults by provider, where requests go, and which key goes there."""

from typing import Any

import pytest

from agentspec import VoiceSpec, openai_url
from agentspec.voice import KEY_VARIABLES, OPENAI_URL, Address
from agentspec.wire import render

COMMON = {"baseURL": "https://api.test/v1", "credentialsSecretRef": {"name": "openai"}}


def declared(**stages: Any) -> VoiceSpec:
    return VoiceSpec.model_validate(stages)


def test_voice_without_new_fields_is_rendered_as_in_earlier_releases() -> None:
    text = render(declared(openai={"credentialsSecretRef": {"name": "openai"}}))
    assert text == (
        '{"openai":{"baseURL":"https://api.openai.com/v1","credentialsSecretRef":{"name":"openai"}},'
        '"stt":{"model":"whisper-1"},"llm":{"model":"gpt-4o-mini"},"tts":{"model":"tts-1","voice":"onyx"}}'
    )


@pytest.mark.parametrize("provider", [{"provider": "Plugin", "plugin": "deepgram"}, {"provider": "Inference"}])
def test_defaults_of_openai_are_not_those_of_other_providers(provider: dict[str, str]) -> None:
    voice = declared(openai=COMMON, stt=provider, llm=provider, tts=provider)
    assert (voice.stt.model, voice.llm.model, voice.tts.model, voice.tts.voice) == (None, None, None, None)


def test_fallbacks_follow_their_stage() -> None:
    voice = declared(openai=COMMON, llm={"fallbacks": [{"model": "b"}, {"model": "c"}]})
    found = [(entry.field, entry.key_variable) for entry in voice.entries_of("llm")]
    assert found == [
        ("spec.voice.llm", "AVATAR_AGENT_LLM_KEY"),
        ("spec.voice.llm.fallbacks[0]", "AVATAR_AGENT_LLM_KEY_1"),
        ("spec.voice.llm.fallbacks[1]", "AVATAR_AGENT_LLM_KEY_2"),
    ]
    assert {variable for _, variable in found} <= set(KEY_VARIABLES)


def test_realtime_model_takes_the_place_of_two_stages() -> None:
    voice = declared(openai=COMMON, realtime={"voice": "cedar"})
    assert [entry.field for entry in voice.entries()] == ["spec.voice.realtime", "spec.voice.tts"]
    assert (voice.needed_stages, voice.spoken_voice, voice.uses_common) == (("llm",), "cedar", True)
    (entry,) = voice.entries_of("llm")
    assert entry.key_variable in KEY_VARIABLES
    assert voice.address(entry) == Address("https://api.test/v1", "openai", is_common=True)


@pytest.mark.parametrize(
    ("tts", "is_served"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"baseURL": "http://kokoro/v1"}, True, id="an address"),
        pytest.param({"credentialsSecretRef": {"name": "spare"}}, True, id="a key"),
        pytest.param({"provider": "Plugin", "plugin": "deepgram"}, True, id="a plugin"),
    ],
)
def test_tts_beside_a_realtime_model_needs_a_server_of_its_own(tts: dict[str, Any], is_served: bool) -> None:
    voice = declared(realtime={"credentialsSecretRef": {"name": "mine"}}, tts=tts)
    assert bool(list(voice.entries_of("tts"))) is is_served
    assert not voice.uses_common


@pytest.mark.parametrize(
    ("common", "own", "address"),
    [
        pytest.param(COMMON, {}, Address("https://api.test/v1", "openai", is_common=True), id="the common one"),
        pytest.param(
            COMMON,
            {"credentialsSecretRef": {"name": "mine"}},
            Address("https://api.test/v1", "mine", is_common=False),
            id="an own key",
        ),
        pytest.param(
            COMMON,
            {"baseURL": "http://vllm:8000/v1"},
            Address("http://vllm:8000/v1", None, is_common=False),
            id="an own address without a key gets no other key",
        ),
        pytest.param(
            None,
            {"credentialsSecretRef": {"name": "mine"}},
            Address(OPENAI_URL, "mine", is_common=False),
            id="no common one",
        ),
    ],
)
def test_key_goes_only_to_its_own_server(common: dict[str, Any] | None, own: dict[str, Any], address: Address) -> None:
    voice = declared(**({"openai": common} if common else {}), llm=own)
    assert voice.address(next(voice.entries_of("llm"))) == address


def test_common_key_is_used_while_a_stage_needs_it() -> None:
    own = {"baseURL": "http://vllm:8000/v1"}
    assert declared(openai=COMMON, stt=own, llm=own).uses_common
    assert not declared(openai=COMMON, stt=own, llm=own, tts=own).uses_common
    assert declared(openai=COMMON, stt=own, llm=own, tts={**own, "fallbacks": [{}]}).uses_common


@pytest.mark.parametrize(
    ("url", "base", "query", "is_azure"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1", {}, False),
        ("http://vllm:8000/v1/?tenant=a&x=", "http://vllm:8000/v1", {"tenant": "a", "x": ""}, False),
        ("https://r.azure.test/openai?api-version=1", "https://r.azure.test/openai", {"api-version": "1"}, True),
        (
            "https://r.azure.test/openai/v1/?api-version=1",
            "https://r.azure.test/openai/v1",
            {"api-version": "1"},
            False,
        ),
    ],
)
def test_url_is_split_into_base_and_query(url: str, base: str, query: dict[str, str], is_azure: bool) -> None:
    parsed = openai_url.parse(url)
    assert (parsed.base, parsed.query, parsed.is_azure) == (base, query, is_azure)
