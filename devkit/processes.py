"""Daemons of an instance: started with a log file, recorded by pid and start time, stopped by that record only."""

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

# How long a stopped process may take to end before it is killed, in seconds.
STOP_GRACE = 5.0
# How long killed processes may take to go, in seconds.
_KILL_BOUND = 10.0
_POLL = 0.05
# In the environment of our daemons and of whatever they start: the folder of their records.
_MARK = "AVATAR_AGENT_PROCESSES"


@dataclass(frozen=True)
class Process:
    """A process that this devkit started. The pid alone may be somebody else's by now; with `started` it is not."""

    name: str
    pid: int
    started: int
    """Start time in clock ticks after boot, field 22 of /proc/PID/stat (proc(5))."""
    boot_id: str
    """The kernel's id of the boot in which it was started."""


def parse_stat(text: str) -> tuple[str, int]:
    """State letter and start time out of /proc/PID/stat; the command in parentheses may hold anything."""
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


def boot_id() -> str:
    """Changes with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Start time of a living process, or None when there is none (a zombie is none)."""
    try:
        state, started = parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else started


def is_alive(process: Process) -> bool:
    """Whether exactly this process still runs."""
    _reap(process.pid)
    return process.boot_id == boot_id() and start_time(process.pid) == process.started


def _send(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # It ended by itself in this moment.
        os.kill(process.pid, number)


def _reap(pid: int) -> None:
    """Collect the exit status when the process is a child of ours, so that it does not stay as a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def kill_all(find: Callable[[], set[int]], what: str) -> None:
    """Kill what `find` finds until it finds nothing: what is being killed may just have started another."""
    deadline = time.monotonic() + _KILL_BOUND
    while pids := find():
        if time.monotonic() > deadline:
            raise DevkitError(f"{what} does not end: processes {', '.join(map(str, sorted(pids)))}")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL)


class ProcessTable:
    """The processes of one instance, one small JSON file each, so that a later `down` finds them."""

    def __init__(self, records: Path, logs: Path) -> None:
        self._records = records
        self._logs = logs

    def log_file(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def all(self) -> list[Process]:
        """Every recorded process, in the order in which they were started."""
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
        """Start a daemon in its own session, in the network namespace `netns` when given; `env` adds to ours.

        nsenter and not `ip netns exec`: that one mounts a new /sys, which hides the cgroups.
        """
        self._records.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        previous = self.get(name)
        if previous is not None and is_alive(previous):
            raise DevkitError(f"a process named {name} runs already (pid {previous.pid}): choose another name")
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
        child.returncode = 0  # It outlives us on purpose: Popen's "still running" warning would be noise.
        started = start_time(child.pid)
        if started is None:
            raise DevkitError(f"{name} ended at once:\n{self.tail(name)}")
        process = Process(name, child.pid, started, boot_id())
        path = self._records / f"{name}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(process)))
        partial.rename(path)
        return process

    def descendants(self) -> set[int]:
        """Living processes that were started here or by those that were, whoever is their parent now."""
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # It has just ended.
            if f"{_MARK}={self._records}".encode() in variables and start_time(int(entry.name)) is not None:
                found.add(int(entry.name))
        return found

    def get(self, name: str) -> Process | None:
        """The recorded process of that name."""
        return next((process for process in self.all() if process.name == name), None)

    def stop(self, process: Process, grace: float = STOP_GRACE) -> None:
        """Ask it to end, kill it after `grace` seconds, forget it. A process that is gone is no error."""
        for number, bound in ((signal.SIGTERM, grace), (signal.SIGKILL, STOP_GRACE)):
            if not is_alive(process):
                break
            _send(process, number)
            deadline = time.monotonic() + bound
            while is_alive(process) and time.monotonic() < deadline:
                time.sleep(_POLL)
        if is_alive(process):
            raise DevkitError(f"{process.name} (pid {process.pid}) does not end: look at /proc/{process.pid}/stack")
        (self._records / f"{process.name}.json").unlink(missing_ok=True)

    def stop_all(self, names: Sequence[str], grace: float = STOP_GRACE) -> None:
        """Stop several at once: all are asked first, so that they end side by side."""
        chosen = [process for process in self.all() if process.name in names]
        for process in chosen:
            if is_alive(process):
                _send(process, signal.SIGTERM)
        for process in chosen:
            self.stop(process, grace)

    def tail(self, name: str, lines: int = 15) -> str:
        """The end of a process's log, for an error message."""
        try:
            return "\n".join(self.log_file(name).read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def wait(self, what: str, check: Callable[[], bool], seconds: float, *needed: Process) -> None:
        """Wait until `check` holds; fail with the log when a needed process ends first or the time is over."""
        deadline = time.monotonic() + seconds
        while not check():
            for process in needed:
                if not is_alive(process):
                    raise DevkitError(f"{process.name} ended before {what}:\n{self.tail(process.name)}")
            if time.monotonic() > deadline:
                tails = "\n".join(f"--- {process.name}\n{self.tail(process.name)}" for process in needed)
                raise DevkitError(f"no {what} after {seconds:.0f} s\n{tails}")
            time.sleep(_POLL)
