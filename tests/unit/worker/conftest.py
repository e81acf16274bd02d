"""Fixtures: a configuration as the controller renders it."""

import pytest

from agentspec.wire import WorkerConfig

DOCUMENT = {
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


@pytest.fixture
def config() -> WorkerConfig:
    """The configuration of a voice-only agent."""
    return WorkerConfig.model_validate(DOCUMENT)


@pytest.fixture
def document() -> dict[str, object]:
    """The same configuration as a document that a test may change."""
    return dict(DOCUMENT)
