"""PodMonitors as scrape configurations, as the Prometheus operator makes them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from devkit.demo import scraping
from devkit.errors import DevkitError

PORT = 9091
MONITOR: dict[str, Any] = {
    "metadata": {"namespace": "system", "name": "worker"},
    "spec": {
        "namespaceSelector": {"any": True},
        "selector": {"matchLabels": {"b/c.d": "worker", "a": "x"}},
        "podMetricsEndpoints": [
            {
                "port": "http",
                "path": "/metrics",
                "interval": "5s",
                "relabelings": [
                    {"targetLabel": "job", "replacement": "avatar-agent-worker"},
                    {"sourceLabels": ["y", "z"], "separator": ";", "regex": "(.+)", "action": "Keep"},
                ],
            }
        ],
    },
}
GOLDEN = """\
global:
  evaluation_interval: 5s
rule_files:
- /state/rules.yaml
scrape_configs:
- job_name: podMonitor/system/worker/0
  http_sd_configs:
  - url: http://127.0.0.1:9091/pods
    refresh_interval: 5s
  scrape_interval: 5s
  metrics_path: /metrics
  relabel_configs:
  - source_labels:
    - job
    target_label: __tmp_prometheus_job_name
  - source_labels:
    - __meta_kubernetes_pod_phase
    regex: (Failed|Succeeded)
    action: drop
  - source_labels:
    - __meta_kubernetes_pod_label_a
    - __meta_kubernetes_pod_labelpresent_a
    regex: (x);true
    action: keep
  - source_labels:
    - __meta_kubernetes_pod_label_b_c_d
    - __meta_kubernetes_pod_labelpresent_b_c_d
    regex: (worker);true
    action: keep
  - source_labels:
    - __meta_kubernetes_pod_container_port_name
    regex: http
    action: keep
  - source_labels:
    - __meta_kubernetes_namespace
    target_label: namespace
  - source_labels:
    - __meta_kubernetes_pod_container_name
    target_label: container
  - source_labels:
    - __meta_kubernetes_pod_name
    target_label: pod
  - target_label: job
    replacement: system/worker
  - target_label: endpoint
    replacement: http
  - target_label: job
    replacement: avatar-agent-worker
  - source_labels:
    - y
    - z
    separator: ;
    regex: (.+)
    action: keep
"""


def test_configuration_equals_that_of_the_operator() -> None:
    before = copy.deepcopy(MONITOR)
    made = scraping.configuration([MONITOR], discovery_port=PORT, rules=Path("/state/rules.yaml"), interval="5s")
    assert yaml.safe_dump(made, sort_keys=False) == GOLDEN
    assert before == MONITOR


@pytest.mark.parametrize(
    ("selector", "namespaces"),
    [
        (None, "?namespace=system"),
        ({"matchNames": ["a", "b"]}, "?namespace=a&namespace=b"),
        ({"any": True}, ""),
    ],
    ids=["its own namespace", "named namespaces", "all namespaces"],
)
def test_namespaces_are_those_of_the_selector(selector: dict[str, Any] | None, namespaces: str) -> None:
    spec = {name: value for name, value in MONITOR["spec"].items() if name != "namespaceSelector"}
    monitor = MONITOR | {"spec": spec | ({"namespaceSelector": selector} if selector else {})}
    ((discovery,),) = (one["http_sd_configs"] for one in scraping.scrape_configs([monitor], PORT, "5s"))
    assert discovery["url"] == f"http://127.0.0.1:9091/pods{namespaces}"


def test_each_endpoint_is_a_job_of_its_own() -> None:
    spec = MONITOR["spec"] | {"podMetricsEndpoints": [{"port": "a"}, {"port": "b"}]}
    configs = scraping.scrape_configs([MONITOR | {"spec": spec}, MONITOR], PORT, "5s")
    assert [config["job_name"] for config in configs] == [
        "podMonitor/system/worker/0",
        "podMonitor/system/worker/1",
        "podMonitor/system/worker/0",
    ]
    assert not {"scrape_interval", "metrics_path"} & configs[0].keys(), "Prometheus' defaults"


@pytest.mark.parametrize(
    "path",
    [
        ["spec", "podTargetLabels"],
        ["spec", "selector", "matchExpressions"],
        ["spec", "namespaceSelector", "labels"],
        ["spec", "podMetricsEndpoints", 0, "metricRelabelings"],
        ["spec", "podMetricsEndpoints", 0, "relabelings", 0, "other"],
    ],
    ids=lambda path: str(path[-1]),
)
def test_unknown_field_is_an_error(path: list[Any]) -> None:
    monitor = copy.deepcopy(MONITOR)
    place: Any = monitor
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = ["x"]
    with pytest.raises(DevkitError, match=rf"the PodMonitor system/worker .*\['{path[-1]}'\]"):
        scraping.scrape_configs([monitor], PORT, "5s")
