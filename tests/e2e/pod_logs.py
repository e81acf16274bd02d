"""Reads what controller, gateway and workers log on the node, and finds errors that a test did not expect.

The kubelet deletes a pod's log files with the pod. So a thread opens every file soon after the container starts: an
open file stays readable.
"""

import glob
import json
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tests.logs import is_unexpected

POLL_SECONDS = 0.5
_TRACEBACKS = ("Traceback (most recent call last)", "panicked at", "Fatal Python error")
"""First words of a traceback or a crash that no formatter turned into JSON."""
_TRACEBACK_LINES = 40

# Errors that cut no call: the beginning of the message, and parts of the line. Every test allows them.
HARMLESS: tuple[tuple[str, ...], ...] = (
    # https://github.com/livekit/agents/issues/4203: on a busy machine, the room's event may precede the answer to
    # publish_track. The worker waits no longer than HEARABLE_SECONDS for a lost local_track_subscribed.
    ("error running user callback for local_track_published", "KeyError: 'TR_"),
    ("error running user callback for local_track_subscribed", "KeyError: 'TR_"),
    # On a busy machine, Whisper takes longer than a caller waits. The agent apologises, and `callers.answered` repeats
    # the question.
    ("provider failed", '"stage": "stt"', '"error": "APITimeoutError"'),
)


@dataclass(frozen=True)
class LoggedError:
    """An error or a traceback in a pod's log."""

    pod: str
    message: str
    """Constant message of a JSON line; for other text its first line."""
    text: str


@dataclass
class _LogFile:
    """A container's log as the kubelet writes it: time, stream, `F` or `P` (the line continues), and the text."""

    pod: str
    file: TextIO
    unfinished: str = ""
    parts: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Return the whole lines since the last call."""
        for line in self.file:
            if not line.endswith("\n"):
                self.unfinished += line
                return
            _, _, tag, text = (self.unfinished + line).rstrip("\n").split(" ", 3)
            self.unfinished = ""
            self.parts.append(text)
            if tag == "F":
                yield "".join(self.parts)
                self.parts.clear()


class PodLogs:
    """The logs of every pod in some namespaces of a node, from their folder (the kubelet's `podLogsDir`)."""

    def __init__(self, folder: Path, namespaces: Collection[str]) -> None:
        self._folder = folder
        self._namespaces = namespaces
        self._files: dict[tuple[int, int], _LogFile] = {}
        self._lock = threading.Lock()

    def read(self) -> list[LoggedError]:
        """Return the errors that were logged since the last call."""
        self.find_files()
        with self._lock:
            return [error for file in self._files.values() for error in _errors(file.pod, list(file.lines()))]

    def find_files(self) -> None:
        """Open the files that are new: of containers that started, or that a rotation began."""
        with self._lock:
            # NAMESPACE_POD_UID/CONTAINER/RESTARTS.log. Path.glob() raises when the kubelet deletes a folder meanwhile.
            for found in sorted(glob.glob("*/*/*.log", root_dir=self._folder)):
                path = self._folder / found
                namespace, pod, _ = path.parent.parent.name.split("_")
                if namespace in self._namespaces:
                    self._open(path, f"{namespace}/{pod}")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Open new files soon after they appear, until the block ends."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(POLL_SECONDS):
                self.find_files()

        thread = threading.Thread(target=watch, name="pod-logs")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.file.close()

    def _open(self, path: Path, pod: str) -> None:
        try:
            status = path.stat()
            identity = (status.st_dev, status.st_ino)
            if identity not in self._files:
                self._files[identity] = _LogFile(pod, path.open(errors="replace"))
        except FileNotFoundError:
            return  # the pod has just been deleted


def unexpected(errors: list[LoggedError], allowed: Collection[str]) -> list[LoggedError]:
    """Return the errors whose message is neither harmless nor among those that the test allows."""
    return [error for error in errors if error.message not in allowed and not _is_harmless(error)]


def _is_harmless(error: LoggedError) -> bool:
    return any(
        error.message.startswith(beginning) and all(part in error.text for part in parts)
        for beginning, *parts in HARMLESS
    )


def check(read: Callable[[], list[LoggedError]], allowed: Collection[str]) -> None:
    """Raise AssertionError with every unexpected error that was logged since the last check."""
    found = unexpected(read(), allowed)
    assert not found, "unexpected errors in the logs:\n" + "\n".join(f"{error.pod}: {error.text}" for error in found)


def _errors(pod: str, lines: list[str]) -> Iterator[LoggedError]:
    traceback: list[str] = []
    for text in [*lines, "{}"]:
        line = _parsed(text)
        if line is None:
            if traceback or any(start in text for start in _TRACEBACKS):
                traceback.append(text)
            continue
        if traceback:
            yield LoggedError(pod, traceback[0], "\n".join(traceback[:_TRACEBACK_LINES]))
            traceback = []
        if is_unexpected(line):
            yield LoggedError(pod, str(line.get("message", "")), text)


def _parsed(text: str) -> dict[str, object] | None:
    """Return a JSON line's fields; native libraries write lines of other text."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
