"""An event loop whose clock jumps to the next timer instead of waiting for it."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everything waits for something that never comes"
            self.skipped += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time starts at zero."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.skipped

    def stand_still(self, seconds: float) -> None:
        """Let time go by in which no task gets to run."""
        self._clock.skipped += seconds


def run(scenario: Coroutine[Any, Any, T], loop: VirtualLoop | None = None) -> T:
    """Run a scenario; at its end no task may be left."""
    chosen = loop or VirtualLoop()
    try:
        result = chosen.run_until_complete(scenario)
        left = asyncio.all_tasks(chosen)
        assert not left, f"tasks were left: {left}"
        return result
    finally:
        chosen.close()
