"""The settings of stages: each fault is found before a caller comes, and named by its field."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import aiohttp
import pytest
import yaml
from livekit.agents import NOT_GIVEN, NotGivenOr
from livekit.plugins import openai
from openai import AsyncAzureOpenAI
from openai._models import FinalRequestOptions

from agentspec import VoiceSpec
from agentspec.wire import ProviderStage
from devkit.paths import REPOSITORY
from worker.call import voice
from worker.call.providers.clients import connect
from worker.call.providers.limited import LimitedLLM, LimitedSTT, LimitedTTS
from worker.call.providers.make import Keys

KEY = "key-of-the-plugin"
Make = Callable[..., voice.Stages]


class FakeSTT(openai.STT):
    def __init__(
        self,
        *,
        model: str = "nova",
        language: str = "en-US",
        smart_format: NotGivenOr[bool] = NOT_GIVEN,
        tags: list[str] | None = None,
        mode: Literal["fast", "exact"] = "fast",
        api_key: str | None = None,
        http_session: aiohttp.ClientSession | None = None,
    ) -> None:
        if not api_key:
            raise ValueError("FAKE_API_KEY must be set")
        if model == "leak":
            raise ValueError(f"bad key {api_key}")
        super().__init__(model=model, api_key=api_key, use_realtime=False)
        self.given = (model, language, smart_format, tags, api_key)


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that has an stt only."""
    module: Any = ModuleType("livekit.plugins.fake")
    module.STT = FakeSTT
    monkeypatch.setitem(sys.modules, "livekit.plugins.fake", module)


@pytest.fixture
async def stages() -> AsyncIterator[Make]:
    made: list[voice.Stages] = []

    def make(**changes: Any) -> voice.Stages:
        declared = VoiceSpec.model_validate({"openai": {"credentialsSecretRef": {"name": "openai"}}, **changes})
        keys = Keys({"AVATAR_AGENT_STT_KEY": KEY}, ("lk", "a secret of at least thirty-two bytes"))
        made.append(voice.Stages(declared, voice.make_client(declared, "common"), keys))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


def fake(**changes: Any) -> dict[str, Any]:
    return {"provider": "Plugin", "plugin": "fake", "credentialsSecretRef": {"name": "fake"}, **changes}


async def test_plugin_gets_fields_key_language_and_options(stages: Make) -> None:
    made = stages(stt=fake(model="nova-3", options={"smart_format": True, "tags": ["a"]}))
    assert made.check("ar-SY") == {}
    stage = made.make_stt("ar-SY").inner
    assert isinstance(stage, LimitedSTT) and isinstance(stage.inner, FakeSTT)
    assert stage.inner.given == ("nova-3", "ar-SY", True, ["a"], KEY)


GATEWAY = {"provider": "Inference", "baseURL": "http://gateway.test/v1"}


@pytest.mark.parametrize(("call", "sent"), [("nb", "no"), ("nb-NO", "no-NO"), ("iw-IL", "he-IL"), ("pt-BR", "pt-BR")])
async def test_stt_of_every_provider_gets_the_usual_code_with_its_region(stages: Make, call: str, sent: str) -> None:
    plugin: Any = stages(stt=fake()).make_stt(call).inner
    gateway: Any = stages(stt={**GATEWAY, "model": "deepgram/nova-3"}).make_stt(call)
    assert plugin.inner.given[1] == sent
    assert gateway.inner._opts.language == sent


@pytest.mark.parametrize(("call", "spoken"), [("en-GB", "en"), ("ar-SY", "ar"), ("nb-NO", "no")])
async def test_tts_speaks_the_language_of_the_call(stages: Make, call: str, spoken: str) -> None:
    plugin = {"provider": "Plugin", "plugin": "cartesia", "options": {"api_key": "k"}}
    gateway = {**GATEWAY, "model": "cartesia/sonic"}
    made = stages(tts={**plugin, "fallbacks": [gateway]})
    async with made.http_session():
        speech: Any = made.make_tts(call)
        assert [one.inner._opts.language for one in speech._tts_instances] == [spoken, spoken]
        session: Any = voice.make_session(made, call)
        assert session.tts._tts_instances[0].inner._opts.language == spoken
        await speech.aclose()
        await session.tts.aclose()


async def test_options_have_priority_over_fields(stages: Make) -> None:
    made = stages(stt=fake(model="nova-3", options={"language": "multi", "model": "nova-2"}))
    stage: Any = made.make_stt("ar").inner
    assert stage.inner.given[:2] == ("nova-2", "multi")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"plugin": "depgram"},
            ["spec.voice.stt.plugin: ", "no livekit.plugins.depgram", "worker.image"],
            id="plugin",
        ),
        pytest.param(
            {"options": {"modle": "x"}},
            [
                "spec.voice.stt.options: modle is no option of",
                "which takes model (text), language (text), smart_format",
            ],
            id="name of an option",
        ),
        pytest.param(
            {"options": {"smart_format": "yes"}},
            ["spec.voice.stt.options: smart_format must be true or false, not text"],
            id="type of an option",
        ),
        pytest.param(
            {"options": {"tags": "a"}}, ["spec.voice.stt.options: tags must be list, not text"], id="type of a list"
        ),
        pytest.param(
            {"options": {"mode": "slow"}}, ["options: mode must be fast or exact, not text"], id="value of an option"
        ),
        pytest.param(
            {"options": {"http_session": "x"}}, ["options: http_session must be"], id="an object of the process"
        ),
        pytest.param({"baseURL": "http://a.test"}, ["spec.voice.stt.baseURL: ", "takes no base_url"], id="a field"),
        pytest.param(
            {"credentialsSecretRef": None}, ["spec.voice.stt: ValueError: FAKE_API_KEY must be set"], id="no key"
        ),
        pytest.param({"model": "leak"}, ["spec.voice.stt: ValueError: its constructor failed"], id="a key in the text"),
    ],
)
async def test_fault_of_a_plugin_is_named(stages: Make, changes: dict[str, Any], words: list[str]) -> None:
    made = stages(stt=fake(**changes))
    if changes.get("credentialsSecretRef", "") is None:
        made._providers._keys = Keys()
    (found,) = made.check("en").items()
    stage, fault = found
    assert stage is ProviderStage.STT
    for word in words:
        assert word in fault
    assert KEY not in fault


async def test_plugin_without_the_stage_is_named(stages: Make) -> None:
    assert stages(tts=fake()).check("en") == {
        ProviderStage.TTS: "spec.voice.tts.plugin: livekit.plugins.fake has no TTS"
    }


async def test_plugin_that_cannot_be_imported_is_named(
    stages: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import livekit.plugins

    (tmp_path / "broken.py").write_text("import a_module_that_is_not_there")
    monkeypatch.setattr(livekit.plugins, "__path__", [*livekit.plugins.__path__, str(tmp_path)])
    (fault,) = stages(llm=fake(plugin="broken")).check("en").values()
    assert (
        "livekit.plugins.broken cannot be imported: ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
        in fault
    )


async def test_fault_of_a_fallback_names_the_fallback(stages: Make) -> None:
    made = stages(llm={"fallbacks": [{"options": {"temprature": 0.1}}]})
    (fault,) = made.check("en").values()
    assert fault.startswith(
        "spec.voice.llm.fallbacks[0].options: temprature is no option of livekit.plugins.openai.LLM"
    )


async def test_options_of_openai_are_passed_on(stages: Make) -> None:
    made = stages(llm={"options": {"temperature": 0.1, "max_completion_tokens": 50}}, tts={"options": {"speed": 1.2}})
    assert made.check("en") == {}
    model: Any = made.make_llm()
    speech: Any = made.make_tts("en")
    assert (model._opts.temperature, model._opts.max_completion_tokens, speech._opts.speed) == (0.1, 50, 1.2)


async def test_gateway_of_livekit_needs_its_keys_only(stages: Make) -> None:
    made = stages(
        stt={**GATEWAY, "model": "deepgram/nova-3"},
        llm={**GATEWAY, "model": "openai/gpt-4o-mini"},
        tts={**GATEWAY, "model": "cartesia/sonic", "voice": "v"},
    )
    assert made.check("ar") == {}
    model, speech = made.make_llm(), made.make_tts("ar")
    assert isinstance(model, LimitedLLM) and isinstance(speech, LimitedTTS)
    assert (model.model, speech.model) == ("openai/gpt-4o-mini", "cartesia/sonic")
    await model.aclose()


@pytest.mark.parametrize(
    ("url", "key", "sent_to", "headers"),
    [
        ("http://a.test/v1", "k", "http://a.test/v1/chat/completions", {"authorization": "Bearer k"}),
        ("http://a.test/v1?t=a", "k", "http://a.test/v1/chat/completions?t=a", {"authorization": "Bearer k"}),
        (
            "https://r.test/openai?api-version=2&x=1",
            "k",
            "https://r.test/openai/deployments/m/chat/completions?api-version=2&x=1",
            {"api-key": "k"},
        ),
        (
            "https://r.test/openai/deployments/d?api-version=2",
            "k",
            "https://r.test/openai/deployments/d/chat/completions?api-version=2",
            {"api-key": "k"},
        ),
        (
            "https://r.test/openai/v1/?api-version=preview",
            "k",
            "https://r.test/openai/v1/chat/completions?api-version=preview",
            {"authorization": "Bearer k"},
        ),
    ],
    ids=["plain", "with a query", "Azure", "an Azure deployment", "Azure's newer dialect"],
)
async def test_request_has_the_query_and_the_key_of_its_dialect(
    url: str, key: str, sent_to: str, headers: dict[str, str]
) -> None:
    client = connect(url, key)
    options = FinalRequestOptions(method="post", url="/chat/completions", json_data={"model": "m"})
    request = client._build_request(options)
    assert str(request.url) == sent_to
    assert {name: value for name, value in request.headers.items() if name in ("authorization", "api-key")} == headers
    assert isinstance(client, AsyncAzureOpenAI) is ("api-key" in headers)
    await client.close()


def example(path: Path) -> VoiceSpec:
    (spec,) = [one["spec"] for one in yaml.safe_load_all(path.read_text()) if one["kind"] == "AvatarAgent"]
    return VoiceSpec.model_validate(spec["voice"])


EXAMPLES = sorted((REPOSITORY / "examples/providers").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
async def test_settings_of_every_example_can_be_used(path: Path) -> None:
    """The plugins of the image take the options that the examples set."""
    declared = example(path)
    keys = Keys({entry.key_variable: "key" for entry in declared.entries()}, ("lk", "s" * 32))
    made = voice.Stages(declared, voice.make_client(declared, ""), keys)
    async with made.http_session():
        assert made.check("en") == {}
    await made.aclose()
