"""The agent's avatar."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from agentspec.fields import FreeObject, LocalRef, http_url, rules, text
from agentspec.model import Model


class AvatarProvider(StrEnum):
    TAVUS = "Tavus"
    PLUGIN = "Plugin"
    NONE = "None"


class OnAvatarFailure(StrEnum):
    VOICE_ONLY = "VoiceOnly"
    END_CALL = "EndCall"


_TavusID = Annotated[
    str,
    text(
        r"^[A-Za-z0-9][-._A-Za-z0-9]*$",
        "set the id that Tavus shows, such as r90bbd427f71: letters, digits, '-', '_' and '.'",
        max_length=128,
    ),
]


class TavusSpec(Model):
    """A Tavus avatar. Tavus renders the video; the voice stays the agent's own."""

    base_url: Annotated[str, http_url("https://tavusapi.com/v2")] = Field(
        default="https://tavusapi.com/v2", description="Base URL of the Tavus API."
    )
    face_id: _TavusID = Field(description="Id of the avatar at Tavus: a `face`, formerly called replica.")
    pal_id: _TavusID = Field(description="Id of the PAL at Tavus, formerly called persona.")
    credentials_secret_ref: LocalRef = Field(description="Secret that contains the key `apiKey`, as `{name: NAME}`.")


class AvatarPluginSpec(Model):
    """An avatar plugin of livekit-agents in the worker image."""

    name: Annotated[
        str,
        text(
            r"^[a-z][a-z0-9_]*$",
            "set a plugin's name such as bey for livekit.plugins.bey: lower-case letters, digits and '_'",
            max_length=64,
        ),
    ] = Field(description="Name of the plugin: `livekit.plugins.NAME`, which contains a class `AvatarSession`.")
    options: FreeObject = Field(
        default_factory=dict,
        description="Arguments of the plugin's `AvatarSession`. Workers check them when they start. No secrets: set "
        "those in `credentialsSecretRef` or `worker.env`.",
    )
    credentials_secret_ref: LocalRef | None = Field(
        default=None,
        description="Secret that contains the key `apiKey`, as `{name: NAME}`. The plugin gets it as its `api_key`.",
    )


class AvatarSpec(
    Model,
    json_schema_extra=rules(
        (
            "self.provider != 'Tavus' || has(self.tavus)",
            "provider Tavus needs avatar.tavus: set its faceID, palID and credentialsSecretRef, or set provider: None",
        ),
        (
            "self.provider != 'Plugin' || has(self.plugin)",
            "provider Plugin needs avatar.plugin: set its name and options, or set provider: None",
        ),
        (
            "self.provider != 'None' || !has(self.maxSessions)",
            "maxSessions has no effect without an avatar: set a provider or remove maxSessions",
        ),
    ),
):
    """The agent's avatar."""

    provider: AvatarProvider = Field(
        default=AvatarProvider.NONE,
        description="Provider that renders the avatar. Plugin: any that livekit-agents has a plugin for. None: the "
        "agent has no avatar.",
    )
    tavus: TavusSpec | None = Field(
        default=None, description="Settings of provider Tavus. Other providers ignore them."
    )
    plugin: AvatarPluginSpec | None = Field(
        default=None,
        exclude_if=lambda plugin: plugin is None,
        description="Settings of provider Plugin. Other providers ignore them. The stock worker image has no such "
        "plugin: add it in an image of your own, and set that as `worker.image`.",
    )
    on_failure: OnAvatarFailure = Field(
        default=OnAvatarFailure.VOICE_ONLY,
        description="What happens when the avatar fails or no seat is free. VoiceOnly: the call continues by voice. "
        "EndCall: the call ends.",
    )
    max_sessions: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Avatars at the same time: the seats that the provider allows. Unset: only the provider "
        "limits them.",
    )
