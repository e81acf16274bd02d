"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting for it."""

import asyncio
import selectors
from collections.abc import Coroutine
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "deadlock: every task waits and no timer is set"
            self.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which starts at zero."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def freeze(self, seconds: float) -> None:
        """Advance the clock without running any task, as a suspended process would."""
        self._clock.now += seconds


def run(scenario: Coroutine[Any, Any, T], loop: VirtualLoop | None = None) -> T:
    """Run a scenario in virtual time and return its result; fails when tasks are still running at its end."""
    chosen = loop or VirtualLoop()
    try:
        result = chosen.run_until_complete(scenario)
        left = asyncio.all_tasks(chosen)
        assert not left, f"tasks still running: {left}"
        return result
    finally:
        chosen.close()


def now() -> float:
    """The running event loop's time in seconds."""
    return asyncio.get_running_loop().time()


def use_loop_clock(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Make the modules' `time.monotonic` return the running event loop's time, so that it may be virtual."""
    for module in modules:
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=now))
