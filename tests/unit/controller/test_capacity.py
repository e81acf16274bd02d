"""What an agent's workers hold and can take: load, rollout progress, and the numbers in the status."""

from typing import Any

import pytest

from agentspec import CallCounts, SlotCounts, WorkerCounts
from controller.observation import ObservedWorker
from controller.policy.availability import REGISTRATION_SECONDS, START_SECONDS
from controller.policy.capacity import counts_of, load_of, rollout_of, slots_of
from controller.policy.plan import Counts
from controller.policy.rollout import Rollout
from controller.policy.scale import Load
from tests.unit.controller.builders import CREATED, status, worker

STAYING = worker("staying", status(calls=1, avatars=1))
TERMINATING = worker("terminating", status(calls=2, avatars=2), terminating=True)
SILENT = worker("silent")
STARTING = worker("starting", ready=False)


def load(**changes: Any) -> Load:
    """Three waiting calls and no workers, with fields replaced."""
    known = {"calls": 0, "pending": 3, "busy": 0, "busy_unready": False}
    return Load(**{**known, **changes})


def counts(*workers: ObservedWorker, registered_name: str = "ava") -> Counts:
    """The numbers in the status, with one desired worker, one updated worker and five waiting calls."""
    return counts_of(workers, registered_name, desired=1, updated=1, pending_calls=5)


@pytest.mark.parametrize(
    ("workers", "load"),
    [
        pytest.param([], load(), id="no worker"),
        pytest.param([worker(report=status())], load(serving=1), id="idle worker"),
        pytest.param([STAYING, TERMINATING], load(calls=1, busy=1, serving=1), id="terminating worker"),
        pytest.param([SILENT], load(busy=1, changes_in=START_SECONDS - 30), id="ready worker with unknown calls"),
        pytest.param([STARTING], load(changes_in=START_SECONDS - 30), id="starting worker"),
        pytest.param(
            [worker(report=status(calls=2), ready=False)],
            load(calls=2, busy=1, busy_unready=True, serving=1),
            id="busy unready worker",
        ),
        pytest.param(
            [worker(unregistered_seconds=40)],
            load(busy=1, lost=1, lost_ready=1),
            id="lost worker that Kubernetes finds ready",
        ),
        pytest.param(
            [worker(unregistered_seconds=40, ready=False)],
            load(lost=1, failed=1),
            id="lost worker that Kubernetes finds unready",
        ),
        pytest.param(
            [worker(report=status(registered=False, calls=2), unregistered_seconds=20, ready=False)],
            load(busy=1, busy_unready=True, lost=1, failed=1),
            id="calls of a lost worker need no other worker",
        ),
        pytest.param(
            [worker(ready=False, running=False, created=CREATED - 60)],
            load(lost=1),
            id="pod that does not start",
        ),
        pytest.param(
            [worker(report=status(registered=False, calls=2), unregistered_seconds=5, ready=False)],
            load(calls=2, busy=1, busy_unready=True, changes_in=REGISTRATION_SECONDS - 5),
            id="worker that lost its registration a moment ago",
        ),
        pytest.param([worker(unregistered_seconds=9, hangs_idle=True)], load(), id="worker whose pod is deleted"),
    ],
)
def test_load_counts_calls_that_staying_workers_carry(workers: list[ObservedWorker], load: Load) -> None:
    assert load_of(workers, 3, "ava", now=CREATED + 30) == load


@pytest.mark.parametrize("pending", [True, False], ids=["pending", "not-pending"])
def test_rollout_counts_workers_by_template(pending: bool) -> None:
    workers = [
        worker("new", status(calls=1), template="new"),
        worker("starting", template="new", ready=False),
        worker("ending", template="new", terminating=True),
        worker("old", status(calls=2), template="old"),
        worker("terminating", status(calls=3), template="old", terminating=True),
        worker("silent", template="old"),
    ]
    rollout = rollout_of(workers, "new", pending=pending)
    assert rollout == Rollout(total=6, updated=1, old=3, old_calls=5, pending=pending)


def test_counts_include_calls_but_not_slots_of_terminating_workers() -> None:
    assert counts(STAYING, TERMINATING) == Counts(
        WorkerCounts(desired=1, ready=1, registered=1, updated=1, draining=1),
        SlotCounts(total=4, free=3),
        CallCounts(active=3, pending=5, with_avatar=3),
    )


@pytest.mark.parametrize(
    ("workers", "registered", "ready", "draining", "slots"),
    [
        pytest.param([SILENT], 0, 1, 0, SlotCounts(), id="without a status"),
        pytest.param([STARTING], 0, 0, 0, SlotCounts(), id="starting"),
        pytest.param([worker(report=status(registered=False))], 0, 1, 0, SlotCounts(), id="not registered"),
        pytest.param([worker(report=status(agent_name="eve"))], 0, 1, 0, SlotCounts(), id="under another name"),
        pytest.param([worker(report=status(draining=True))], 0, 1, 1, SlotCounts(), id="draining"),
        pytest.param([worker(report=status())], 1, 1, 0, SlotCounts(total=4, free=4), id="registered"),
    ],
)
def test_only_registered_workers_supply_slots(
    workers: list[ObservedWorker], registered: int, ready: int, draining: int, slots: SlotCounts
) -> None:
    found = counts(*workers)
    assert (found.workers.registered, found.workers.ready, found.workers.draining) == (registered, ready, draining)
    assert found.slots == slots


def test_automatic_dispatch_counts_workers_without_a_name() -> None:
    workers = (worker("unnamed", status(agent_name="")), worker("named", status()))
    assert counts(*workers, registered_name="").workers.registered == 1


def test_slots_add_up() -> None:
    workers = [worker("one", status(calls=1)), worker("full", status(calls=4)), SILENT]
    assert slots_of(workers) == SlotCounts(total=8, free=3)
