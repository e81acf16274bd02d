"""The AvatarAgent resource, ``avataragents.io/v1alpha1``: the one definition from which ``crds/`` is generated.

Descriptions become the CRD's and ``kubectl explain``'s. Rules across fields are CEL, and their messages say what to
write instead. Every field gives its unit and bounds; secrets and long texts are references within the namespace.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from agentspec.conditions import Condition
from agentspec.model import Model

API_GROUP = "avataragents.io"
API_VERSION = "v1alpha1"
KIND = "AvatarAgent"
PLURAL = "avataragents"

_DNS_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi)?$"


def _rule(expression: str, message: str) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": expression, "message": message}]}


class DispatchMode(StrEnum):
    EXPLICIT = "Explicit"
    AUTOMATIC = "Automatic"


class DispatchAccess(StrEnum):
    AUTHENTICATED = "Authenticated"
    PUBLIC = "Public"


class AvatarProvider(StrEnum):
    TAVUS = "Tavus"
    NONE = "None"


class OnAvatarFailure(StrEnum):
    VOICE_ONLY = "VoiceOnly"
    END_CALL = "EndCall"


class LocalRef(Model):
    """A Secret or ConfigMap in the AvatarAgent's own namespace."""

    name: str = Field(min_length=1, max_length=253, pattern=_DNS_NAME, description="Name of the object.")


class DispatchSpec(
    Model,
    json_schema_extra=_rule(
        "self.access == 'Public' || !has(self.allowedOrigins) || size(self.allowedOrigins) == 0",
        "allowedOrigins only matters for Public agents: write access: Public or remove allowedOrigins",
    ),
):
    """How calls reach the agent."""

    mode: DispatchMode = Field(
        default=DispatchMode.EXPLICIT,
        description="Explicit: the agent joins only rooms it was dispatched to by name. Automatic: workers register "
        "without a name, and LiveKit sends one into every new room on the server; the gateway takes no calls then.",
    )
    room_name_pattern: str = Field(
        default=".*",
        max_length=256,
        description="Regular expression (Python) of the rooms workers accept; others are declined, and logged. The "
        "gateway names its rooms `<literal prefix of the pattern><call id>`, so begin it with `^` and a prefix.",
    )
    join_timeout_seconds: int = Field(
        default=10, ge=2, le=60, description="Seconds from the dispatch in which the agent must have joined the room."
    )
    access: DispatchAccess = Field(
        default=DispatchAccess.AUTHENTICATED,
        description="Authenticated: the gateway asks for an API key. Public: anyone on an allowed origin may call.",
    )
    allowed_origins: list[Annotated[str, Field(max_length=256, pattern=r"^https?://[^/*\s]+$")]] = Field(
        default_factory=list,
        max_length=32,
        description="Exact origins (scheme, host, port) whose pages may call a Public agent besides the gateway's own.",
    )


class LiveKitSpec(Model):
    """The LiveKit server, Cloud or self-hosted."""

    url: str = Field(
        max_length=512, pattern=r"^wss?://\S+$", description="WebSocket URL (`wss://…`) that workers and callers reach."
    )
    credentials_secret_ref: LocalRef = Field(description="Secret with the keys `apiKey` and `apiSecret`.")


class PersonaSpec(Model):
    """Who the agent is."""

    instructions: str = Field(
        default="You are a helpful voice assistant. Answer briefly.",
        max_length=16384,
        description="What the agent is told about its task, at most 16 KiB.",
    )
    greeting: str = Field(
        default="", max_length=1024, description="Said first, once the caller is in the room. Empty: the agent waits."
    )


class OpenAISpec(Model):
    """The OpenAI API, or one that speaks like it."""

    base_url: str = Field(
        default="https://api.openai.com/v1", max_length=512, pattern=r"^https?://\S+$", description="Base URL."
    )
    credentials_secret_ref: LocalRef = Field(description="Secret with the key `apiKey`.")


class SpeechToTextSpec(Model):
    model: str = Field(default="whisper-1", min_length=1, max_length=128, description="Transcription model.")


class LanguageModelSpec(Model):
    model: str = Field(default="gpt-4o-mini", min_length=1, max_length=128, description="Chat model.")


class TextToSpeechSpec(Model):
    model: str = Field(default="tts-1", min_length=1, max_length=128, description="Speech model.")
    voice: str = Field(default="onyx", min_length=1, max_length=128, description="Voice of the agent.")


class VoiceSpec(Model):
    """How the agent hears, thinks and speaks."""

    openai: OpenAISpec = Field(description="The provider of all three stages.")
    stt: SpeechToTextSpec = Field(default_factory=SpeechToTextSpec, description="Hearing.")
    llm: LanguageModelSpec = Field(default_factory=LanguageModelSpec, description="Thinking.")
    tts: TextToSpeechSpec = Field(default_factory=TextToSpeechSpec, description="Speaking.")


class KnowledgeSource(Model):
    config_map_ref: LocalRef = Field(description="ConfigMap whose every key is a text the agent answers from.")


class TavusSpec(Model):
    """A Tavus avatar. The agent's voice stays its own; Tavus shows the face."""

    base_url: str = Field(
        default="https://tavusapi.com/v2", max_length=512, pattern=r"^https?://\S+$", description="Base URL of the API."
    )
    face_id: str = Field(min_length=1, max_length=128, description="Face (formerly replica) to show.")
    pal_id: str = Field(min_length=1, max_length=128, description="PAL (formerly persona) to use.")
    credentials_secret_ref: LocalRef = Field(description="Secret with the key `apiKey`.")


class AvatarSpec(
    Model,
    json_schema_extra=_rule(
        "self.provider != 'Tavus' || has(self.tavus)",
        "provider Tavus needs its settings: add avatar.tavus with faceID, palID and credentialsSecretRef, "
        "or write provider: None",
    ),
):
    """The agent's face."""

    provider: AvatarProvider = Field(default=AvatarProvider.NONE, description="Who renders the face.")
    tavus: TavusSpec | None = Field(default=None, description="Settings for provider Tavus.")
    on_failure: OnAvatarFailure = Field(
        default=OnAvatarFailure.VOICE_ONLY,
        description="When the avatar does not come: VoiceOnly goes on by voice, EndCall ends the call.",
    )


class ResourcesSpec(Model):
    """Compute resources of a worker pod, as Kubernetes quantities."""

    requests: dict[str, Annotated[str, Field(pattern=_QUANTITY)]] = Field(
        default={"cpu": "250m", "memory": "512Mi"}, max_length=8, description="Resources reserved."
    )
    limits: dict[str, Annotated[str, Field(pattern=_QUANTITY)]] = Field(
        default={"cpu": "2", "memory": "2Gi"},
        max_length=8,
        description="Resources allowed. Set a CPU limit: without one the SDK takes the whole node for its own.",
    )


class WorkerSpec(Model):
    """The worker pods."""

    image: str = Field(
        default="", max_length=512, description="Worker image; empty: the one this release of the operator brings."
    )
    calls_per_worker: int = Field(default=4, ge=1, le=100, description="Calls one worker holds at once: its slots.")
    max_call_minutes: int = Field(
        default=60, ge=1, le=720, description="Minutes after which a call is ended; also how long a worker may drain."
    )
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec, description="Compute resources of a worker.")


class ScalingSpec(
    Model,
    json_schema_extra=_rule(
        "self.minWorkers <= self.maxWorkers",
        "minWorkers must not exceed maxWorkers: lower minWorkers or raise maxWorkers",
    ),
):
    """How many workers run. Workers follow calls: enough for those active and pending, and freeSlots more."""

    min_workers: int = Field(default=1, ge=0, le=1000, description="Never fewer workers.")
    max_workers: int = Field(default=20, ge=1, le=1000, description="Never more workers.")
    free_slots: int = Field(default=4, ge=0, le=1000, description="Slots kept warm and unused for the next callers.")
    scale_down_delay_seconds: int = Field(
        default=300, ge=0, le=86400, description="Seconds that fewer workers must have sufficed before one leaves."
    )


class AvatarAgentSpec(Model):
    """What a team declares."""

    agent_name: str = Field(
        default="",
        max_length=128,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="Name the workers register under and calls are dispatched to; empty: the resource's name.",
    )
    dispatch: DispatchSpec = Field(default_factory=DispatchSpec, description="How calls reach the agent.")
    livekit: LiveKitSpec = Field(description="The LiveKit server.")
    language: str = Field(
        default="en",
        pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$",
        max_length=35,
        description="Language of the conversation, BCP 47: `ar`, `en`.",
    )
    persona: PersonaSpec = Field(default_factory=PersonaSpec, description="Who the agent is.")
    voice: VoiceSpec = Field(description="How it hears, thinks and speaks.")
    knowledge: list[KnowledgeSource] = Field(
        default_factory=list, max_length=16, description="Texts it answers from; at most 256 KiB together."
    )
    avatar: AvatarSpec = Field(default_factory=AvatarSpec, description="Its face.")
    worker: WorkerSpec = Field(default_factory=WorkerSpec, description="Its worker pods.")
    scaling: ScalingSpec = Field(default_factory=ScalingSpec, description="How many of them run.")

    def registered_name(self, resource_name: str) -> str:
        """The agent name calls are dispatched to, with the default filled in."""
        return self.agent_name or resource_name


class WorkerCounts(Model):
    """Worker pods, counted."""

    desired: int = Field(default=0, ge=0, description="Workers wanted.")
    ready: int = Field(default=0, ge=0, description="Workers whose pod is ready.")
    registered: int = Field(default=0, ge=0, description="Workers registered with LiveKit under the agent name.")
    draining: int = Field(default=0, ge=0, description="Workers that finish their calls and leave.")


class SlotCounts(Model):
    total: int = Field(default=0, ge=0, description="Slots of the registered workers.")
    free: int = Field(default=0, ge=0, description="Slots not in use.")


class CallCounts(Model):
    active: int = Field(default=0, ge=0, description="Calls on workers.")
    pending: int = Field(default=0, ge=0, description="Calls waiting for a slot.")


class AvatarAgentStatus(Model):
    """What is."""

    observed_generation: int = Field(default=0, ge=0, description="metadata.generation the status speaks of.")
    conditions: list[Condition] = Field(default_factory=list, max_length=16, description="Statements about the agent.")
    agent_name: str = Field(default="", description="Name the workers register under.")
    workers: WorkerCounts = Field(default_factory=WorkerCounts, description="Worker pods.")
    slots: SlotCounts = Field(default_factory=SlotCounts, description="Slots.")
    calls: CallCounts = Field(default_factory=CallCounts, description="Calls.")
