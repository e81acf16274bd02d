"""Fixtures for the controller's tests."""

from collections.abc import AsyncIterator

import pytest

from kube import informer
from tests.unit.controller.world import World
from tests.unit.fakes.virtualtime import VirtualLoop, use_loop_clock


@pytest.fixture
async def world(virtual_time: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A world whose informers run, in virtual time."""
    use_loop_clock(monkeypatch, informer)
    made = World()
    async with made.running():
        yield made
