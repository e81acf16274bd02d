"""The fork server of the call processes, as a fork of the main process.

multiprocessing starts its fork server as a new Python, which imports livekit-agents and its plugins again. That was
half of the processor time of a worker's start. Here the main process imports them once and forks. Both processes share
the memory of what was imported before. `CONTEXT` carries the main process' environment, which changes later, to each
new process.

This module reaches into `multiprocessing.forkserver`; no public function takes a running fork server.
tests/unit/worker/test_forkserver.py runs it, and fails when a new Python changes what this module relies on. Should the
fork server end, multiprocessing starts its own.
"""

import contextlib
import faulthandler
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection, forkserver, popen_forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.process import BaseProcess
from typing import Any, Final, cast

logger = logging.getLogger(__name__)


class _Popen(popen_forkserver.Popen):
    """A running process whose exit status is read once.

    Every start of a process polls all others (`multiprocessing.process._cleanup`), while a thread of each waits in
    `join`. When both read the status, one finds nothing and records 255 (Python 3.11, popen_forkserver.py `poll`). Two
    of 200 calls that had ended well were then counted as lost.
    """

    def __init__(self, process: BaseProcess) -> None:
        self._reading = threading.Lock()
        super().__init__(process)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit status; None: the process runs. Without WNOHANG, wait for it."""
        if self.returncode is None and connection.wait([self.sentinel], 0 if flag == os.WNOHANG else None):
            with self._reading:
                return super().poll(os.WNOHANG)
        return self.returncode


class _Process(ForkServerProcess):
    """A process with the environment that the main process has when it starts it."""

    @staticmethod
    def _Popen(process: BaseProcess) -> popen_forkserver.Popen:
        return _Popen(process)

    def start(self) -> None:
        self._environment = dict(os.environ)
        super().start()

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._environment)
        super().run()


class _Context(ForkServerContext):
    Process = _Process


CONTEXT: Final = _Context()
"""Starts processes by the fork server."""


@contextlib.contextmanager
def sharing_memory() -> Iterator[None]:
    """Import within the context what both processes need, then fork.

    The garbage collector would run some hundred times during the imports, and find nothing. Later, a collection writes
    to every object, which copies the page that it is on. So objects that exist at the end are exempt from collection.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def start(prepare: Callable[[], None]) -> None:
    """Fork the fork server; it calls `prepare`, and then forks one process for each that multiprocessing starts.

    Call this while the process has no thread and no event loop.
    """
    server: Any = forkserver._forkserver  # the type stubs leave out what this function sets
    resource_tracker.ensure_running()
    with socket.socket(socket.AF_UNIX) as listener:
        address = cast(Any, connection).arbitrary_address("AF_UNIX")
        listener.bind(address)
        os.chmod(address, 0o600)
        listener.listen()
        # Every client process holds the writing end. When all have ended, the fork server reads the end of the file.
        alive_read, alive_write = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(alive_write)
            _serve(listener.fileno(), alive_read, prepare)
        os.close(alive_read)
    server._forkserver_address = address
    server._forkserver_alive_fd = alive_write
    server._forkserver_pid = process


def _serve(listener: int, alive: int, prepare: Callable[[], None]) -> None:
    """Run as the fork server; never returns into the code of the main process."""
    status = 1
    try:
        # Only the main process acts on signals. One to the whole process group must cut no call.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # The SDK sends SIGUSR1 for the stacks of a process before it kills it, also to one that has only just started.
        faulthandler.register(signal.SIGUSR1)
        prepare()
        # Call processes send their records to the main process. Its own handlers would log each a second time.
        logging.getLogger().handlers.clear()
        forkserver.main(listener, alive, [])
    except SystemExit:
        status = 0  # the main process and all call processes have ended
    except BaseException:
        logger.exception("fork server failed")
    finally:
        os._exit(status)
