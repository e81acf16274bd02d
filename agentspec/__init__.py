"""The AvatarAgent resource and every document that crosses a process boundary.

The controller, the gateway and the worker never import each other; what they say to one another is typed here.
"""

from agentspec.conditions import Condition, ConditionStatus, ConditionType, Reason
from agentspec.resource import (
    API_GROUP,
    API_VERSION,
    KIND,
    PLURAL,
    AvatarAgentSpec,
    AvatarAgentStatus,
    AvatarProvider,
    DispatchAccess,
    DispatchMode,
    OnAvatarFailure,
)
from agentspec.wire import AgentSupply, CallMetadata, Demand, Supply, WorkerStatus
from agentspec.workerconfig import KnowledgeDocument, WorkerConfig

__all__ = [
    "API_GROUP",
    "API_VERSION",
    "KIND",
    "PLURAL",
    "AgentSupply",
    "AvatarAgentSpec",
    "AvatarAgentStatus",
    "AvatarProvider",
    "CallMetadata",
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "Demand",
    "DispatchAccess",
    "DispatchMode",
    "KnowledgeDocument",
    "OnAvatarFailure",
    "Reason",
    "Supply",
    "WorkerConfig",
    "WorkerStatus",
]
