"""An event loop whose clock runs only while everybody sleeps: an hour of waiting takes no time and is exact."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Impatient(selectors.DefaultSelector):
    """Counts the time that it should wait instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for something that never comes"
        self.slept += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    def time(self) -> float:
        return self._impatient.slept


def run(test: Coroutine[Any, Any, T]) -> T:
    """Run a test that touches no network."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(test)
