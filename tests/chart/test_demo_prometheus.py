"""The demo's Prometheus gets the chart's PodMonitors and rules: promtool reads the files."""

import json
from pathlib import Path

import yaml

from devkit.demo import prometheus
from tests.chart.rendering import Renderer
from tests.chart.test_rules import run

ADMINISTRATOR = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://10.100.0.1:6443"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "admin"}}],
    "current-context": "c",
    "users": [{"name": "admin", "user": {"client-key-data": "the administrator's key"}}],
}


def test_promtool_accepts_the_configuration(render: Renderer, promtool: str, tmp_path: Path) -> None:
    config = prometheus.write_files(tmp_path, render(*prometheus.SETTINGS), json.dumps(ADMINISTRATOR), "token")
    checked = run(promtool, "check", "config", "--lint-fatal", config)
    assert checked.returncode == 0, checked.stdout
    assert "1 rule files found" in checked.stdout
    configs = yaml.safe_load(config.read_text())["scrape_configs"]
    assert [one["job_name"] for one in configs] == [
        "podMonitor/system/test-controller/0",
        "podMonitor/system/test-gateway/0",
        "podMonitor/system/test-worker/0",
    ]
    assert {one["scrape_interval"] for one in configs} == {"5s"}
    jobs = [
        [rule["replacement"] for rule in one["relabel_configs"] if rule.get("target_label") == "job"] for one in configs
    ]
    assert [names[-1] for names in jobs] == ["avatar-agent-controller", "avatar-agent-gateway", "avatar-agent-worker"]


def test_prometheus_gets_a_token_and_no_administrators_key(render: Renderer, tmp_path: Path) -> None:
    prometheus.write_files(tmp_path, render(*prometheus.SETTINGS), json.dumps(ADMINISTRATOR), "token")
    kubeconfig = tmp_path / "kubeconfig"
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    written = yaml.safe_load(kubeconfig.read_text())
    assert written["users"] == [{"name": "admin", "user": {"token": "token"}}]
    assert written["clusters"] == ADMINISTRATOR["clusters"]
    roles = [document for document in prometheus.account() if document["kind"] == "ClusterRole"]
    assert [role["rules"] for role in roles] == [[{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]]
