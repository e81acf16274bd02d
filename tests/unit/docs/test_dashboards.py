"""The page on dashboards: the import command, and the configuration of kube-state-metrics."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentspec import crd
from agentspec.resource import API_GROUP, API_VERSION, KIND, PLURAL
from dashboards.__main__ import rendered
from devkit.paths import REPOSITORY
from tests.fences import fence

PAGE = "docs/guides/dashboards.md"

CURL = f"""#!{sys.executable}
# Stands in for curl, which a test machine may lack: the documented options and no others.
import argparse, sys, urllib.request

parser = argparse.ArgumentParser(allow_abbrev=False)
for flag in ("--fail", "--silent", "--show-error"):
    parser.add_argument(flag, action="store_true", required=True)
parser.add_argument("--header", action="append")
parser.add_argument("--data-binary", choices=["@-"], required=True)
parser.add_argument("url")
options = parser.parse_args()
headers = dict(header.split(": ", 1) for header in options.header)
urllib.request.urlopen(urllib.request.Request(options.url, sys.stdin.buffer.read(), headers), timeout=10).read()
"""


class FakeGrafana(ThreadingHTTPServer):
    """Keeps the requests that it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str], Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: FakeGrafana

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    with FakeGrafana() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_documented_command_imports_every_dashboard(grafana: FakeGrafana, tmp_path: Path) -> None:
    curl = tmp_path / "curl"
    curl.write_text(CURL)
    curl.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GRAFANA_URL": f"http://127.0.0.1:{grafana.server_address[1]}",
        "GRAFANA_TOKEN": "token",
    }
    command = fence(PAGE, "for file in").text
    done = subprocess.run(
        ["sh", "-euc", command],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path for path, _, _ in grafana.requests} == {"/api/dashboards/db"}
    assert {headers["Authorization"] for _, headers, _ in grafana.requests} == {"Bearer token"}
    assert {headers["Content-Type"] for _, headers, _ in grafana.requests} == {"application/json"}
    assert all(body["overwrite"] is True for _, _, body in grafana.requests)
    imported = {body["dashboard"]["uid"]: body["dashboard"] for _, _, body in grafana.requests}
    assert imported == {name.removesuffix(".json"): json.loads(text) for name, text in rendered().items()}


def walk(schema: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """Return the schema of a field of an AvatarAgent."""
    for name in path:
        schema = schema["properties"][name]
    return schema


def test_kube_state_metrics_reads_fields_that_exist() -> None:
    """Shape: kube-state-metrics, "Custom Resource State Metrics"; its chart's values hold the same under `config`."""
    values = yaml.safe_load(fence(PAGE, "customResourceState:").text)
    config = values["customResourceState"]["config"]
    assert (values["customResourceState"]["enabled"], config["kind"]) == (True, "CustomResourceStateMetrics")
    (resource,) = config["spec"]["resources"]
    assert resource.keys() == {"groupVersionKind", "metricNamePrefix", "labelsFromPath", "metrics"}
    assert resource["groupVersionKind"] == {"group": API_GROUP, "version": API_VERSION, "kind": KIND}
    assert resource["labelsFromPath"] == {"agent_namespace": ["metadata", "namespace"], "agent": ["metadata", "name"]}
    (metric,) = resource["metrics"]
    assert metric.keys() == {"name", "help", "each"}
    assert metric["each"].keys() == {"type", "info"}
    assert metric["each"]["type"] == "Info"
    (version,) = crd.crd()["spec"]["versions"]
    conditions = walk(version["schema"]["openAPIV3Schema"], metric["each"]["info"]["path"])
    assert conditions["type"] == "array", "kube-state-metrics makes one series of each element"
    labels = metric["each"]["info"]["labelsFromPath"]
    assert labels.keys() == {"condition", "status", "reason"}, "as the controller's own series"
    assert all(walk(conditions["items"], path)["type"] == "string" for path in labels.values())
    named = f"{resource['metricNamePrefix']}_{metric['name']}{{agent_namespace,agent,{','.join(labels)}}}"
    assert named in (REPOSITORY / PAGE).read_text()


def test_kube_state_metrics_may_watch_agents() -> None:
    rules = yaml.safe_load(fence(PAGE, "customResourceState:").text)["rbac"]["extraRules"]
    granted = {(rule["apiGroups"][0], rule["resources"][0]): rule["verbs"] for rule in rules}
    assert granted == {
        (API_GROUP, PLURAL): ["list", "watch"],
        ("apiextensions.k8s.io", "customresourcedefinitions"): ["list", "watch"],
    }
