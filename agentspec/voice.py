"""How the agent hears, thinks and speaks."""

from pydantic import Field

from agentspec.fields import HttpURL, LocalRef
from agentspec.model import Model


class OpenAISpec(Model):
    """The OpenAI API, or one that speaks like it."""

    base_url: HttpURL = Field(default="https://api.openai.com/v1", description="Base URL.")
    credentials_secret_ref: LocalRef = Field(description="Secret with the key `apiKey`.")


class SpeechToTextSpec(Model):
    """Hearing."""

    model: str = Field(default="whisper-1", min_length=1, max_length=128, description="Transcription model.")


class LanguageModelSpec(Model):
    """Thinking."""

    model: str = Field(default="gpt-4o-mini", min_length=1, max_length=128, description="Chat model.")


class TextToSpeechSpec(Model):
    """Speaking."""

    model: str = Field(default="tts-1", min_length=1, max_length=128, description="Speech model.")
    voice: str = Field(default="onyx", min_length=1, max_length=128, description="Voice of the agent.")


class VoiceSpec(Model):
    """How the agent hears, thinks and speaks."""

    openai: OpenAISpec = Field(description="The provider of all three stages.")
    stt: SpeechToTextSpec = Field(default_factory=SpeechToTextSpec, description="Hearing.")
    llm: LanguageModelSpec = Field(default_factory=LanguageModelSpec, description="Thinking.")
    tts: TextToSpeechSpec = Field(default_factory=TextToSpeechSpec, description="Speaking.")
