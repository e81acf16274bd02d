"""Knowledge in ConfigMaps that kubectl creates from files, on a real API server: large ones, and other encodings."""

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

from agentspec import ConditionType, WorkerConfig
from devkit.cluster import Cluster
from tests.cluster.instance import kubectl
from tests.cluster.world import World
from tests.fences import fence

TEXT = '## سؤال\nقال: "جواب".\n\n' * 7000  # noqa: RUF001
"""Less than the limit for knowledge; with the escaped quotes and line ends more than an annotation holds."""


def test_documented_command_creates_a_large_config_map(cluster: Cluster, tmp_path: Path) -> None:
    assert 200 * 1024 < len(TEXT.encode()) < 256 * 1024
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "all.md").write_text(TEXT)
    command = fence("docs/guides/knowledge.md", "kubectl").text
    kubectl(cluster, "create", "namespace", "agents")
    try:
        environment = {
            **os.environ,
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": f"{cluster.kubectl.parent}:{os.environ['PATH']}",
        }

        def run(text: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["bash", "-o", "pipefail", "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True
            )

        refused = run(command.replace("--server-side ", ""))
        assert refused.returncode != 0 and "Too long" in refused.stderr
        created = run(command)
        assert created.returncode == 0, created.stderr
        document = json.loads(kubectl(cluster, "-n", "agents", "get", "configmap", "handbook", "-o", "json"))
        assert document["data"] == {"all.md": TEXT}
    finally:
        kubectl(cluster, "delete", "namespace", "agents", "--wait=false")


@pytest.mark.usefixtures("controller")
async def test_files_of_windows_are_read_or_named(world: World, tmp_path: Path) -> None:
    files = {
        "hours.txt": "ساعات العمل من التاسعة".encode("utf-16"),
        "prices.txt": "الأسعار".encode("cp1256"),
        "office.md": b"## Office\nDamascus\n",
        "fees.md": b"\xef\xbb\xbf## Fees\r\nfifty\r\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    kubectl(world.cluster, "-n", world.namespace, "create", "configmap", "files", f"--from-file={tmp_path}")
    await world.declare("ava", knowledge=[{"configMapRef": {"name": "files"}}])
    seen = await world.becomes("ava", "True", "KnowledgePartlyLoaded", ConditionType.KNOWLEDGE_LOADED)
    assert seen["message"].startswith("Warning: 1 key was not read: files/prices.txt (not UTF-8).")
    await world.settles("ava")
    (configuration,) = ast.literal_eval(await world.declared_configuration("ava")).values()
    config = WorkerConfig.model_validate_json(configuration)
    assert [(text.name, text.text) for text in config.knowledge] == [
        ("files/fees.md", "## Fees\nfifty\n"),
        ("files/hours.txt", "ساعات العمل من التاسعة"),
        ("files/office.md", "## Office\nDamascus\n"),
    ]
