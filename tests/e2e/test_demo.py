"""`make demo`'s command itself: it ends with 0 only when a call was answered, and leaves a page to call from."""

import re
import subprocess
import sys
import urllib.request

import pytest

from devkit.demo.run import AGENT
from devkit.paths import REPOSITORY
from tests.e2e import agents
from tests.e2e.conftest import NAME, Platform


@pytest.mark.timeout(400)
def test_the_demo_ends_with_an_answered_call_and_an_address(platform: Platform) -> None:
    argv = [sys.executable, "-m", "devkit", "demo", "--name", NAME]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=380, check=False)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        timeline = re.findall(r"^ +(\d+\.\d\d) +(\S.*?) *$", done.stdout, re.MULTILINE)
        assert next(what for _, what in timeline) == "request sent"
        assert {"agent joined", "first audible word", "first video frame", "answer begins"} <= {w for _, w in timeline}
        (address,) = re.findall(r"^ +(http://localhost:\d+/\?agent=\S+)$", done.stdout, re.MULTILINE)
        with urllib.request.urlopen(address, timeout=5) as page:
            assert b"<html" in page.read()
    finally:
        platform.product.kubectl_run("-n", "agents", "delete", "avataragent", AGENT, "--ignore-not-found")
        agents.eventually(lambda: not agents.serving(platform.product, AGENT), 60, "its workers left")
