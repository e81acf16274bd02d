"""Turns PodMonitors into the configuration of a Prometheus without the operator. Pure functions.

The result is that of the Prometheus operator with its default settings, except that `devkit.demo.discovery` finds the
pods instead of `kubernetes_sd_configs`. Source: prometheus-operator v0.85.0, `generatePodMonitorConfig` in
pkg/prometheus/promcfg.go.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from devkit.demo.discovery import POD, sanitized, url
from devkit.demo.manifests import Document
from devkit.errors import DevkitError

_RELABELING: Final = {
    "sourceLabels": "source_labels",
    "separator": "separator",
    "targetLabel": "target_label",
    "regex": "regex",
    "modulus": "modulus",
    "replacement": "replacement",
    "action": "action",
}
"""Fields of a relabeling, in a PodMonitor and in Prometheus' configuration."""
_ENDPOINT: Final = {"interval": "scrape_interval", "scrapeTimeout": "scrape_timeout", "path": "metrics_path"}
"""Fields of an endpoint that Prometheus has under another name."""


def configuration(monitors: Iterable[Document], *, discovery_port: int, rules: Path, interval: str) -> dict[str, Any]:
    """Return Prometheus' configuration: it looks for pods and evaluates a file of rules, both at this interval."""
    return {
        "global": {"evaluation_interval": interval},
        "rule_files": [str(rules)],
        "scrape_configs": scrape_configs(monitors, discovery_port, interval),
    }


def scrape_configs(monitors: Iterable[Document], discovery_port: int, refresh_interval: str) -> list[dict[str, Any]]:
    """Return one scrape configuration for each endpoint of the PodMonitors.

    Raises DevkitError for a field that this function does not know, so that none is silently left out.
    """
    return [
        _scrape_config(monitor, number, endpoint, discovery_port, refresh_interval)
        for monitor in monitors
        for number, endpoint in enumerate(monitor["spec"]["podMetricsEndpoints"])
    ]


def _scrape_config(
    monitor: Document, number: int, endpoint: Mapping[str, Any], discovery_port: int, refresh_interval: str
) -> dict[str, Any]:
    spec, metadata = monitor["spec"], monitor["metadata"]
    name = f"{metadata['namespace']}/{metadata['name']}"
    _check(name, "spec", spec, {"selector", "namespaceSelector", "podMetricsEndpoints"})
    _check(name, "selector", spec["selector"], {"matchLabels"})
    _check(name, "podMetricsEndpoints", endpoint, {"port", "relabelings", *_ENDPOINT})
    namespaces = _namespaces(name, spec.get("namespaceSelector", {}), metadata["namespace"])
    discovery = {"url": url(discovery_port, namespaces), "refresh_interval": refresh_interval}
    return {
        "job_name": f"podMonitor/{name}/{number}",
        "http_sd_configs": [discovery],
        **{theirs: endpoint[ours] for ours, theirs in _ENDPOINT.items() if ours in endpoint},
        "relabel_configs": [
            {"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"},
            {"source_labels": [f"{POD}phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
            *_selected(spec["selector"].get("matchLabels", {})),
            {"source_labels": [f"{POD}container_port_name"], "regex": endpoint["port"], "action": "keep"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": [f"{POD}container_name"], "target_label": "container"},
            {"source_labels": [f"{POD}name"], "target_label": "pod"},
            {"target_label": "job", "replacement": name},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *(_relabeling(name, relabeling) for relabeling in endpoint.get("relabelings", [])),
        ],
    }


def _namespaces(name: str, selector: Mapping[str, Any], own: str) -> list[str]:
    """Return the namespaces that a PodMonitor selects; empty: all."""
    _check(name, "namespaceSelector", selector, {"any", "matchNames"})
    return [] if selector.get("any") else list(selector.get("matchNames") or [own])


def _selected(labels: Mapping[str, str]) -> Sequence[dict[str, Any]]:
    """Return relabelings that keep only pods with these labels."""
    found = []
    for label, value in sorted(labels.items()):
        sources = [f"{POD}label_{sanitized(label)}", f"{POD}labelpresent_{sanitized(label)}"]
        found.append({"source_labels": sources, "regex": f"({value});true", "action": "keep"})
    return found


def _relabeling(name: str, relabeling: Mapping[str, Any]) -> dict[str, Any]:
    _check(name, "relabelings", relabeling, set(_RELABELING))
    found = {_RELABELING[field]: value for field, value in relabeling.items()}
    return found | ({"action": found["action"].lower()} if "action" in found else {})


def _check(name: str, where: str, fields: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(fields) - known):
        raise DevkitError(f"the PodMonitor {name} has fields in {where} that the demo does not know: {unknown}")
