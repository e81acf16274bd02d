"""The command of `make demo`: it exits with 0 only after an answered call, forwards a port to the call page, and starts
a Prometheus that counts the call.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from devkit import cluster as clusters
from devkit.demo.run import AGENT
from devkit.paths import REPOSITORY
from tests.e2e import agents
from tests.e2e.conftest import NAME, Platform
from tests.e2e.simulators import simulated
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)


REAL_PROVIDERS = ("LIVEKIT_URL", "OPENAI_API_KEY", "TAVUS_API_KEY")
"""Variables that the environment of the tests may have, and that the demo would use."""


def own_cluster(platform: Platform) -> tuple[list[str], dict[str, str]]:
    """Return options and variables that use the platform's cluster as a user's own cluster."""
    product, targets = platform.product, platform.targets
    options = ["--kubeconfig", str(product.kubeconfig)]
    options += ["--controller-image", product.controller_image, "--worker-image", product.worker_image]
    return options, {
        "LIVEKIT_URL": targets.livekit_url,
        "LIVEKIT_API_KEY": targets.livekit_key,
        "LIVEKIT_API_SECRET": targets.livekit_secret,
        "OPENAI_BASE_URL": targets.openai_url,
        "OPENAI_API_KEY": targets.openai_key,
        "TAVUS_BASE_URL": targets.tavus_url,
        "TAVUS_API_KEY": targets.tavus_key,
    }


@contextmanager
def demo(platform: Platform, own: bool = False) -> Iterator[subprocess.CompletedProcess[str]]:
    """Run the command, yield its result, and delete its agent afterwards."""
    options, keys = own_cluster(platform) if own else ([], {})
    # On a cluster of the user's, the name is only where the call page's process is recorded.
    argv = [sys.executable, "-m", "devkit", "demo", "--name", "own" if own else NAME, *options]
    environment = {name: value for name, value in os.environ.items() if name not in REAL_PROVIDERS} | keys
    try:
        yield subprocess.run(
            argv, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=380, check=False
        )
    finally:
        if own:
            clusters.down("own")
        platform.product.kubectl_run("-n", "agents", "delete", "avataragent", AGENT, "--ignore-not-found")
        eventually_blocking(lambda: not agents.serving(platform.product, AGENT), "the workers exit", 60)


@pytest.mark.parametrize(
    "own",
    [
        pytest.param(False, id="on this machine"),
        pytest.param(True, id="on a cluster of the user's", marks=pytest.mark.soak),
    ],
)
def test_demo_ends_with_an_answered_call_and_a_url(platform: Platform, own: bool) -> None:
    with demo(platform, own) as done:
        assert done.returncode == 0, done.stdout + done.stderr
        timeline = re.findall(r"^ +(\d+\.\d\d) +(\S.*?) *$", done.stdout, re.MULTILINE)
        assert next(what for _, what in timeline) == "request sent"
        assert {"agent joined", "first audible word", "first video frame", "answer begins"} <= {w for _, w in timeline}
        (address,) = re.findall(r"^ +(http://localhost:\d+/\?agent=\S+)$", done.stdout, re.MULTILINE)
        with urllib.request.urlopen(address, timeout=30) as page:
            assert b"<html" in page.read()
        prometheus = re.findall(r"^ +(http://[\d.]+:\d+)$", done.stdout, re.MULTILINE)
        figures = dict(re.findall(r"^ +(\S[^\n]*?) {2,}(\S.*?) *$", done.stdout, re.MULTILINE))
        if own:
            assert not prometheus, "pods of a cluster elsewhere cannot be scraped from here"
            return
        check_monitoring(*prometheus)
        assert re.fullmatch(r"[\d.]+ %", figures["Answered within 3 s"])
        assert figures["Calls failed"] == "0"
        assert re.fullmatch(r"[\d.]+ m?s", figures["Request to first sound, p95"])
        assert re.fullmatch(r"[\d.]+ m?s", figures["Request to agent joined, p95"])
        assert re.search(r"Finished [1-9]", figures["Calls ended, by reason"])


def check_monitoring(url: str) -> None:
    """Check that Prometheus scrapes all kinds of processes, has the chart's rules, and has a web page."""
    jobs = {"avatar-agent-controller", "avatar-agent-gateway", "avatar-agent-worker"}

    def scraped() -> set[str]:
        targets = api(url, "targets?state=active")["activeTargets"]
        return {target["labels"]["job"] for target in targets if target["health"] == "up"}

    eventually_blocking(lambda: scraped() == jobs, f"{jobs} are scraped")
    rules = [rule for group in api(url, "rules")["groups"] for rule in group["rules"]]
    assert len([rule for rule in rules if rule["type"] == "alerting"]) == 15
    assert not [rule for rule in rules if rule["health"] == "err"]
    with urllib.request.urlopen(f"{url}/classic/targets", timeout=30) as page:
        assert b"avatar-agent-worker" in page.read()
    with urllib.request.urlopen(f"{url}/classic/static/jquery/jquery.min.js", timeout=30) as script:
        assert b"jQuery" in script.read()


def api(url: str, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=30) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
    return data


def test_demo_fails_when_the_avatar_does_not_join(platform: Platform) -> None:
    with simulated(platform.targets.tavus_url, {"faults": [{"kind": "never_joins"}]}), demo(platform) as done:
        assert done.returncode == 1, done.stdout
        assert "of 3 video frames" in done.stderr
        assert "answer begins" not in done.stdout
