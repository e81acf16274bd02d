"""The agent's face."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from agentspec.fields import LocalRef, http_url, rules, text
from agentspec.model import Model


class AvatarProvider(StrEnum):
    TAVUS = "Tavus"
    NONE = "None"


class OnAvatarFailure(StrEnum):
    VOICE_ONLY = "VoiceOnly"
    END_CALL = "EndCall"


_TavusID = Annotated[
    str,
    text(
        r"^[A-Za-z0-9][-._A-Za-z0-9]*$",
        "write the id as Tavus shows it: letters, digits, '-', '_' and '.', such as r90bbd427f71",
        max_length=128,
    ),
]


class TavusSpec(Model):
    """A Tavus avatar. The agent's voice stays its own; Tavus shows the face."""

    base_url: Annotated[str, http_url("https://tavusapi.com/v2")] = Field(
        default="https://tavusapi.com/v2", description="Base URL of the API."
    )
    face_id: _TavusID = Field(description="Face (formerly replica) to show.")
    pal_id: _TavusID = Field(description="PAL (formerly persona) to use.")
    credentials_secret_ref: LocalRef = Field(description="Secret with the key `apiKey`, as `{name: NAME}`.")


class AvatarSpec(
    Model,
    json_schema_extra=rules(
        (
            "self.provider != 'Tavus' || has(self.tavus)",
            "provider Tavus needs its settings: add avatar.tavus with faceID, palID and credentialsSecretRef, "
            "or write provider: None",
        ),
        (
            "self.provider != 'None' || !has(self.maxSessions)",
            "maxSessions counts avatars, and there are none: write provider: Tavus or remove maxSessions",
        ),
    ),
):
    """The agent's face."""

    provider: AvatarProvider = Field(default=AvatarProvider.NONE, description="Who renders the face.")
    tavus: TavusSpec | None = Field(
        default=None, description="Settings for provider Tavus; without `provider: Tavus` they do nothing."
    )
    on_failure: OnAvatarFailure = Field(
        default=OnAvatarFailure.VOICE_ONLY,
        description="When the avatar does not come, or no seat is free: VoiceOnly goes on by voice, EndCall ends the "
        "call.",
    )
    max_sessions: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Avatars at once: the seats bought from the provider. Left out: no limit but the provider's own.",
    )
