"""Annotations of worker pods: deletion costs, and the protection of pods with calls."""

from pathlib import Path

import pytest

from controller.desired.deployment import pod_template
from controller.desired.identity import Owner
from controller.observation import ObservedWorker
from controller.policy.podannotations import (
    DELETION_COST,
    IDLE_SECONDS,
    PROTECTION,
    Annotations,
    deletion_costs,
    merged,
    protections,
)
from tests.unit.controller.builders import spec, status, worker

REPOSITORY = Path(__file__).resolve().parents[3]

EVICT, DISRUPT = PROTECTION
BUSY, IDLE = status(calls=2), status()
UNPROTECTED: dict[str, str | None] = dict.fromkeys(PROTECTION)


@pytest.mark.parametrize(
    ("seen", "cost"),
    [
        pytest.param(worker(report=IDLE), None, id="idle"),
        pytest.param(worker(report=BUSY), "2", id="busy"),
        pytest.param(worker(report=BUSY, annotations={DELETION_COST: "2"}), None, id="cost already set"),
        pytest.param(worker(report=IDLE, annotations={DELETION_COST: "2"}), "0", id="idle again"),
        pytest.param(worker(), "1", id="unknown calls"),
        pytest.param(worker(ready=False), None, id="starting"),
        pytest.param(worker(report=BUSY, terminating=True), None, id="terminating"),
    ],
)
def test_deletion_cost_is_the_number_of_calls(seen: ObservedWorker, cost: str | None) -> None:
    assert deletion_costs([seen]) == ({} if cost is None else {"pod-1": {DELETION_COST: cost}})


@pytest.mark.parametrize(
    ("seen", "changes"),
    [
        pytest.param(worker(report=BUSY), PROTECTION, id="busy"),
        pytest.param(worker(report=BUSY, annotations=PROTECTION), {}, id="busy and protected"),
        pytest.param(worker(report=BUSY, terminating=True), PROTECTION, id="finishes its calls"),
        pytest.param(worker(report=BUSY, annotations={EVICT: "false"}), {DISRUPT: "true"}, id="half protected"),
        pytest.param(worker(report=IDLE, idle_seconds=900), {}, id="idle"),
        pytest.param(
            worker(report=IDLE, annotations=PROTECTION, idle_seconds=IDLE_SECONDS), UNPROTECTED, id="idle again"
        ),
        pytest.param(worker(report=IDLE, annotations=PROTECTION, idle_seconds=1), {}, id="idle for a moment"),
        pytest.param(worker(annotations=PROTECTION, idle_seconds=900), {}, id="unknown calls"),
        pytest.param(worker(idle_seconds=900), {}, id="starting"),
        pytest.param(worker(report=BUSY, annotations={EVICT: "true"}), {DISRUPT: "true"}, id="another value, busy"),
        pytest.param(worker(report=IDLE, annotations={EVICT: "true"}, idle_seconds=900), {}, id="another value, idle"),
    ],
)
def test_exactly_pods_with_calls_are_protected(seen: ObservedWorker, changes: dict[str, str | None]) -> None:
    assert protections([seen], {})[0] == ({"pod-1": changes} if changes else {})


@pytest.mark.parametrize("value", ["true", "false"])
def test_annotation_of_the_manifest_is_left_alone(value: str) -> None:
    declared = {EVICT: value}
    busy = worker(report=BUSY, annotations=declared)
    idle = worker("pod-2", report=IDLE, annotations={**PROTECTION, **declared}, idle_seconds=900)
    older = worker("pod-3", report=BUSY)
    expected: Annotations = {
        "pod-1": {DISRUPT: "true"},
        "pod-2": {DISRUPT: None},
        "pod-3": {DISRUPT: "true"},
    }
    assert protections([busy, idle, older], declared)[0] == expected


def test_next_change_is_due_when_the_first_worker_was_idle_long_enough() -> None:
    workers = [
        worker(f"pod-{seconds}", IDLE, annotations=PROTECTION, idle_seconds=float(seconds)) for seconds in (2, 7, 90)
    ]
    changes, due = protections(workers, {})
    assert changes == {"pod-90": UNPROTECTED}
    assert due == IDLE_SECONDS - 7


def test_guide_names_the_volumes_that_keep_idle_nodes() -> None:
    template = pod_template(
        Owner("shop", "ava", "uid-ava"), spec(), default_image="worker:1", config_map_name="c", credentials=""
    )
    local = [volume["name"] for volume in template["spec"]["volumes"] if "emptyDir" in volume]
    guide = (REPOSITORY / "docs/guides/nodes.md").read_text()
    assert f'cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes: "{",".join(local)}"' in guide
    assert all(f'`{name}: "{value}"`' in guide for name, value in PROTECTION.items())


def test_changes_of_one_pod_are_one_change() -> None:
    first: Annotations = {"pod-1": {DELETION_COST: "1"}}
    second: Annotations = {"pod-1": {EVICT: "false"}, "pod-2": {EVICT: None}}
    assert merged(first, second) == {"pod-1": {DELETION_COST: "1", EVICT: "false"}, "pod-2": {EVICT: None}}
