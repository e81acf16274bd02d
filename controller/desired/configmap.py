"""The workers' configuration: one immutable ConfigMap, named by the hash of its content.

A changed configuration gets a new name. New workers roll out with it, while old workers finish their calls with the
configuration they started with.
"""

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from agentspec import AvatarAgentSpec, AvatarProvider, KnowledgeDocument, WorkerConfig
from agentspec.wire import CONFIG_PATH, render
from controller.desired.identity import Owner, metadata

CONFIG_FILE = PurePosixPath(CONFIG_PATH).name
_HASH_LENGTH = 10


def worker_config(
    owner: Owner,
    spec: AvatarAgentSpec,
    instructions: str,
    greeting: str,
    documents: Sequence[KnowledgeDocument],
    secret_variables: Sequence[str] = (),
) -> WorkerConfig:
    """The configuration of this agent's workers, with the texts that the manifest contains or refers to."""
    return WorkerConfig(
        namespace=owner.namespace,
        name=owner.name,
        agent_name=spec.registered_name(owner.name),
        dispatch_mode=spec.dispatch.mode,
        room_name_pattern=spec.dispatch.room_name_pattern,
        language=spec.language,
        languages=spec.languages,
        greetings={language: text for language, text in spec.persona.greetings.items() if language in spec.languages},
        time_zone=spec.time_zone or "",
        instructions=instructions,
        greeting=greeting,
        voice=spec.voice,
        knowledge=list(documents),
        tools=spec.tools,
        avatar=spec.avatar.model_copy(
            update={"max_sessions": None}
        ),  # the gateway enforces it, so a change needs no rollout
        livekit_url=spec.livekit.url,
        # Only an avatar's provider needs it, so other agents are not rolled out when it changes.
        avatar_livekit_url="" if spec.avatar.provider is AvatarProvider.NONE else spec.livekit.public_url or "",
        calls_per_worker=spec.worker.calls_per_worker,
        placement=spec.scaling.placement,
        max_call_minutes=spec.worker.max_call_minutes,
        conversation=spec.conversation,
        agent_code=spec.worker.agent,
        settings=spec.settings,
        secret_variables=sorted(secret_variables),
        report=spec.report,
        tracing=spec.tracing,
    )


def config_map(owner: Owner, config: WorkerConfig) -> dict[str, Any]:
    """The ConfigMap with the configuration."""
    text = render(config)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
    return {
        "metadata": metadata(owner, f"{owner.worker_name}-{digest}"),
        "immutable": True,
        "data": {CONFIG_FILE: text},
    }
