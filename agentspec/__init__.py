"""The AvatarAgent resource and every document that crosses a process boundary.

The controller, the gateway and the worker never import each other. The documents that they exchange are types in
`agentspec.wire`.
"""

from agentspec.avatar import AvatarPluginSpec, AvatarProvider, AvatarSpec, OnAvatarFailure, TavusSpec
from agentspec.conditions import Condition, ConditionStatus, ConditionType, Reason
from agentspec.conversation import ConversationSpec
from agentspec.dispatch import DispatchAccess, DispatchMode, DispatchSpec
from agentspec.environment import EnvironmentSource, EnvironmentVariable
from agentspec.fields import ConfigMapKeyRef, LocalRef
from agentspec.persona import DEFAULT_INSTRUCTIONS, KnowledgeSource, PersonaSpec
from agentspec.resource import API_GROUP, API_VERSION, KIND, PLURAL, AvatarAgentSpec
from agentspec.scaling import Placement, ScalingMode, ScalingSpec
from agentspec.status import AvatarAgentStatus, CallCounts, SlotCounts, WorkerCounts
from agentspec.tools import HTTPMethod, HTTPTool, MCPServer, ToolSpec
from agentspec.voice import VoiceSpec
from agentspec.wire import AgentSupply, Demand, DispatchMetadata, KnowledgeDocument, Supply, WorkerConfig, WorkerStatus
from agentspec.workers import PodSettings, ResourcesSpec, Toleration, WorkerSpec

__all__ = [
    "API_GROUP",
    "API_VERSION",
    "DEFAULT_INSTRUCTIONS",
    "KIND",
    "PLURAL",
    "AgentSupply",
    "AvatarAgentSpec",
    "AvatarAgentStatus",
    "AvatarPluginSpec",
    "AvatarProvider",
    "AvatarSpec",
    "CallCounts",
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "ConfigMapKeyRef",
    "ConversationSpec",
    "Demand",
    "DispatchAccess",
    "DispatchMetadata",
    "DispatchMode",
    "DispatchSpec",
    "EnvironmentSource",
    "EnvironmentVariable",
    "HTTPMethod",
    "HTTPTool",
    "KnowledgeDocument",
    "KnowledgeSource",
    "LocalRef",
    "MCPServer",
    "OnAvatarFailure",
    "PersonaSpec",
    "Placement",
    "PodSettings",
    "Reason",
    "ResourcesSpec",
    "ScalingMode",
    "ScalingSpec",
    "SlotCounts",
    "Supply",
    "TavusSpec",
    "Toleration",
    "ToolSpec",
    "VoiceSpec",
    "WorkerConfig",
    "WorkerCounts",
    "WorkerSpec",
    "WorkerStatus",
]
