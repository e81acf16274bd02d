"""Large knowledge in a ConfigMap: the documented command creates it on a real API server."""

import json
import os
import subprocess
from pathlib import Path

from devkit.cluster import Cluster
from tests.cluster.instance import kubectl
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
