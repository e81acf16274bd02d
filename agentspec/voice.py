"""Providers and models of the voice: one provider for each of the stages stt, llm and tts, with fallbacks."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, WithJsonSchema

from agentspec.fields import FreeObject, LocalRef, base_url, provider_word, rules, text
from agentspec.model import Model

OPENAI_URL = "https://api.openai.com/v1"
MAX_FALLBACKS = 3

_Model = Annotated[str, provider_word("model")]
_BaseURL = Annotated[str, base_url(OPENAI_URL)]


class StageProvider(StrEnum):
    """Who serves a stage."""

    OPENAI = "OpenAI"
    PLUGIN = "Plugin"
    INFERENCE = "Inference"


class OpenAISpec(Model):
    """The OpenAI API, or a compatible one."""

    base_url: _BaseURL = Field(
        default=OPENAI_URL,
        description="Base URL of the OpenAI API, or of a compatible one. A query is part of each request.",
    )
    credentials_secret_ref: LocalRef = Field(description="Secret that contains the key `apiKey`, as `{name: NAME}`.")


class ProviderSpec(
    Model,
    json_schema_extra=rules(
        (
            "(self.provider == 'Plugin') == has(self.plugin)",
            "provider Plugin needs plugin, and no other provider has one: set plugin to a module of livekit.plugins "
            "such as deepgram, or remove plugin",
        ),
        (
            "self.provider != 'Inference' || has(self.model)",
            "provider Inference needs a model: set model to a name of LiveKit's gateway, such as deepgram/nova-3",
        ),
        (
            "self.provider != 'Inference' || !has(self.credentialsSecretRef)",
            "provider Inference uses the keys of spec.livekit: remove credentialsSecretRef",
        ),
    ),
):
    """The provider of a stage."""

    provider: StageProvider = Field(
        default=StageProvider.OPENAI,
        exclude_if=lambda provider: provider is StageProvider.OPENAI,
        description="OpenAI: the OpenAI API, or a compatible one. Plugin: a plugin of livekit-agents in the worker "
        "image. Inference: LiveKit's model gateway, with the keys of `livekit`.",
    )
    plugin: (
        Annotated[
            str,
            text(
                r"^[a-z][a-z0-9_]*$",
                "set the module's name in livekit.plugins, such as deepgram: lower-case letters, digits and '_'",
                max_length=64,
            ),
        ]
        | None
    ) = Field(
        default=None,
        exclude_if=lambda plugin: plugin is None,
        description="Plugin of provider Plugin: the module's name in `livekit.plugins`.",
    )
    base_url: _BaseURL | None = Field(
        default=None,
        exclude_if=lambda url: url is None,
        description="Base URL of the provider. A query is part of each request. Unset: that of `voice.openai` with "
        "provider OpenAI, and the provider's own with the others.",
    )
    credentials_secret_ref: LocalRef | None = Field(
        default=None,
        exclude_if=lambda ref: ref is None,
        description="Secret that contains the key `apiKey`, as `{name: NAME}`. Unset, with provider OpenAI: that of "
        "`voice.openai`, unless `baseURL` is set. A stage with a `baseURL` of its own sends only a key of its own.",
    )
    options: FreeObject = Field(
        default_factory=dict,
        exclude_if=lambda options: not options,
        description="Further options: keyword arguments of the plugin's class STT, LLM or TTS. Workers check names and "
        "types when they start. No secrets: set those in `credentialsSecretRef` or `worker.env`.",
    )


def _default(value: str) -> Any:  # noqa: ANN401 - a default factory of pydantic
    """Return the factory of a field's default with provider OpenAI; the other providers have defaults of their own."""
    return lambda data: value if data.get("provider") is StageProvider.OPENAI else None


def _unless_set(what: str, value: str) -> str:
    return f"{what} Unset: `{value}` with provider OpenAI, and the provider's own default with the others."


class SpeechToTextProvider(ProviderSpec):
    """A provider of speech-to-text."""

    model: _Model | None = Field(
        default_factory=_default("whisper-1"),
        exclude_if=lambda model: model is None,
        description=_unless_set("Transcription model.", "whisper-1"),
    )


class SpeechToTextSpec(SpeechToTextProvider):
    """Speech-to-text settings."""

    fallbacks: list[SpeechToTextProvider] = Field(
        default_factory=list,
        max_length=MAX_FALLBACKS,
        exclude_if=lambda fallbacks: not fallbacks,
        description="Providers that take over in this order when the first one fails or does not answer in time.",
    )


class LanguageModelProvider(ProviderSpec):
    """A provider of a language model."""

    model: _Model | None = Field(
        default_factory=_default("gpt-4o-mini"),
        exclude_if=lambda model: model is None,
        description=_unless_set("Chat model.", "gpt-4o-mini"),
    )


class LanguageModelSpec(LanguageModelProvider):
    """Language model settings."""

    fallbacks: list[LanguageModelProvider] = Field(
        default_factory=list,
        max_length=MAX_FALLBACKS,
        exclude_if=lambda fallbacks: not fallbacks,
        description="Providers that take over in this order when the first one fails or does not answer in time.",
    )


class TextToSpeechProvider(ProviderSpec):
    """A provider of text-to-speech."""

    model: _Model | None = Field(
        default_factory=_default("tts-1"),
        exclude_if=lambda model: model is None,
        description=_unless_set("Speech model.", "tts-1"),
    )
    voice: Annotated[str, provider_word("voice")] | None = Field(
        default_factory=_default("onyx"),
        exclude_if=lambda voice: voice is None,
        description=_unless_set("Voice of the agent.", "onyx"),
    )


class TextToSpeechSpec(TextToSpeechProvider):
    """Text-to-speech settings."""

    fallbacks: list[TextToSpeechProvider] = Field(
        default_factory=list,
        max_length=MAX_FALLBACKS,
        exclude_if=lambda fallbacks: not fallbacks,
        description="Providers that take over in this order when the first one fails or does not answer in time.",
    )


class RealtimeSpec(Model):
    """A speech-to-speech model: it hears, thinks and speaks."""

    provider: Annotated[
        Literal[StageProvider.OPENAI], WithJsonSchema({"type": "string", "enum": [StageProvider.OPENAI.value]})
    ] = Field(
        default=StageProvider.OPENAI,
        exclude_if=lambda provider: provider is StageProvider.OPENAI,
        description="OpenAI: OpenAI's Realtime API, or a compatible one.",
    )
    model: _Model = Field(default="gpt-realtime", description="Realtime model.")
    voice: Annotated[str, provider_word("voice")] = Field(default="marin", description="Voice of the agent.")
    base_url: _BaseURL | None = Field(
        default=None,
        exclude_if=lambda url: url is None,
        description="Base URL of the API; its path and `/realtime` are the WebSocket's. Unset: that of `voice.openai`.",
    )
    credentials_secret_ref: LocalRef | None = Field(
        default=None,
        exclude_if=lambda ref: ref is None,
        description="Secret that contains the key `apiKey`, as `{name: NAME}`. Unset: that of `voice.openai`, unless "
        "`baseURL` is set.",
    )

    @property
    def options(self) -> dict[str, Any]:
        """No provider of this kind has further options."""
        return {}

    @property
    def plugin(self) -> None:
        """No provider of this kind is a plugin."""
        return


class Address(NamedTuple):
    """Where the requests of a provider OpenAI go."""

    base_url: str
    secret: str | None
    """Secret with the key; None: the server gets no key."""
    is_common: bool
    """The key is that of `voice.openai`."""


class StageEntry(NamedTuple):
    """One provider of a stage: the first, or a fallback."""

    stage: str
    """stt, llm or tts."""
    position: int
    """0: the first provider; from 1: its fallbacks."""
    provider: SpeechToTextProvider | LanguageModelProvider | TextToSpeechProvider | RealtimeSpec

    @property
    def field(self) -> str:
        """The field in the manifest."""
        if isinstance(self.provider, RealtimeSpec):
            return "spec.voice.realtime"
        return f"spec.voice.{self.stage}" + (f".fallbacks[{self.position - 1}]" if self.position else "")

    @property
    def key_variable(self) -> str:
        """The worker's environment variable with the key of `credentialsSecretRef`."""
        return key_variable(self.stage, self.position)


def key_variable(stage: str, index: int) -> str:
    """Return the worker's environment variable with a key of a stage's own."""
    return f"AVATAR_AGENT_{stage.upper()}_KEY" + (f"_{index}" if index else "")


STAGES = ("stt", "llm", "tts")
KEY_VARIABLES = tuple(key_variable(stage, index) for stage in STAGES for index in range(MAX_FALLBACKS + 1))
"""All environment variables of a worker that may contain a stage's own key."""


def _is_served(stage: str) -> str:
    """Return the CEL condition that each OpenAI provider of a stage has an address or a key of its own."""
    own = "({0}.provider != 'OpenAI' || has({0}.baseURL) || has({0}.credentialsSecretRef))"
    first = f"self.{stage}"
    return f"{own.format(first)} && (!has({first}.fallbacks) || {first}.fallbacks.all(one, {own.format('one')}))"


def _is_unset(stage: str, model: str) -> str:
    """Return the CEL condition that a stage has no settings. Earlier releases stored the default model."""
    fields = ("plugin", "baseURL", "credentialsSecretRef", "options", "fallbacks")
    absent = " && ".join(f"!has(self.{stage}.{field})" for field in fields)
    is_default = f"self.{stage}.provider == 'OpenAI' && (!has(self.{stage}.model) || self.{stage}.model == '{model}')"
    return f"{is_default} && {absent}"


class VoiceSpec(
    Model,
    json_schema_extra=rules(
        (
            "!has(self.realtime) || has(self.openai) || has(self.realtime.baseURL) || "
            "has(self.realtime.credentialsSecretRef)",
            "voice.realtime needs an API key: set voice.openai, or baseURL or credentialsSecretRef in voice.realtime",
        ),
        (
            f"!has(self.realtime) || ({_is_unset('stt', 'whisper-1')} && {_is_unset('llm', 'gpt-4o-mini')})",
            "voice.realtime replaces voice.stt and voice.llm: remove the settings of both, or remove voice.realtime",
        ),
        (
            f"has(self.openai) || has(self.realtime) || ({' && '.join(_is_served(stage) for stage in STAGES)})",
            "set voice.openai, or set baseURL or credentialsSecretRef in each stage and fallback with provider OpenAI, "
            "which is the default of voice.stt, voice.llm and voice.tts",
        ),
    ),
):
    """Providers and models of the voice."""

    openai: OpenAISpec | None = Field(
        default=None,
        exclude_if=lambda openai: openai is None,
        description="Common default of all stages with provider OpenAI. It may be absent when none needs it.",
    )
    stt: SpeechToTextSpec = Field(default_factory=SpeechToTextSpec, description="Speech-to-text settings.")
    llm: LanguageModelSpec = Field(default_factory=LanguageModelSpec, description="Language model settings.")
    tts: TextToSpeechSpec = Field(default_factory=TextToSpeechSpec, description="Text-to-speech settings.")

    realtime: RealtimeSpec | None = Field(
        default=None,
        exclude_if=lambda realtime: realtime is None,
        description="Speech-to-speech model in place of `stt` and `llm`. It speaks the prepared sentences too. `tts` "
        "speaks those that the model does not read word for word, when `voice.openai` or settings of its own serve it.",
    )

    def entries(self) -> Iterator[StageEntry]:
        """Yield the providers of all stages, and after each its fallbacks."""
        for stage in STAGES:
            yield from self.entries_of(stage)

    def entries_of(self, stage: str) -> Iterator[StageEntry]:
        """Yield the providers of a stage, the first one first. A realtime model is the provider of llm."""
        if stage == "llm" and self.realtime is not None:
            yield StageEntry(stage, 0, self.realtime)
        if self.realtime is not None and not (stage == "tts" and self._serves_tts):
            return
        first: SpeechToTextSpec | LanguageModelSpec | TextToSpeechSpec = getattr(self, stage)
        for index, provider in enumerate((first, *first.fallbacks)):
            yield StageEntry(stage, index, provider)

    @property
    def needed_stages(self) -> tuple[str, ...]:
        """The stages that every call uses."""
        return STAGES if self.realtime is None else ("llm",)

    @property
    def spoken_voice(self) -> str | None:
        """The agent's voice, by the provider's name; None when the provider's default speaks."""
        return self.tts.voice if self.realtime is None else self.realtime.voice

    @property
    def _serves_tts(self) -> bool:
        """Whether some address or plugin serves tts beside a realtime model."""
        own = self.tts.base_url is not None or self.tts.credentials_secret_ref is not None
        return own or self.openai is not None or self.tts.provider is not StageProvider.OPENAI

    def address(self, entry: StageEntry) -> Address:
        """Return where the requests of a provider OpenAI go.

        A key never goes to another server than the one that it is declared for.
        """
        own, common = entry.provider, self.openai
        own_key = own.credentials_secret_ref
        if own_key is not None:
            url = own.base_url or (common.base_url if common is not None else OPENAI_URL)
            return Address(url, own_key.name, is_common=False)
        if own.base_url is not None or common is None:
            return Address(own.base_url or OPENAI_URL, None, is_common=False)
        return Address(common.base_url, common.credentials_secret_ref.name, is_common=True)

    @property
    def has_settings_to_check(self) -> bool:
        """Whether only a worker can check some settings: those of plugins, of LiveKit's gateway, and options."""
        providers = [entry.provider for entry in self.entries()]
        return any(one.options or one.provider is not StageProvider.OPENAI for one in providers)

    @property
    def uses_common(self) -> bool:
        """Whether a stage sends the key of `openai`."""
        return any(
            entry.provider.provider is StageProvider.OPENAI and self.address(entry).is_common
            for entry in self.entries()
        )
