"""How the agent hears, thinks and speaks."""

from typing import Annotated

from pydantic import Field

from agentspec.fields import LocalRef, http_url, provider_word
from agentspec.model import Model

_Model = Annotated[str, provider_word("model")]


class OpenAISpec(Model):
    """The OpenAI API, or one that speaks like it."""

    base_url: Annotated[str, http_url("https://api.openai.com/v1")] = Field(
        default="https://api.openai.com/v1", description="Base URL."
    )
    credentials_secret_ref: LocalRef = Field(description="Secret with the key `apiKey`, as `{name: NAME}`.")


class SpeechToTextSpec(Model):
    """Hearing."""

    model: _Model = Field(default="whisper-1", description="Transcription model.")


class LanguageModelSpec(Model):
    """Thinking."""

    model: _Model = Field(default="gpt-4o-mini", description="Chat model.")


class TextToSpeechSpec(Model):
    """Speaking."""

    model: _Model = Field(default="tts-1", description="Speech model.")
    voice: Annotated[str, provider_word("voice")] = Field(default="onyx", description="Voice of the agent.")


class VoiceSpec(Model):
    """How the agent hears, thinks and speaks."""

    openai: OpenAISpec = Field(description="The provider of all three stages.")
    stt: SpeechToTextSpec = Field(default_factory=SpeechToTextSpec, description="Hearing.")
    llm: LanguageModelSpec = Field(default_factory=LanguageModelSpec, description="Thinking.")
    tts: TextToSpeechSpec = Field(default_factory=TextToSpeechSpec, description="Speaking.")
