"""Shows the progress of long work: steps with a title, a changing detail and a duration."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import Progress as RichBar
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

logger = logging.getLogger("devkit")

_HEARTBEAT = 15.0
"""Without a terminal, as in CI, a running step prints a line this often, in seconds."""


class Step(Protocol):
    """A running step."""

    def update(self, detail: str) -> None:
        """Show a detail of the step's progress."""


class Progress(Protocol):
    """Shows the steps of `up`, `down` and the builds; steps may run in several threads at once."""

    def step(self, title: str) -> AbstractContextManager[Step]:
        """Begin a step. The end of the context ends it; an exception marks it as failed."""
        ...


class LoggedStep:
    """A step that stores its detail for the log."""

    def __init__(self) -> None:
        self.detail = ""

    def update(self, detail: str) -> None:
        self.detail = detail


class LogProgress:
    """Logs the steps, for tests and other callers without a console."""

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        started = time.monotonic()
        yield LoggedStep()
        logger.info("step done", extra={"step": title, "seconds": round(time.monotonic() - started, 1)})


class LineProgress:
    """Prints the steps as plain lines, for a console that is not a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def _line(self, mark: str, title: str, detail: str, started: float) -> None:
        tail = f" - {detail}" if detail else ""
        self._console.print(
            f"{mark} {title}{tail} ({_seconds(time.monotonic() - started)})",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        step, started, ended = LoggedStep(), time.monotonic(), threading.Event()

        def heartbeat() -> None:
            while not ended.wait(_HEARTBEAT):
                self._line("..", title, step.detail, started)

        beat = threading.Thread(target=heartbeat, daemon=True)
        beat.start()
        mark = "failed"
        try:
            yield step
            mark = "ok"
        finally:
            ended.set()
            beat.join()
            self._line(mark, title, step.detail, started)


class _BarStep:
    def __init__(self, bar: RichBar, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def update(self, detail: str) -> None:
        self._bar.update(self._task, detail=detail)


class TerminalProgress:
    """Shows the steps as live lines with a spinner on a terminal. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._bar = RichBar(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            TextColumn("[dim]{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> "TerminalProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        task = self._bar.add_task(title, total=1, detail="")
        try:
            yield _BarStep(self._bar, task)
        except BaseException:
            self._bar.update(task, description=f"[red]{title}: failed")
            self._bar.stop_task(task)
            raise
        self._bar.update(task, completed=1)


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else f"{int(value) // 60} min {int(value) % 60:02d} s"
