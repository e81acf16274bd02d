"""Documents that cross a process boundary, and the functions that read and render them.

The controller, the gateway and the worker can run different releases during an upgrade. Three rules keep them working:

- A reader ignores fields that it does not know, at every depth (`read`).
- A reader treats an unknown value of an enumeration as an absent field, unless the field says otherwise.
- A writer only adds optional fields. Release 0.1.0 rejects unknown fields: while it is supported, a document that it
  reads gets none.

``tests/unit/agentspec/wire/`` holds sample documents of each release. A test reads all of them.
"""

from agentspec.wire.calls import (
    ENDED_JOB_SECONDS,
    EVENTS_HEARTBEAT_SECONDS,
    GATEWAY_QUERY,
    JOBS_QUERY,
    JobReport,
    JobState,
    WorkerCalls,
    agent_identity,
)
from agentspec.wire.capacity import (
    ADDRESS_QUERY,
    LEAVING_QUERY,
    MAX_AVATARS_QUERY,
    MEMBER_SECONDS,
    NOT_SYNCED,
    STAGES_QUERY,
    STATUS_HEARTBEAT_SECONDS,
    AgentSupply,
    Demand,
    GatewayMember,
    Supply,
    WorkerStatus,
    agent_key,
)
from agentspec.wire.dispatch import DispatchMetadata, read_dispatch_metadata, valid_traceparent, with_avatar
from agentspec.wire.documents import read, render
from agentspec.wire.providers import ProviderStage, StageFailure, StageReport, StageReports
from agentspec.wire.room import REPORTED_OUTCOMES, CallOutcome, RoomRecord, read_room_record, with_outcome
from agentspec.wire.turns import (
    TURNS_ATTRIBUTE,
    Speaker,
    Turn,
    newest_turns,
    read_turns,
    render_turns,
)
from agentspec.wire.workerconfig import (
    CONFIG_PATH,
    WHOLE_KNOWLEDGE_BYTES,
    KnowledgeDocument,
    WorkerConfig,
    knowledge_bytes,
)

__all__ = [
    "ADDRESS_QUERY",
    "CONFIG_PATH",
    "ENDED_JOB_SECONDS",
    "EVENTS_HEARTBEAT_SECONDS",
    "GATEWAY_QUERY",
    "JOBS_QUERY",
    "LEAVING_QUERY",
    "MAX_AVATARS_QUERY",
    "MEMBER_SECONDS",
    "NOT_SYNCED",
    "REPORTED_OUTCOMES",
    "STAGES_QUERY",
    "STATUS_HEARTBEAT_SECONDS",
    "TURNS_ATTRIBUTE",
    "WHOLE_KNOWLEDGE_BYTES",
    "AgentSupply",
    "CallOutcome",
    "Demand",
    "DispatchMetadata",
    "GatewayMember",
    "JobReport",
    "JobState",
    "KnowledgeDocument",
    "ProviderStage",
    "RoomRecord",
    "Speaker",
    "StageFailure",
    "StageReport",
    "StageReports",
    "Supply",
    "Turn",
    "WorkerCalls",
    "WorkerConfig",
    "WorkerStatus",
    "agent_identity",
    "agent_key",
    "knowledge_bytes",
    "newest_turns",
    "read",
    "read_dispatch_metadata",
    "read_room_record",
    "read_turns",
    "render",
    "render_turns",
    "valid_traceparent",
    "with_avatar",
    "with_outcome",
]
