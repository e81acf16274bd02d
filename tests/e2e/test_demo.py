"""`make demo`'s command itself: it ends with 0 only when a call was answered, and leaves a page to call from."""

import os
import re
import subprocess
import sys
import urllib.request

import pytest

from devkit import cluster as clusters
from devkit.demo.run import AGENT
from devkit.paths import REPOSITORY
from tests.e2e import agents
from tests.e2e.conftest import NAME, Platform


def own_cluster(platform: Platform) -> tuple[list[str], dict[str, str]]:
    """The same cluster as if it were a user's: its kubeconfig, images that it has, and providers by their keys."""
    product, aims = platform.product, platform.targets
    options = ["--kubeconfig", str(product.kubeconfig)]
    options += ["--controller-image", product.controller_image, "--worker-image", product.worker_image]
    return options, {
        "LIVEKIT_URL": aims.livekit_url,
        "LIVEKIT_API_KEY": aims.livekit_key,
        "LIVEKIT_API_SECRET": aims.livekit_secret,
        "OPENAI_BASE_URL": aims.openai_url,
        "OPENAI_API_KEY": aims.openai_key,
        "TAVUS_BASE_URL": aims.tavus_url,
        "TAVUS_API_KEY": aims.tavus_key,
    }


@pytest.mark.timeout(400)
@pytest.mark.parametrize("own", [False, True], ids=["on this machine", "on a cluster of the user's"])
def test_the_demo_ends_with_an_answered_call_and_an_address(platform: Platform, own: bool) -> None:
    options, keys = own_cluster(platform) if own else ([], {})
    # On a cluster of the user's, the name is only where the call page's process is recorded.
    argv = [sys.executable, "-m", "devkit", "demo", "--name", "own" if own else NAME, *options]
    environment = os.environ | keys
    done = subprocess.run(
        argv, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=380, check=False
    )
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        timeline = re.findall(r"^ +(\d+\.\d\d) +(\S.*?) *$", done.stdout, re.MULTILINE)
        assert next(what for _, what in timeline) == "request sent"
        assert {"agent joined", "first audible word", "first video frame", "answer begins"} <= {w for _, w in timeline}
        (address,) = re.findall(r"^ +(http://localhost:\d+/\?agent=\S+)$", done.stdout, re.MULTILINE)
        with urllib.request.urlopen(address, timeout=5) as page:
            assert b"<html" in page.read()
    finally:
        if own:
            clusters.down("own")
        platform.product.kubectl_run("-n", "agents", "delete", "avataragent", AGENT, "--ignore-not-found")
        agents.eventually(lambda: not agents.serving(platform.product, AGENT), 60, "its workers left")
