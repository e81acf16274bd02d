"""The worker's configuration: one document that the controller writes and the worker reads at start.

It contains no secrets; they reach the worker as environment variables from the Secrets that the manifest names.

An older worker image can read the configuration of a newer controller: `agentspec.wire.read` ignores unknown fields and
treats unknown values of enumerations as absent. Their defaults then apply: dispatch mode Explicit (the worker answers
only calls to its name), placement Packed, avatar provider None (calls continue by voice), on failure VoiceOnly.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from agentspec.avatar import AvatarSpec
from agentspec.conversation import ConversationSpec
from agentspec.dispatch import DispatchMode
from agentspec.languages import closest
from agentspec.model import Model
from agentspec.names import tool_header_variable, tracing_header_variable
from agentspec.report import ReportSpec, TracingSpec
from agentspec.scaling import Placement
from agentspec.tools import ToolSpec
from agentspec.voice import VoiceSpec

CONFIG_PATH = "/etc/avatar-agent/agent.json"
"""Path of the configuration in a worker pod."""


WHOLE_KNOWLEDGE_BYTES = 16 * 1024
"""Most knowledge that a worker sends whole, with every request to the language model.

Four bytes of UTF-8 are about one token, in English (one byte a letter) as in Arabic (two). So these are 4,000 tokens:
half of the smallest context window in use, 8,192 tokens, and what a new account at OpenAI (30,000 tokens a minute) can
send six times a minute. Of a larger knowledge base, each request gets only the passages that the question needs.
"""


class KnowledgeDocument(Model):
    """A text that the agent answers from: one key of a ConfigMap, or a text in the manifest."""

    name: str = Field(description="``<ConfigMap>/<key>``, or the name of a text in the manifest.")
    text: str = Field(description="What the agent may answer from: Markdown or plain text.")


def knowledge_bytes(documents: Iterable[KnowledgeDocument]) -> int:
    """Return the size of all texts together, in bytes of UTF-8."""
    return sum(len(document.text.encode()) for document in documents)


class WorkerConfig(Model):
    """Everything a worker needs besides credentials."""

    namespace: str = Field(description="Namespace of the AvatarAgent.")
    name: str = Field(description="Name of the AvatarAgent.")
    agent_name: str = Field(description="The declared agent name. In Automatic mode it is only logged.")
    dispatch_mode: DispatchMode = DispatchMode.EXPLICIT
    room_name_pattern: str = Field(description="Rooms that the worker accepts: a regular expression, searched.")
    language: str = Field(description="BCP 47 language of the conversation.")
    languages: list[str] = Field(
        default_factory=list,
        exclude_if=lambda value: not value,
        description="Other languages that a call may ask for. Left out without any, as the next two: workers of "
        "release 0.1.0 reject unknown fields.",
    )
    greetings: dict[str, str] = Field(
        default_factory=dict,
        exclude_if=lambda value: not value,
        description="Greetings in these languages. Left out without any.",
    )
    time_zone: str = Field(
        default="",
        exclude_if=lambda value: not value,
        description="IANA time zone of the agent. Left out when the manifest sets none.",
    )
    instructions: str
    greeting: str = Field(description="Said first, once the caller has joined. Empty: the agent waits for the caller.")
    voice: VoiceSpec
    knowledge: list[KnowledgeDocument] = Field(default_factory=list)
    tools: list[ToolSpec] = Field(
        default_factory=list,
        exclude_if=lambda value: not value,
        description="Tools of the agent. An empty list is left out, because workers of release 0.1.0 reject unknown "
        "fields.",
    )
    avatar: AvatarSpec
    livekit_url: str
    avatar_livekit_url: str = Field(
        default="",
        exclude_if=lambda value: not value,
        description="Address of the same server for the avatar's provider. Empty: `livekitURL`, and left out, because "
        "workers of release 0.1.0 reject unknown fields.",
    )
    calls_per_worker: int
    placement: Placement = Field(default=Placement.PACKED, description="Which workers get new calls first.")
    max_call_minutes: int
    conversation: ConversationSpec = Field(
        default_factory=ConversationSpec,
        exclude_if=lambda value: value == ConversationSpec(),
        description="How a silent or a long call ends. The defaults are left out, because workers of release "
        "0.1.0 reject unknown fields.",
    )

    agent_code: str = Field(
        default="",
        exclude_if=lambda value: not value,
        description="Own code as `module:Name`. Empty: the stock agent, and left out.",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        exclude_if=lambda value: not value,
        description="Settings of own code. Left out without any.",
    )
    secret_variables: list[str] = Field(
        default_factory=list,
        exclude_if=lambda value: not value,
        description="Environment variables for own code whose values are secret: they never appear in a log line. Left "
        "out without any.",
    )

    report: ReportSpec | None = Field(
        default=None, exclude_if=lambda value: value is None, description="Report of each call. Left out without one."
    )
    tracing: TracingSpec | None = Field(
        default=None, exclude_if=lambda value: value is None, description="Traces of each call. Left out without any."
    )

    def in_language(self, wanted: str) -> "WorkerConfig":
        """Return the configuration for a call that asks for a language: this one if the agent does not declare it."""
        language = closest(wanted, [self.language, *self.languages])
        if language in ("", self.language):
            return self
        return self.model_copy(update={"language": language, "greeting": self.greetings.get(language, "")})

    @property
    def header_variables(self) -> list[str]:
        """The environment variables with the values of the headers of tools and traces."""
        tools = [
            tool_header_variable(number, position)
            for number, tool in enumerate(self.tools)
            for position in range(len(tool.headers))
        ]
        tracing = range(len(self.tracing.headers)) if self.tracing is not None else ()
        return [*tools, *map(tracing_header_variable, tracing)]

    @property
    def sends_whole_knowledge(self) -> bool:
        """Whether every request to the language model contains all knowledge."""
        return knowledge_bytes(self.knowledge) <= WHOLE_KNOWLEDGE_BYTES

    @property
    def registered_name(self) -> str:
        """The name to register under. An empty one means LiveKit's automatic dispatch."""
        return self.agent_name if self.dispatch_mode is DispatchMode.EXPLICIT else ""
