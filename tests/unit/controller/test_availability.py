"""Which workers take calls, will take some soon, or are lost."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.observation import ObservedWorker
from controller.policy.availability import REGISTRATION_SECONDS, START_SECONDS, Availability, availability_of
from tests.unit.controller.builders import CREATED, pod, status, worker

UNREGISTERED = status(registered=False)
FIRST = status(registered=False, worker_id="")
"""The report of a worker process that has not registered yet."""


def sort(*workers: ObservedWorker, age: float = 10.0) -> Availability:
    """Sort workers whose pods have this age in seconds."""
    return availability_of(workers, "ava", CREATED + age)


def names(workers: Sequence[ObservedWorker]) -> list[str]:
    return [seen.pod.name for seen in workers]


@pytest.mark.parametrize(
    ("seen", "age", "kind"),
    [
        pytest.param(worker(report=status()), 900, "serving", id="registered"),
        pytest.param(worker(report=status(calls=4)), 900, "serving", id="registered and full"),
        pytest.param(worker(report=status(), ready=False), 900, "serving", id="registered, and the pod unready"),
        pytest.param(worker(running=False, ready=False), START_SECONDS - 1, "coming", id="pod starts"),
        pytest.param(worker(running=False, ready=False), START_SECONDS, "lost", id="pod has not started in time"),
        pytest.param(worker(running=False, ready=False, node=""), 900, "coming", id="pod waits for a node"),
        pytest.param(worker(report=FIRST), START_SECONDS, "coming", id="container restarted in an old pod"),
        pytest.param(worker(unregistered_seconds=31), 900, "lost", id="silent"),
        pytest.param(worker(), 900, "lost", id="silent since the controller started"),
        pytest.param(worker(report=UNREGISTERED, unregistered_seconds=5), 900, "coming", id="registration lost now"),
        pytest.param(
            worker(report=UNREGISTERED, unregistered_seconds=REGISTRATION_SECONDS), 900, "lost", id="registration lost"
        ),
        pytest.param(
            worker(report=status(draining=True), unregistered_seconds=2), 900, "coming", id="deletion not seen yet"
        ),
        pytest.param(
            worker(report=status(draining=True), unregistered_seconds=60), 900, "lost", id="drains without a deletion"
        ),
        pytest.param(worker(report=status(agent_name="eva"), unregistered_seconds=0), 900, "coming", id="earlier name"),
        pytest.param(worker(report=status(), terminating=True), 900, "", id="terminating"),
        pytest.param(
            replace(worker(report=status(registered=False, code_failure="ValueError: x")), reporting_seconds=900),
            900,
            "coming",
            id="own code that no other worker could use either",
        ),
    ],
)
def test_worker_serves_comes_or_is_lost(seen: ObservedWorker, age: float, kind: str) -> None:
    found = sort(seen, age=age)
    kinds = {"serving": found.serving, "coming": found.coming, "lost": found.lost}
    assert [name for name, workers in kinds.items() if workers] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        pytest.param([worker(report=status())], None, id="serving"),
        pytest.param([worker(node="")], None, id="waits for a node"),
        pytest.param([worker(unregistered_seconds=40)], None, id="lost"),
        pytest.param([worker(ready=False)], START_SECONDS - 10, id="starts"),
        pytest.param(
            [worker(ready=False), worker("pod-2", report=UNREGISTERED, unregistered_seconds=6)],
            REGISTRATION_SECONDS - 6,
            id="the earliest of two",
        ),
    ],
)
def test_time_until_a_worker_counts_as_lost(workers: list[ObservedWorker], seconds: float | None) -> None:
    assert sort(*workers).changes_in == seconds


def test_each_lost_worker_doubles_the_time_of_later_ones() -> None:
    pods = [worker(f"pod-{number}", ready=False, created=CREATED + number) for number in range(3)]
    assert names(sort(*pods, age=START_SECONDS).lost) == ["pod-0"]
    second = 2 * START_SECONDS + 1
    assert names(sort(*pods, age=second - 0.1).lost) == ["pod-0"]
    assert names(sort(*pods, age=second).lost) == ["pod-0", "pod-1"]
    assert sort(*pods, age=second).changes_in == 4 * START_SECONDS - second + 2


statuses = st.none() | st.builds(
    lambda registered, draining, name: status(registered=registered, draining=draining, agent_name=name),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["ava", "eva"]),
)
workers_of_any_kind = st.builds(
    lambda name, report, unregistered, **changes: ObservedWorker(
        pod(f"pod-{name}", **changes), report, unregistered_seconds=unregistered
    ),
    st.integers(0, 99),
    statuses,
    st.none() | st.floats(0, 100),
    ready=st.booleans(),
    terminating=st.booleans(),
    node=st.sampled_from(["", "node-1"]),
    created=st.floats(0, 500).map(lambda age: CREATED - age),
)


@given(st.lists(workers_of_any_kind, max_size=8), st.floats(0, 100))
def test_every_staying_worker_is_of_one_kind(workers: list[ObservedWorker], later: float) -> None:
    found = sort(*workers, age=0)
    together = [*found.serving, *found.coming, *found.lost]
    staying = [seen for seen in workers if not seen.pod.terminating]
    assert sorted(map(id, together)) == sorted(map(id, staying))
    assert found.changes_in is None or found.changes_in > 0
    again = sort(*workers, age=later)
    assert again.serving == found.serving, "time alone registers no worker"
    if found.changes_in is None or later < found.changes_in:
        assert again.lost == found.lost, "nothing is lost before the announced time"
