"""Every command and every request in README and docs, run as it stands.

`tests/unit/docs/test_fences.py` lists all blocks, and the test that covers each.
"""

import json
import os
import re
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devkit.demo import manifests
from devkit.demo.caller import PAGE_HEADERS
from devkit.demo.product import AGENTS_NAMESPACE, RELEASE, SYSTEM_NAMESPACE
from devkit.demo.run import EXAMPLES
from devkit.paths import REPOSITORY
from tests.e2e import agents
from tests.e2e.conftest import Platform
from tests.fences import fence, fences, http_request
from tests.ports import free_port
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)

START, UPGRADE, CALLS = "docs/start.md", "docs/guides/upgrade.md", "docs/guides/calls.md"
CALL_PAGE = "http://localhost:8080/?agent=ornina"
"""Address of the call page in START."""


@pytest.fixture
def shell(platform: Platform, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A reader's environment; afterwards the platform is as the other tests need it."""
    product = platform.product
    for tool in (product.kubectl, product.helm):
        (tmp_path / tool.name.split("-")[0]).symlink_to(tool)
    yield os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "KUBECONFIG": str(product.kubeconfig),
        "CONTROLLER_IMAGE": product.controller_image,
        "WORKER_IMAGE": product.worker_image,
    }
    product.install()
    documents, _ = manifests.retarget(manifests.load(EXAMPLES), platform.targets)
    product.apply([document for document in documents if document["kind"] != "AvatarAgent"])


def test_start_page_installs_declares_calls_and_uninstalls(platform: Platform, shell: dict[str, str]) -> None:
    output = ""
    for block in fences(START):
        if block.text.startswith("docker build"):
            continue  # the platform's images come from the same Dockerfiles
        if "port-forward" in block.text:
            check_call_page(block.text, shell)
            continue
        script, describe, name = block.text.partition("kubectl -n agents describe")
        output += run(script, shell)
        if describe:
            # A reader runs it a moment later, when the controller has reconciled the agent.
            eventually_blocking(lambda: "LiveKitUnreachable" in str(conditions(platform)), "Ready is reported", 60)
            output += run(describe + name, shell)
    # The example's LiveKit server does not exist: the conditions say so, and what to do.
    assert "LiveKitUnreachable" in output
    assert "wss://ornina.livekit.example" in output
    assert agents.workers(platform.product, "ornina") == []


def check_call_page(command: str, shell: dict[str, str]) -> None:
    """Forward the port as documented, but from a free one, and open the documented address."""
    assert CALL_PAGE in (REPOSITORY / START).read_text()
    assert command.endswith(" 8080:80\n")
    port = free_port()
    argv = [*command.split()[:-1], f"{port}:80"]
    with subprocess.Popen(argv, env=shell, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            assert f"Forwarding from 127.0.0.1:{port}" in forward.stdout.readline()
            with urllib.request.urlopen(CALL_PAGE.replace("8080", str(port)), timeout=10) as page:
                assert b"<html" in page.read()
        finally:
            forward.terminate()


def test_documented_upgrade_keeps_the_values(platform: Platform, shell: dict[str, str], tmp_path: Path) -> None:
    product = platform.product
    values = {
        "images": {"controller": product.controller_image, "worker": product.worker_image},
        "gateway": {"defaultNamespace": AGENTS_NAMESPACE},
    }
    (tmp_path / "charts").symlink_to(REPOSITORY / "charts")
    (tmp_path / "my-values.yaml").write_text(yaml.safe_dump(values))
    run(fence(UPGRADE, "helm upgrade").text, shell, tmp_path)
    stored = run(f"helm get values {RELEASE} --namespace {SYSTEM_NAMESPACE} -o json", shell)
    assert json.loads(stored) == values


def test_documented_requests_open_follow_and_end_a_call(platform: Platform) -> None:
    method, path, headers, body = http_request(fence(CALLS, "POST").text)
    documented_status, _, documented = fence(CALLS, "201 {").text.partition(" ")
    assert headers.pop("Authorization").endswith("(Authenticated agents)"), "the agent here is Public"
    headers |= {**PAGE_HEADERS, "Idempotency-Key": str(uuid.uuid4())}
    with agents.declared(platform.product, agents.manifest(platform.targets, "docs")) as name:
        sent = json.dumps(json.loads(body) | {"agent": name}).encode()
        status, opened = request(platform, method, path, headers, sent)
        assert status == int(documented_status)
        assert set(re.findall(r'"(\w+)":', documented)) <= opened.keys()
        assert f'"{opened["state"]}"' in documented
        repeated = request(platform, method, path, headers, sent)
        assert (repeated[0], repeated[1]["callId"]) == (200, opened["callId"]), "the same key is the same call"

        bearer = {"Authorization": f"Bearer {opened['callToken']}"}
        lines = fence(CALLS, "GET").text.replace("<callId>", opened["callId"]).splitlines()
        (get, follow), (delete, hang_up) = (line.split()[:2] for line in lines)
        status, call = request(platform, get, follow, bearer)
        assert (status, call["callId"]) == (200, opened["callId"])
        assert call["state"] != "dispatched", "the GET returns once the call has another state"
        status, call = request(platform, delete, hang_up, bearer)
        assert (status, call["state"], call["reason"]) == (200, "ended", "HungUp")


def request(
    platform: Platform, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> tuple[int, dict[str, Any]]:
    """Send a request to the gateway; return status and document of the response."""
    sent = urllib.request.Request(f"{platform.gateway}{path}", data=body, headers=headers, method=method)
    with urllib.request.urlopen(sent, timeout=30) as response:
        document: dict[str, Any] = json.load(response)
        return response.status, document


def conditions(platform: Platform) -> object:
    return platform.product.get("avataragent", "ornina").get("status", {}).get("conditions")


def run(script: str, environment: dict[str, str], folder: Path = REPOSITORY) -> str:
    """Run a script in a folder and return its standard output."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout
