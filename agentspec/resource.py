"""The AvatarAgent resource, ``avataragents.io/v1alpha1``: the one definition from which ``crds/`` is generated.

Its parts are in the modules `dispatch`, `persona`, `conversation`, `voice`, `avatar`, `workers`, `scaling` and
`status`. Descriptions become those of the CRD, which ``kubectl explain`` shows. Rules across fields are CEL, and their
messages say what to set. Every field has a unit and bounds. Secrets and long texts are references within the namespace.
"""

from typing import Annotated

from pydantic import Field

from agentspec.avatar import AvatarSpec
from agentspec.conversation import ConversationSpec
from agentspec.dispatch import DispatchSpec, LiveKitSpec
from agentspec.fields import FreeObject, Language, rules, text
from agentspec.model import Model
from agentspec.persona import KnowledgeSource, PersonaSpec
from agentspec.report import ReportSpec, TracingSpec
from agentspec.scaling import ScalingSpec
from agentspec.tools import ToolSpec
from agentspec.voice import VoiceSpec
from agentspec.workers import WorkerSpec

API_GROUP = "avataragents.io"
API_VERSION = "v1alpha1"
KIND = "AvatarAgent"
PLURAL = "avataragents"

MAX_NAME_LENGTH = 63
"""Longest name of an AvatarAgent: the name becomes a label's value."""

RESOURCE_RULES = rules(
    (
        f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
        f"metadata.name must have at most {MAX_NAME_LENGTH} characters: set a shorter name; spec.agentName may be "
        "longer",
    )
)


class AvatarAgentSpec(
    Model,
    json_schema_extra=rules(
        (
            "self.dispatch.mode != 'Automatic' || self.scaling.mode != 'Calls' || self.scaling.minWorkers > 0 || "
            "self.scaling.freeSlots > 0",
            "with dispatch.mode Automatic the gateway takes no calls, so no call starts the first worker: set "
            "scaling.minWorkers or scaling.freeSlots to at least 1",
        ),
        (
            "!has(self.languages) || !(has(self.persona.greeting) || has(self.persona.greetingRef)) || "
            "self.languages.all(language, has(self.persona.greetings) && language in self.persona.greetings)",
            "an agent with a greeting needs one in each language: set persona.greetings for every entry of languages",
        ),
        (
            "!has(self.voice.openai) || !has(self.worker.env) || !self.worker.env.exists(each, each.name == "
            "'OPENAI_API_KEY')",
            "voice.openai sets the variable OPENAI_API_KEY: remove it from worker.env, or remove voice.openai",
        ),
        (
            "self.avatar.provider != 'Tavus' || !has(self.worker.env) || !self.worker.env.exists(each, each.name == "
            "'TAVUS_API_KEY')",
            "avatar.tavus sets the variable TAVUS_API_KEY: remove it from worker.env",
        ),
    ),
):
    """The desired state of a voice agent."""

    agent_name: Annotated[
        str,
        text(
            r"^[A-Za-z0-9._-]*$",
            "set an agent name of letters, digits, '-', '_' and '.', or remove it to use the resource's name",
            max_length=128,
        ),
    ] = Field(
        default="",
        description="Name that workers register under and that calls are dispatched to. Empty: the resource's name.",
    )
    dispatch: DispatchSpec = Field(default_factory=DispatchSpec, description="How calls reach the agent.")
    livekit: LiveKitSpec = Field(description="LiveKit server that the calls are on.")
    language: Language = Field(
        default="en",
        description="Language of the conversation: two letters (ISO 639-1), with an optional region, such as `ar`.",
    )
    languages: list[Language] = Field(
        default_factory=list,
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description="Other languages that a call may ask for. The call's greeting, prepared sentences, transcription "
        "and instructions then are in that language.",
    )
    time_zone: (
        Annotated[
            str,
            text(
                r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$",
                "set a time zone of the IANA database, such as Europe/Berlin or UTC",
                max_length=64,
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Time zone of the agent, such as `Europe/Berlin`. The language model then knows date and time of "
        "the call. Unset: it knows neither.",
    )
    persona: PersonaSpec = Field(default_factory=PersonaSpec, description="Who the agent is.")
    conversation: ConversationSpec = Field(
        default_factory=ConversationSpec,
        description="How a silent or a long call ends, and how it continues after a rescue.",
    )
    voice: VoiceSpec = Field(description="Providers and models of the voice.")
    knowledge: list[KnowledgeSource] = Field(
        default_factory=list,
        max_length=16,
        description="Texts that the agent answers from, at most 256 KiB together: `- configMapRef: {name: NAME}` or "
        "`- {name: WORD, text: TEXT}`. Above 16 KiB, workers send only the passages that a question needs.",
    )
    tools: list[ToolSpec] = Field(
        default_factory=list,
        max_length=16,
        # As in a pod: a second tool of the same name would hide the first one.
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="What the agent can do besides answering: HTTP requests, tools of MCP servers, ending or "
        "transferring the call.",
    )
    avatar: AvatarSpec = Field(default_factory=AvatarSpec, description="The agent's avatar.")
    settings: FreeObject = Field(
        default_factory=dict,
        description="Settings of own code (`worker.agent`), which receives them unchanged. No secrets: set those in "
        "`worker.env`.",
    )
    report: ReportSpec | None = Field(
        default=None, description="Report of each call to an HTTP endpoint of yours. Unset: nothing is reported."
    )
    tracing: TracingSpec | None = Field(
        default=None, description="OpenTelemetry traces of each call's session. Unset: there are none."
    )
    worker: WorkerSpec = Field(default_factory=WorkerSpec, description="The worker pods.")
    scaling: ScalingSpec = Field(default_factory=ScalingSpec, description="How many workers run.")
    suspend: bool = Field(
        default=False,
        description="Stop taking calls. Workers finish their calls and terminate; all other objects stay.",
    )

    def registered_name(self, resource_name: str) -> str:
        """Return the agent name: `agent_name`, or the resource's name when it is empty."""
        return self.agent_name or resource_name
