"""Providers and models of the voice."""

from typing import Annotated

from pydantic import Field

from agentspec.fields import LocalRef, http_url, provider_word
from agentspec.model import Model

_Model = Annotated[str, provider_word("model")]


class OpenAISpec(Model):
    """The OpenAI API, or a compatible one."""

    base_url: Annotated[str, http_url("https://api.openai.com/v1")] = Field(
        default="https://api.openai.com/v1", description="Base URL of the OpenAI API, or of a compatible one."
    )
    credentials_secret_ref: LocalRef = Field(description="Secret that contains the key `apiKey`, as `{name: NAME}`.")


class SpeechToTextSpec(Model):
    """Speech-to-text settings."""

    model: _Model = Field(default="whisper-1", description="Transcription model.")


class LanguageModelSpec(Model):
    """Language model settings."""

    model: _Model = Field(default="gpt-4o-mini", description="Chat model.")


class TextToSpeechSpec(Model):
    """Text-to-speech settings."""

    model: _Model = Field(default="tts-1", description="Speech model.")
    voice: Annotated[str, provider_word("voice")] = Field(default="onyx", description="Voice of the agent.")


class VoiceSpec(Model):
    """Providers and models of the voice."""

    openai: OpenAISpec = Field(description="Provider of speech-to-text, language model and text-to-speech.")
    stt: SpeechToTextSpec = Field(default_factory=SpeechToTextSpec, description="Speech-to-text settings.")
    llm: LanguageModelSpec = Field(default_factory=LanguageModelSpec, description="Language model settings.")
    tts: TextToSpeechSpec = Field(default_factory=TextToSpeechSpec, description="Text-to-speech settings.")
