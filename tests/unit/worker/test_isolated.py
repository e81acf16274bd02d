"""Code that raises, hangs, exits or crashes does so in a process of its own, and the reason is known."""

import os
import signal
import subprocess
import sys

import pytest

_RUN = """
import os, signal, sys, time
from worker.isolated import failure_of
def ends(): os._exit(3)
def crashes(): os.kill(os.getpid(), signal.SIGSEGV)
def hangs(): time.sleep(60)
def raises(): raise ValueError
print(failure_of({check}, {seconds}))
"""


@pytest.mark.parametrize(
    ("check", "seconds", "failure"),
    [
        ("lambda: ''", 30, ""),
        ("lambda: 'no such option'", 30, "no such option"),
        ("ends", 30, "the import ended the process with exit status 3"),
        ("crashes", 30, f"the import crashed with {signal.SIGSEGV.name}"),
        ("hangs", 0.1, "the import did not finish within 0.1 s"),
        ("raises", 30, "the import ended the process with exit status 0"),
    ],
    ids=["well", "failure", "exit", "crash", "hang", "unexpected error"],
)
def test_failure_of_a_check_is_known_and_ends_no_other_process(check: str, seconds: float, failure: str) -> None:
    code = _RUN.format(check=check, seconds=seconds)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == failure
