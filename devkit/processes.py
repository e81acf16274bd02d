"""Daemons of an instance: each has a log file and a record of pid and start time, by which it is stopped."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from devkit.errors import DevkitError

STOP_SECONDS = 5.0
"""Time for a process to end after SIGTERM; then it is killed."""
_KILL_SECONDS = 10.0
"""Time for killed processes to disappear."""
_POLL = 0.05
_MARK = "AVATAR_AGENT_PROCESSES"
"""Environment variable of daemons and their children: the folder of their records."""


@dataclass(frozen=True)
class Process:
    """A process that the devkit started. Pid and start time identify it; the kernel may use the pid again."""

    name: str
    pid: int
    started: int
    """Start time in clock ticks after boot, field 22 of /proc/PID/stat (proc(5))."""
    boot_id: str
    """Id of the boot in which the process was started."""


def parse_stat(text: str) -> tuple[str, int]:
    """Return state letter and start time from /proc/PID/stat; the command in parentheses may contain anything."""
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


def boot_id() -> str:
    """Return the id of the current boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Return the start time of a running process; None when it does not exist or is a zombie."""
    try:
        state, started = parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else started


def is_alive(process: Process) -> bool:
    """Whether this very process still runs."""
    _reap(process.pid)
    return process.boot_id == boot_id() and start_time(process.pid) == process.started


def _send(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        os.kill(process.pid, number)


def _reap(pid: int) -> None:
    """Collect the exit status of a child process, so that it does not stay as a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def kill_all(find: Callable[[], set[int]], what: str) -> None:
    """Kill the processes that `find` returns until it returns none; a process may start another until it is killed."""
    deadline = time.monotonic() + _KILL_SECONDS
    while pids := find():
        if time.monotonic() > deadline:
            raise DevkitError(f"processes of the {what} do not end: {', '.join(map(str, sorted(pids)))}")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL)


class ProcessTable:
    """The processes of an instance, each with a JSON file, so that a later `down` finds them."""

    def __init__(self, records: Path, logs: Path) -> None:
        self._records = records
        self._logs = logs

    def log_file(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def all(self) -> list[Process]:
        """Return every recorded process, in the order of their start."""
        found = []
        for path in self._records.glob("*.json"):
            try:
                found.append(Process(**json.loads(path.read_text())))
            except (ValueError, TypeError) as error:
                raise DevkitError(f"{path} is not a process record ({error}): delete it") from error
        return sorted(found, key=lambda process: process.started)

    def start(
        self, name: str, argv: Sequence[str], *, netns: str | None = None, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start a daemon in its own session, and in the network namespace `netns` if given; `env` adds variables.

        It uses nsenter, because `ip netns exec` mounts a new /sys, which hides the cgroups.
        """
        self._records.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        previous = self.get(name)
        if previous is not None and is_alive(previous):
            raise DevkitError(f"a process named {name} already runs (pid {previous.pid}): choose another name")
        command = [*(["nsenter", f"--net=/run/netns/{netns}", "--"] if netns else []), *argv]
        with self.log_file(name).open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {}), _MARK: str(self._records)},
                start_new_session=True,
            )
        child.returncode = 0  # it shall outlive this process, so Popen must not warn that it still runs
        started = start_time(child.pid)
        if started is None:
            raise DevkitError(f"{name} exited at once:\n{self.tail(name)}")
        process = Process(name, child.pid, started, boot_id())
        path = self._records / f"{name}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(process)))
        partial.rename(path)
        return process

    def descendants(self) -> set[int]:
        """Return the running processes that this table or its processes started, even if the parent has ended."""
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it has just ended
            if f"{_MARK}={self._records}".encode() in variables and start_time(int(entry.name)) is not None:
                found.add(int(entry.name))
        return found

    def get(self, name: str) -> Process | None:
        """Return the recorded process of a name."""
        return next((process for process in self.all() if process.name == name), None)

    def stop(self, process: Process, grace: float = STOP_SECONDS) -> None:
        """Send SIGTERM, then SIGKILL after `grace` seconds, and delete the record; the process may have ended."""
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, STOP_SECONDS)):
            if not is_alive(process):
                break
            _send(process, number)
            deadline = time.monotonic() + seconds
            while is_alive(process) and time.monotonic() < deadline:
                time.sleep(_POLL)
        if is_alive(process):
            raise DevkitError(f"{process.name} (pid {process.pid}) does not end: see /proc/{process.pid}/stack")
        (self._records / f"{process.name}.json").unlink(missing_ok=True)

    def stop_all(self, names: Sequence[str], grace: float = STOP_SECONDS) -> None:
        """Stop several processes: send SIGTERM to all first, so that they end at the same time."""
        chosen = [process for process in self.all() if process.name in names]
        for process in chosen:
            if is_alive(process):
                _send(process, signal.SIGTERM)
        for process in chosen:
            self.stop(process, grace)

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the end of a process's log, for an error message."""
        try:
            return "\n".join(self.log_file(name).read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def wait(self, what: str, check: Callable[[], bool], seconds: float, *needed: Process) -> None:
        """Wait until `check` is true. Raises DevkitError with the log on a timeout, or when a needed process ends."""
        deadline = time.monotonic() + seconds
        while not check():
            for process in needed:
                if not is_alive(process):
                    raise DevkitError(f"{process.name} exited before there was {what}:\n{self.tail(process.name)}")
            if time.monotonic() > deadline:
                tails = "\n".join(f"--- {process.name}\n{self.tail(process.name)}" for process in needed)
                raise DevkitError(f"no {what} after {seconds:.0f} s\n{tails}")
            time.sleep(_POLL)
