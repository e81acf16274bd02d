"""The encoder returns what prometheus_client returns, byte by byte."""

import math
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
from prometheus_client.exposition import choose_encoder

from process.exposition import Exposition
from process.metrics import SampledGauge

TEXT = "text/plain"
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
QUOTED = 'a "quoted" \\ and\na line break, und Umlaute: ä'


class Scene:
    """A registry with metrics of all types, and the encoder."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.samples = {QUOTED: 1.5, "Pod": -math.inf}
        self.plain = Counter("plain", "Without labels.", registry=self.registry)
        self.calls = Counter("calls", f"Calls. {QUOTED}", ["reason", "agent"], registry=self.registry)
        self.slots = Gauge("slots", "Slots.", ["agent"], registry=self.registry)
        self.waits = Histogram(
            "wait_seconds", "Waits.", ["route", "code"], buckets=(0.1, 1, 1e9), registry=self.registry
        )
        self.sampled = SampledGauge("age", "Ages.", ["kind"], self.read, registry=self.registry)
        SampledGauge("single", "One.", (), lambda: [((), 1)], registry=self.registry)
        Summary("size_bytes", "Sizes.", ["kind"], registry=self.registry).labels("a").observe(3)
        Info("build", "Build.", ["component"], registry=self.registry).labels("gateway").info({"version": "1"})
        Gauge("empty", "Without series.", ["agent"], registry=self.registry)
        self.exposition = Exposition(self.registry)

    def read(self) -> list[tuple[tuple[str], float]]:
        return [((kind,), value) for kind, value in self.samples.items()]

    def assert_same(self) -> None:
        """Compare both formats, each of them twice: the second time most of the text is known."""
        for accept in (TEXT, OPEN_METRICS, "text/plain;version=1.0.0;escaping=allow-utf-8"):
            encode, content_type = choose_encoder(accept)
            for _ in range(2):
                assert self.exposition.encode(accept) == (encode(self.registry), content_type)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def change_nothing(_: Scene) -> None: ...


def count(scene: Scene) -> None:
    scene.plain.inc()
    scene.calls.labels("Full", "ava").inc(1e9)
    scene.calls.labels(QUOTED, "ava").inc(0)


def set_gauges(scene: Scene) -> None:
    scene.slots.labels("ava").set(3)
    scene.slots.labels("eve").set(math.nan)
    scene.slots.labels("computed").set_function(lambda: 7)


def observe(scene: Scene) -> None:
    scene.waits.labels("/v1/calls", "200").observe(0.5)
    scene.waits.labels("/v1/calls", "404")


def observe_with_exemplars(scene: Scene) -> None:
    scene.waits.labels("/", "200").observe(0.5, {"call_id": "c1"})
    scene.waits.labels("/", "200").observe(5, {"call_id": QUOTED})
    scene.calls.labels("Full", "ava").inc(1, {"call_id": "c3"})


CHANGES = [change_nothing, count, set_gauges, observe, observe_with_exemplars]


@pytest.mark.parametrize("change", CHANGES)
def test_encoder_returns_what_the_library_returns(scene: Scene, change: Callable[[Scene], None]) -> None:
    scene.assert_same()
    for _ in range(3):  # series appear, and then change
        change(scene)
        scene.assert_same()


def test_removed_series_disappear(scene: Scene) -> None:
    for change in CHANGES:
        change(scene)
    scene.assert_same()
    scene.calls.remove("Full", "ava")
    scene.slots.clear()
    scene.samples.clear()
    scene.assert_same()
    count(scene)  # the same labels again, from 0
    scene.assert_same()
    scene.registry.unregister(scene.sampled)
    scene.assert_same()


def test_text_of_removed_series_is_not_kept(scene: Scene) -> None:
    for number in range(100):
        scene.slots.labels(f"agent-{number}").set(1)
    scene.exposition.encode(TEXT)
    scene.slots.clear()
    scene.exposition.encode(TEXT)
    assert scene.exposition._known[scene.slots] == {}
    scene.registry.unregister(scene.sampled)
    scene.exposition.encode(TEXT)
    assert scene.sampled not in scene.exposition._known
