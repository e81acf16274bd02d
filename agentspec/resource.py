"""The AvatarAgent resource, ``avataragents.io/v1alpha1``: the one definition from which ``crds/`` is generated.

Its parts have modules of their own: `dispatch`, `persona`, `voice`, `avatar`, `workers`, `scaling`, `status`.
Descriptions become the CRD's and ``kubectl explain``'s. Rules across fields are CEL, and their messages say what to
write instead. Every field gives its unit and bounds; secrets and long texts are references within the namespace.
"""

from typing import Annotated

from pydantic import Field

from agentspec.avatar import AvatarSpec
from agentspec.dispatch import DispatchSpec, LiveKitSpec
from agentspec.fields import rules, text
from agentspec.model import Model
from agentspec.persona import KnowledgeSource, PersonaSpec
from agentspec.scaling import ScalingSpec
from agentspec.voice import VoiceSpec
from agentspec.workers import WorkerSpec

API_GROUP = "avataragents.io"
API_VERSION = "v1alpha1"
KIND = "AvatarAgent"
PLURAL = "avataragents"

MAX_NAME_LENGTH = 63
"""Of a resource: its name becomes a label's value."""

RESOURCE_RULES = rules(
    (
        f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
        f"metadata.name must have at most {MAX_NAME_LENGTH} characters: choose a shorter one; spec.agentName may be "
        "longer",
    )
)


class AvatarAgentSpec(
    Model,
    json_schema_extra=rules(
        (
            "self.dispatch.mode != 'Automatic' || self.scaling.mode != 'Calls' || self.scaling.minWorkers > 0 || "
            "self.scaling.freeSlots > 0",
            "in dispatch.mode Automatic the gateway takes no calls, so none would start a first worker: write "
            "scaling.minWorkers or scaling.freeSlots of at least 1",
        )
    ),
):
    """What a team declares."""

    agent_name: Annotated[
        str,
        text(
            r"^[A-Za-z0-9._-]*$",
            "write an agent name of letters, digits, '-', '_' and '.', or leave it out to use the resource's name",
            max_length=128,
        ),
    ] = Field(
        default="",
        description="Name the workers register under and calls are dispatched to; empty: the resource's name.",
    )
    dispatch: DispatchSpec = Field(default_factory=DispatchSpec, description="How calls reach the agent.")
    livekit: LiveKitSpec = Field(description="The LiveKit server.")
    language: Annotated[
        str,
        text(
            r"^[a-z]{2}(-[A-Za-z0-9]{2,8})*$",
            "write a language's two letters (ISO 639-1), which is what transcription models take, and a region if you "
            "like: en, ar or pt-BR",
            max_length=35,
        ),
    ] = Field(
        default="en",
        description="Language of the conversation: two letters (ISO 639-1), such as `ar`, or with a region.",
    )
    persona: PersonaSpec = Field(default_factory=PersonaSpec, description="Who the agent is.")
    voice: VoiceSpec = Field(description="How it hears, thinks and speaks.")
    knowledge: list[KnowledgeSource] = Field(
        default_factory=list,
        max_length=16,
        description="Texts it answers from, at most 256 KiB together: `- configMapRef: {name: NAME}`, or "
        "`- {name: WORD, text: TEXT}`.",
    )
    avatar: AvatarSpec = Field(default_factory=AvatarSpec, description="Its face.")
    worker: WorkerSpec = Field(default_factory=WorkerSpec, description="Its worker pods.")
    scaling: ScalingSpec = Field(default_factory=ScalingSpec, description="How many of them run.")
    suspend: bool = Field(
        default=False,
        description="Take no more calls: workers finish theirs and leave, and everything else stays as it is.",
    )

    def registered_name(self, resource_name: str) -> str:
        """The agent name calls are dispatched to, with the default filled in."""
        return self.agent_name or resource_name
