"""The series of one AvatarAgent: how they are labelled, and that they go with it."""

from agentspec import CallCounts, SlotCounts, WorkerCounts
from controller.fleet import Counts
from controller.metrics import Metrics
from controller.observation import Key
from controller.policy.scale import Decision, ScaleReason

KEY, OTHER = Key("shop", "ava"), Key("shop", "eva")
COUNTS = Counts(WorkerCounts(desired=2), SlotCounts(total=8, free=7), CallCounts(active=1, pending=3))


def told(metrics: Metrics, key: Key) -> dict[str, float]:
    """Values of an agent's series, by name."""
    samples = [sample for metric in metrics.registry.collect() for sample in metric.samples]
    own = {"agent_namespace": key.namespace, "agent": key.name}
    return {sample.name: sample.value for sample in samples if own.items() <= sample.labels.items()}


def test_series_are_labelled_by_the_agent_and_never_by_a_label_of_prometheus() -> None:
    metrics = Metrics()
    metrics.agent(KEY, COUNTS, ready=True, limited=False)
    metrics.scaled(KEY, Decision(2, ScaleReason.MORE_NEEDED, False, ()))
    values = told(metrics, KEY)
    assert values["avatar_agent_controller_slots"] == 8
    assert values["avatar_agent_controller_calls_pending"] == 3
    assert values["avatar_agent_controller_scale_decisions_total"] == 1
    labels = {name for metric in metrics.registry.collect() for sample in metric.samples for name in sample.labels}
    assert not labels & {"namespace", "pod", "job", "instance", "name"}


def test_an_agent_that_is_gone_has_no_series() -> None:
    metrics = Metrics()
    for key in (KEY, OTHER):
        metrics.agent(key, COUNTS, ready=True, limited=False)
        metrics.scaled(key, Decision(2, ScaleReason.MORE_NEEDED, False, ()))
    metrics.forget(KEY)
    assert told(metrics, KEY) == {}
    assert told(metrics, OTHER)
