"""Builders of the documents and settings that the tests of the worker share."""

from agentspec.wire import WorkerConfig
from worker.config import WorkerSettings

DOCUMENT: dict[str, object] = {
    "namespace": "default",
    "name": "ornina",
    "agentName": "ornina-avatar-agent",
    "dispatchMode": "Explicit",
    "roomNamePattern": "^ornina-",
    "language": "ar",
    "instructions": "You are Ornina's assistant.",
    "greeting": "مرحباً",
    "voice": {"openai": {"baseURL": "http://openai.test/v1", "credentialsSecretRef": {"name": "openai"}}},
    "knowledge": [],
    "avatar": {"provider": "None"},
    "livekitURL": "ws://livekit.test:7880",
    "callsPerWorker": 4,
    "maxCallMinutes": 60,
}
"""The configuration of a voice-only agent, as the controller renders it."""

TAVUS: dict[str, object] = {
    "provider": "Tavus",
    "tavus": {
        "faceID": "f",
        "palID": "p",
        "baseURL": "http://tavus.test/v2",
        "credentialsSecretRef": {"name": "tavus"},
    },
}
"""The avatar section of an agent with a Tavus avatar."""

PLUGIN: dict[str, object] = {
    "provider": "Plugin",
    "plugin": {
        "name": "puppet",
        "options": {"avatar_id": "a", "api_url": "http://puppet.test/v2"},
        "credentialsSecretRef": {"name": "puppet"},
    },
}
"""The avatar section of an agent with the plugin of examples/avatar-plugin."""


def make_config(**changes: object) -> WorkerConfig:
    """Return the configuration of a voice-only agent with `changes`, by field names of the document."""
    return WorkerConfig.model_validate(DOCUMENT | changes)


def make_settings(config: WorkerConfig) -> WorkerSettings:
    """Return the settings of a worker with `config`."""
    return WorkerSettings(
        config=config, livekit_key="key", livekit_secret="secret", openai_key="o", tavus_key="t", port=8080
    )
