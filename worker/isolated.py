"""Runs code that is not ours in a process of its own first: it may raise, hang, exit or crash."""

import faulthandler
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final, NoReturn

_KILL_SECONDS: Final = 2.0
"""How much longer the process may take to write the stacks of code that hangs to the log, and to end."""


def failure_of(check: Callable[[], str], seconds: float) -> str:
    """Run `check`, which returns why something failed, in another process; returns that, or how the process ended.

    Call this while the process has no thread and no event loop, because it forks. `check` handles its own exceptions.
    """
    reading, writing = multiprocessing.Pipe(duplex=False)
    process = os.fork()
    if process == 0:
        reading.close()
        _run(check, seconds, writing)
    writing.close()
    with reading:
        try:
            failure = reading.recv_bytes().decode() if reading.poll(seconds + _KILL_SECONDS) else None
        except (EOFError, OSError):
            return _described(_end(process, _KILL_SECONDS))
    _end(process, 0.0 if failure is None else _KILL_SECONDS)
    return f"the import did not finish within {seconds:g} s" if failure is None else failure


def _run(check: Callable[[], str], seconds: float, result: Connection) -> NoReturn:
    """Run the check in this process, and end it."""
    try:
        faulthandler.dump_traceback_later(seconds)
        result.send_bytes(check().encode(errors="replace"))
    finally:
        os._exit(0)


def _end(process: int, seconds: float) -> int:
    """Wait for the end of a process, and kill it when it has not ended after `seconds`; returns its wait status."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1]


def _described(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"the import crashed with {signal.Signals(-code).name}"
    return f"the import ended the process with exit status {code}"
