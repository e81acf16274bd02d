"""The metrics of AvatarAgents and of the controller."""

import time
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.samples import Sample

from agentspec import CallCounts, SlotCounts, WorkerCounts
from controller.metrics import Metrics, ReconcileOutcome
from controller.observation import Key
from controller.policy.plan import Counts
from controller.policy.scale import Decision, ScaleReason
from controller.policy.snapshot import ObservedAgent
from tests.unit.controller.builders import KEY, OTHER, TAVUS, pod, spec

COUNTS = Counts(WorkerCounts(desired=2, updated=1), SlotCounts(total=8, free=7), CallCounts(active=1, pending=3))
PREFIX = "avatar_agent_controller_"


def set_agent(metrics: Metrics, key: Key, *, seats: int | None = None, **changes: Any) -> None:
    """Set the gauges of an agent with these fields of its spec."""
    metrics.set_agent(key, COUNTS, spec(**changes), free_seats=seats, ready=True, limited=False)


def values_of(metrics: Metrics, key: Key) -> dict[str, float]:
    """The values of an agent's series, by name."""
    samples = [sample for metric in metrics.registry.collect() for sample in metric.samples]
    own = {"agent_namespace": key.namespace, "agent": key.name}
    return {sample.name: sample.value for sample in samples if own.items() <= sample.labels.items()}


def test_agent_labels_do_not_clash_with_prometheus_labels() -> None:
    metrics = Metrics()
    set_agent(metrics, KEY)
    metrics.record_scaling(KEY, Decision(2, ScaleReason.MORE_NEEDED, 2, ()))
    values = values_of(metrics, KEY)
    assert values["avatar_agent_controller_slots"] == 8
    assert values["avatar_agent_controller_calls_pending"] == 3
    own = {"agent_namespace": KEY.namespace, "agent": KEY.name}
    assert sample(metrics, "scale_decisions_total", **own, reason="MoreNeeded") == 1
    labels = {name for metric in metrics.registry.collect() for sample in metric.samples for name in sample.labels}
    assert not labels & {"namespace", "pod", "job", "instance", "name"}


def test_deleted_agent_has_no_series() -> None:
    metrics = Metrics()
    for key in (KEY, OTHER):
        set_agent(metrics, key, seats=1, avatar=TAVUS | {"maxSessions": 2})
        metrics.record_scaling(key, Decision(2, ScaleReason.MORE_NEEDED, 2, ()))
    metrics.start_leading(lambda: 0, list, list)
    metrics.record_worker_start(KEY, pod(created=time.time()))
    metrics.forget(KEY)
    metrics.record_worker_start(KEY, pod(created=time.time()))
    assert values_of(metrics, KEY) == {}
    assert values_of(metrics, OTHER)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"avatar_agent_controller_{name}", labels)


def agent(name: str, *conditions: tuple[str, str, str]) -> ObservedAgent:
    found = [dict(zip(("type", "status", "reason"), condition, strict=True)) for condition in conditions]
    status: dict[str, Any] = {"conditions": found} if conditions else {}
    return ObservedAgent(Key("shop", name), name, 1, 1, "2026-01-01T00:00:00Z", False, spec(), status)


def test_conditions_of_each_agent_are_read_at_each_scrape() -> None:
    metrics = Metrics()
    agents = [agent("new")]
    metrics.start_leading(lambda: 0, lambda: list(agents), list)
    own = {"agent_namespace": "shop", "agent": "a"}
    labels = {"condition": "Ready", "status": "False", "reason": "NameTaken"}
    assert sample(metrics, "agent_condition", **own, **labels) is None
    agents += [agent(name, ("Ready", "False", "NameTaken"), ("Progressing", "False", "RolledOut")) for name in "ab"]
    assert sample(metrics, "agent_condition", **own, **labels) == 1
    assert sample(metrics, "agent_condition", **own, condition="Progressing", status="False", reason="RolledOut") == 1
    assert len(series(metrics, "agent_condition")) == 4
    agents[1] = agent("a", ("Ready", "True", "AllChecksPassed"))
    assert sample(metrics, "agent_condition", **own, **labels) is None, "one status and reason at a time"
    assert sample(metrics, "agent_condition", **own, condition="Ready", status="True", reason="AllChecksPassed") == 1
    agents.clear()
    assert series(metrics, "agent_condition") == []


def series(metrics: Metrics, name: str) -> list[Sample]:
    """All samples of this name."""
    return [found for family in metrics.registry.collect() for found in family.samples if found.name == PREFIX + name]


def test_leader_and_queue_length_are_reported() -> None:
    metrics = Metrics()
    assert (sample(metrics, "leading"), sample(metrics, "queue_length")) == (0, 0)
    waiting = [KEY, OTHER]
    metrics.start_leading(lambda: len(waiting), list, list)
    assert (sample(metrics, "leading"), sample(metrics, "queue_length")) == (1, 2)
    waiting.clear()
    assert sample(metrics, "queue_length") == 0


def test_watch_contacts_are_unix_times() -> None:
    metrics = Metrics()
    contacts = [("Pod", time.monotonic() - 60)]
    metrics.start_leading(lambda: 0, list, lambda: contacts)
    at = sample(metrics, "watch_last_contact_timestamp_seconds", kind="Pod")
    assert at == pytest.approx(time.time() - 60, abs=1)


@pytest.mark.parametrize("outcome", sorted(set(ReconcileOutcome) - {ReconcileOutcome.SUCCESS}))
def test_only_successful_reconciles_set_the_last_success(outcome: ReconcileOutcome) -> None:
    metrics = Metrics()
    assert sample(metrics, "reconciles_total", outcome=outcome) == 0, "each outcome starts at 0"
    metrics.record_reconcile(outcome, 0.2)
    assert sample(metrics, "last_success_timestamp_seconds") is None
    before = time.time()
    metrics.record_reconcile(ReconcileOutcome.SUCCESS, 0.02)
    last = sample(metrics, "last_success_timestamp_seconds")
    assert last is not None
    assert before <= last <= time.time()
    assert sample(metrics, "reconciles_total", outcome=outcome) == 1
    assert sample(metrics, "reconciles_total", outcome="success") == 1
    assert sample(metrics, "reconcile_duration_seconds_count") == 2
    assert sample(metrics, "reconcile_duration_seconds_bucket", le="0.025") == 1


def test_counters_of_an_agent_start_at_zero() -> None:
    metrics = Metrics()
    set_agent(metrics, KEY)
    own = {"agent_namespace": KEY.namespace, "agent": KEY.name}
    assert {reason: sample(metrics, "scale_decisions_total", **own, reason=reason) for reason in ScaleReason} == (
        dict.fromkeys(ScaleReason, 0)
    )
    assert sample(metrics, "worker_start_duration_seconds_count", **own) == 0


def test_seats_and_limits_follow_the_spec() -> None:
    metrics = Metrics()
    set_agent(metrics, KEY, seats=1, avatar=TAVUS | {"maxSessions": 2}, scaling={"maxWorkers": 7})
    values = values_of(metrics, KEY)
    assert (values[PREFIX + "avatar_seats"], values[PREFIX + "avatar_seats_free"]) == (2, 1)
    assert (values[PREFIX + "workers_max"], values[PREFIX + "workers_updated"]) == (7, 1)
    set_agent(metrics, KEY, scaling={"mode": "Fixed", "workers": 3})
    values = values_of(metrics, KEY)
    assert values[PREFIX + "workers_max"] == 3
    assert not {PREFIX + "avatar_seats", PREFIX + "avatar_seats_free"} & values.keys(), "no limit is set any more"


def test_worker_starts_are_measured_from_the_creation_of_the_pod() -> None:
    metrics = Metrics()
    set_agent(metrics, KEY)
    own = {"agent_namespace": KEY.namespace, "agent": KEY.name}
    metrics.record_worker_start(KEY, pod(created=time.time()))
    assert sample(metrics, "worker_start_duration_seconds_count", **own) == 0, "a standby does not measure"
    metrics.start_leading(lambda: 0, list, list)
    metrics.record_worker_start(KEY, pod(created=time.time() - 3600))
    assert sample(metrics, "worker_start_duration_seconds_count", **own) == 0, "it started under an earlier leader"
    metrics.record_worker_start(KEY, pod(created=time.time()))
    assert sample(metrics, "worker_start_duration_seconds_bucket", **own, le="1.0") == 1
    metrics.record_worker_start(OTHER, pod(created=time.time()))
    assert values_of(metrics, OTHER) == {}, "an agent that is gone gets no series"


def test_requests_are_measured_by_verb_and_code() -> None:
    metrics = Metrics()
    metrics.record_request("GET", 200, 0.02)
    metrics.record_request("PATCH", 0, 30.0)
    assert sample(metrics, "api_request_duration_seconds_bucket", verb="GET", code="200", le="0.025") == 1
    assert sample(metrics, "api_request_duration_seconds_count", verb="PATCH", code="0") == 1


def test_help_of_scale_decisions_lists_every_reason() -> None:
    text = generate_latest(Metrics().registry).decode()
    (help_line,) = [
        line for line in text.splitlines() if line.startswith("# HELP avatar_agent_controller_scale_decisions")
    ]
    assert help_line.endswith(
        "by reason: Steady, MoreNeeded, FewerNeeded, DelayRunning, WorkersLost, WorkersBusy, Contested, Stopped."
    )
