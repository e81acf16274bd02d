"""The fork server as a fork of the main process: runs the installed Python's multiprocessing with it."""

import itertools
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection
from multiprocessing.forkserver import write_signed

import pytest

from tests.waiting import eventually_blocking
from worker import forkserver

SCRIPT = """
import json, multiprocessing, os, signal, sys
from tests.unit.worker import forked
from worker import forkserver

mode = sys.argv[1]

def prepare():
    if mode == "fails":
        raise RuntimeError("not prepared")
    forked.prepared = "prepared"

def answer(context):
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=forked.work, args=(sender,))
    process.start()
    sender.close()
    answer = receiver.recv()
    process.join()
    return [*answer, process.exitcode]

if __name__ == "__main__":
    with forkserver.sharing_memory():
        import decimal
    forkserver.start(prepare)
    server = multiprocessing.forkserver._forkserver._forkserver_pid
    if mode == "fails":
        os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
    context = forkserver.CONTEXT
    context.set_forkserver_preload([])
    os.environ["LATER"] = "later"
    first = answer(context)
    if mode == "signals":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(server, number)
    print(json.dumps([server, first, answer(context)]))
"""


def _run(mode: str) -> tuple[int, list[list[object]], str]:
    """Return the process id of the fork server, what two processes answered, and the log."""
    command = [sys.executable, "-c", SCRIPT, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    server, *answers = json.loads(done.stdout)
    return server, answers, done.stderr


def test_processes_are_forked_from_the_prepared_fork_server() -> None:
    server, answers, log = _run("works")
    assert answers == [[server, "prepared", "later", 0]] * 2
    assert log == ""


def test_signals_do_not_end_the_fork_server() -> None:
    server, answers, _ = _run("signals")
    assert answers == [[server, "prepared", "later", 0]] * 2


def test_fork_server_ends_with_the_main_process() -> None:
    server, _, _ = _run("works")

    def has_ended() -> bool:
        try:
            os.kill(server, 0)
        except ProcessLookupError:
            return True
        return False

    eventually_blocking(has_ended, "the fork server has ended")


def test_failed_fork_server_is_logged_and_replaced() -> None:
    server, answers, log = _run("fails")
    assert [answer[1:] for answer in answers] == [["", "later", 0]] * 2
    assert all(answer[0] != server for answer in answers), "multiprocessing started its own"
    assert "fork server failed" in log
    assert "not prepared" in log


def test_exit_status_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    status_read, status_write = os.pipe()
    write_signed(status_write, 0)
    os.close(status_write)
    running = forkserver._Popen.__new__(forkserver._Popen)
    running.returncode, running.sentinel, running._reading = None, status_read, threading.Lock()
    both, calls = threading.Barrier(2, timeout=10), itertools.count()

    def wait(*_: object) -> bool:
        if next(calls) < 2:
            both.wait()  # both threads see that there is something to read
        return True

    monkeypatch.setattr(connection, "wait", wait)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(running.poll, [os.WNOHANG, 0]))
    os.close(status_read)
    assert found == [0, 0]
