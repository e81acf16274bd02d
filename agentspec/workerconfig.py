"""The worker's configuration: one document that the controller writes and the worker reads at start.

Secrets are not in it; they reach the worker as environment variables taken from the Secrets that the manifest names.
"""

from pydantic import Field

from agentspec.avatar import AvatarSpec
from agentspec.dispatch import DispatchMode
from agentspec.model import Model
from agentspec.scaling import Placement
from agentspec.voice import VoiceSpec

CONFIG_PATH = "/etc/avatar-agent/agent.json"
"""Where a worker pod finds its configuration."""


class KnowledgeDocument(Model):
    """One key of a ConfigMap of knowledge."""

    name: str = Field(description="``<ConfigMap>/<key>``, or the name of a text in the manifest.")
    text: str = Field(description="What the agent may answer from; Markdown or plain text.")


class WorkerConfig(Model):
    """Everything a worker needs besides credentials."""

    namespace: str = Field(description="Namespace of the AvatarAgent.")
    name: str = Field(description="Name of the AvatarAgent.")
    agent_name: str = Field(description="The declared agent name, also in Automatic mode, where it is only logged.")
    dispatch_mode: DispatchMode
    room_name_pattern: str = Field(description="Rooms that the worker accepts (a regular expression, searched).")
    language: str = Field(description="BCP 47 primary language of the conversation.")
    instructions: str
    greeting: str = Field(description="Said first, once the caller is there; empty: the agent waits for the caller.")
    voice: VoiceSpec
    knowledge: list[KnowledgeDocument] = Field(default_factory=list)
    avatar: AvatarSpec
    livekit_url: str
    calls_per_worker: int
    placement: Placement = Field(default=Placement.PACKED, description="Which workers look lighter to LiveKit.")
    max_call_minutes: int

    @property
    def registered_name(self) -> str:
        """The name to register under: empty is LiveKit's automatic dispatch."""
        return self.agent_name if self.dispatch_mode is DispatchMode.EXPLICIT else ""
