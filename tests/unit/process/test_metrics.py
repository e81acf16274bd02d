"""The metrics that all processes share, and the names of all metrics."""

import asyncio
import re
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import worker.call.metrics  # noqa: F401 - registers the series of call processes
from controller.metrics import Metrics as ControllerMetrics
from gateway.metrics import Metrics as GatewayMetrics
from process import metrics as module
from process.metrics import ProcessMetrics, SampledGauge
from process.version import VERSION
from tests.unit.gateway.fakes import example_agent
from tests.waiting import soon
from worker.server import metrics as worker_metrics

BASE_UNITS = ("_seconds", "_bytes")
OTHER_UNITS = ("milliseconds", "_ms", "minutes", "hours", "kilobytes", "megabytes", "percent")
TYPES = ("counter", "gauge", "histogram", "summary")


def controller_registry() -> CollectorRegistry:
    metrics = ControllerMetrics()
    metrics.start_leading(lambda: 0, list, list)
    metrics.record_request("GET", 200, 0.1)
    return metrics.registry


def gateway_registry() -> CollectorRegistry:
    metrics = GatewayMetrics()
    metrics.calls.follow(lambda: [example_agent()], dict, lambda agent_key: True)
    metrics.record_request("/v1/calls", "POST", 201, 0.1)
    metrics.set_controller_reachable(True)
    return metrics.registry


REGISTRIES = {
    "controller": controller_registry(),
    "gateway": gateway_registry(),
    "worker": worker_metrics._registry,
    "call processes": REGISTRY,
}


def families() -> Iterator[tuple[str, Metric]]:
    """Component and family of every metric of this project."""
    for component, registry in REGISTRIES.items():
        for family in registry.collect():
            if family.name.startswith("avatar_agent_"):
                yield component, family


FAMILIES = list(families())


def test_all_metrics_are_examined() -> None:
    found = {component: 0 for component in REGISTRIES}
    for component, _ in FAMILIES:
        found[component] += 1
    assert all(number >= 10 for number in found.values()), found


@pytest.mark.parametrize(("component", "family"), FAMILIES, ids=[family.name for _, family in FAMILIES])
def test_name_follows_the_rules_of_prometheus(component: str, family: Metric) -> None:
    prefix = {"call processes": "worker"}.get(component, component)
    assert family.name == "avatar_agent_build" or family.name.startswith(f"avatar_agent_{prefix}_")
    assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", family.name), "no colon, no capitals"
    assert len(family.documentation) > 10 and family.documentation.endswith(".")
    assert not any(word in family.name.split("_") for word in TYPES)
    assert not family.name.endswith(OTHER_UNITS) and not any(unit in family.name for unit in OTHER_UNITS[3:])
    if family.type == "histogram":
        assert family.name.endswith(BASE_UNITS), "every histogram measures something with a unit"
    if "duration" in family.name or "timestamp" in family.name:
        assert family.name.endswith("_seconds")
    names = {sample.name for sample in family.samples}
    assert not any(name.endswith("_created") for name in names)
    assert all(name.endswith("_total") is (family.type == "counter") for name in names)
    labels = {label for sample in family.samples for label in sample.labels}
    assert not labels & {"namespace", "pod", "job", "instance", "container", "endpoint"}, "Prometheus sets these"
    assert ("agent" in labels) is ("agent_namespace" in labels)


@pytest.mark.parametrize("component", sorted(REGISTRIES))
def test_exposition_is_valid_openmetrics(component: str) -> None:
    text = openmetrics(REGISTRIES[component]).decode()  # type: ignore[no-untyped-call]
    parsed = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert len(parsed) >= 10


@pytest.mark.parametrize("component", ["controller", "gateway", "worker"])
def test_each_process_reports_version_and_resources(component: str) -> None:
    lines = generate_latest(REGISTRIES[component]).decode().splitlines()
    assert f'avatar_agent_build_info{{component="{component}",version="{VERSION}"}} 1.0' in lines
    names = {line.partition(" ")[0] for line in lines}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= names
    assert f"avatar_agent_{component}_event_loop_lag_seconds_count" in names


async def test_blocked_event_loop_shows_as_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAG_INTERVAL_SECONDS", 0.01)
    registry = CollectorRegistry()
    process = ProcessMetrics("gateway", registry)

    def slow() -> float:
        """Samples that show a lag of more than 0.1 s."""
        count, fast = (
            registry.get_sample_value(f"avatar_agent_gateway_event_loop_lag_seconds_{name}", labels)
            for name, labels in (("count", {}), ("bucket", {"le": "0.1"}))
        )
        assert count is not None and fast is not None
        return count - fast

    async with process.sampling():
        loop = asyncio.get_running_loop()
        busy_until = loop.time() + 0.2
        await asyncio.sleep(0)  # the sampler sets its timer
        while loop.time() < busy_until:
            pass
        await soon(lambda: slow() == 1)
    assert "event_loop_lag" not in {task.get_name() for task in asyncio.all_tasks()}, "it has ended with the context"


def test_sampled_gauge_reads_its_samples_at_each_scrape() -> None:
    registry, samples = CollectorRegistry(), dict[str, float]()

    def read() -> Iterable[tuple[tuple[str], float]]:
        return [((kind,), value) for kind, value in samples.items()]

    SampledGauge("age_seconds", "Ages by kind.", ["kind"], read, registry=registry)
    assert registry.get_sample_value("age_seconds", {"kind": "Pod"}) is None
    samples["Pod"] = 3
    assert registry.get_sample_value("age_seconds", {"kind": "Pod"}) == 3
    samples.clear()
    assert "age_seconds{" not in generate_latest(registry).decode()
