"""Fixtures: a configuration as the controller renders it."""

import pytest

from agentspec.wire import WorkerConfig
from tests.unit.worker.builders import DOCUMENT, make_config


@pytest.fixture
def config() -> WorkerConfig:
    """The configuration of a voice-only agent."""
    return make_config()


@pytest.fixture
def document() -> dict[str, object]:
    """The same configuration as a document that a test may change."""
    return dict(DOCUMENT)
