"""Modules that ask `time.monotonic` are given the event loop's clock, so that it may be a virtual one."""

import asyncio
from types import ModuleType, SimpleNamespace

import pytest


def follow_the_loop(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Their clock is the running loop's from now on."""
    for module in modules:
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time()))
