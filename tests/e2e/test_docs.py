"""Runs the `sh` blocks of the docs unchanged. tests/unit/docs/test_text_blocks.py names the tests of other blocks."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.demo import manifests
from devkit.demo.run import EXAMPLES
from devkit.paths import REPOSITORY
from tests.e2e import agents
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)

_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
# `make test` runs this test, and test_demo.py runs `make demo`. This module runs all other blocks.
RUN_ELSEWHERE = {"README.md": ["make demo\n", "make test\n"]}
RUN_HERE = ["docs/start.md"]


def blocks(path: Path) -> list[str]:
    return _BLOCK.findall(path.read_text())


def test_every_page_with_commands_is_run() -> None:
    documents = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    with_commands = {str(path.relative_to(REPOSITORY)): blocks(path) for path in documents if blocks(path)}
    for name in RUN_HERE:
        assert with_commands.pop(name)
    assert with_commands == RUN_ELSEWHERE


@pytest.fixture
def shell(platform: Platform, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a reader. Afterwards, the product is installed again as the other tests need it."""
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
    documents, _ = manifests.point(manifests.load(EXAMPLES), platform.targets)
    product.apply([document for document in documents if document["kind"] != "AvatarAgent"])


def test_start_installs_declares_explains_and_uninstalls(platform: Platform, shell: dict[str, str]) -> None:
    output = ""
    for block in blocks(REPOSITORY / "docs" / "start.md"):
        if "describe" in block:
            # A reader describes the agent after a moment, when the controller has reconciled it.
            script, describe = block.rsplit("kubectl -n agents describe", 1)
            run(script, shell)
            eventually_blocking(
                lambda: "LiveKitUnreachable" in str(conditions(platform)),
                "the conditions report LiveKitUnreachable",
                60,
            )
            block = "kubectl -n agents describe" + describe
        output += run(block, shell)
    # The example's LiveKit server does not exist. The condition says so, and what to do.
    assert "LiveKitUnreachable" in output
    assert "wss://ornina.livekit.example" in output
    assert agents.workers(platform.product, "ornina") == []


def conditions(platform: Platform) -> object:
    return platform.product.get("avataragent", "ornina").get("status", {}).get("conditions")


def run(script: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout
