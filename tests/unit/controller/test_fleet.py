"""The fleet: workers' statuses, gateways' demands, and the supply that follows from them."""

from typing import Any

import pytest

from agentspec import Demand, DispatchMode, DispatchSpec, WorkerStatus
from agentspec.wire import StageFailure, StageReport, StageReports
from controller.fleet.fleet import GATEWAY_MEMORY_SECONDS, WORKER_MEMORY_SECONDS, Fleet
from controller.observation import Key
from controller.policy.names import Claim, server_of
from controller.policy.rollout import PendingTemplate
from controller.policy.scale import Sample
from tests.unit.controller.builders import KEY, TAVUS, fleet, pod, spec, status


def demand(pending: int, gateway: str = "gateway-0", key: Key = KEY) -> Demand:
    return Demand(gateway=gateway, pending={str(key): pending})


def test_workers_under_another_name_supply_no_slots() -> None:
    made = fleet(pod())
    made.record_status(KEY, "pod-1", status(agent_name="eva"), 0.0)
    assert made.supply(0.0)["shop/ava"].slots == 0


def test_automatic_dispatch_expects_workers_without_a_name() -> None:
    made = fleet(pod(), dispatch=DispatchSpec(mode=DispatchMode.AUTOMATIC).model_dump(by_alias=True))
    made.record_status(KEY, "pod-1", status(agent_name=""), 0.0)
    assert made.supply(0.0)["shop/ava"].slots == 4


def test_supply_has_all_and_free_slots() -> None:
    made = fleet(pod())
    made.record_status(KEY, "pod-1", status(calls=1), 0.0)
    supply = made.supply(0.0)["shop/ava"]
    assert (supply.slots, supply.free_slots) == (4, 3)


def test_last_status_of_a_silent_worker_expires() -> None:
    made = fleet(pod())
    made.record_status(KEY, "pod-1", status(calls=2), 0.0)
    agent = made.agents[KEY]
    assert [worker.status for worker in agent.workers(WORKER_MEMORY_SECONDS)] == [status(calls=2)]
    assert [worker.status for worker in agent.workers(WORKER_MEMORY_SECONDS + 1)] == [None]


def test_agent_of_a_worker_that_falls_silent_is_returned_once() -> None:
    made = fleet(pod())
    made.record_status(KEY, "pod-1", status(), 5.0)
    silent_at = 5.0 + WORKER_MEMORY_SECONDS
    assert made.expire_workers(silent_at) == set(), "the last status still counts"
    assert made.expire_workers(silent_at + 1) == {KEY}
    assert made.expire_workers(silent_at + 2) == set()
    made.record_status(KEY, "pod-1", status(), silent_at + 3)
    assert made.expire_workers(silent_at + 20) == set(), "it reports again"


@pytest.mark.parametrize("again", [1.0, WORKER_MEMORY_SECONDS + 1], ids=["in time", "after its silence"])
@pytest.mark.parametrize(
    "reported",
    [status(), status(calls=1), status(draining=True), status(registered=False), status(stages=StageReports())],
    ids=["idle", "in a call", "draining", "unregistered", "with stages"],
)
def test_heartbeat_is_recorded_as_an_equal_status(reported: WorkerStatus, again: float) -> None:
    heartbeat, equal = fleet(pod()), fleet(pod())
    for made in (heartbeat, equal):
        made.record_status(KEY, "pod-1", reported, 0.0)
    changed = heartbeat.record_status(KEY, "pod-1", reported, again)
    assert changed == equal.record_status(KEY, "pod-1", reported.model_copy(), again)
    assert heartbeat.agents[KEY] == equal.agents[KEY]


@pytest.mark.parametrize(
    ("reports", "seconds"),
    [
        pytest.param([], None, id="no report"),
        pytest.param([status(registered=False, worker_id="")], None, id="first registration is still to come"),
        pytest.param([status()], 1.0, id="last report of a registered worker"),
        pytest.param([status(), status(registered=False)], 1.0, id="registration is lost"),
        pytest.param([status(), status(registered=False), status(registered=False)], 2.0, id="still unregistered"),
        pytest.param([status(), status(draining=True), status(draining=True)], 2.0, id="drains"),
        pytest.param([status(), status(registered=False, worker_id="")], None, id="another process in the pod"),
    ],
)
def test_time_without_registration_is_measured(reports: list[WorkerStatus], seconds: float | None) -> None:
    made = fleet(pod())
    for second, report in enumerate(reports):
        made.record_status(KEY, "pod-1", report, float(second))
    (observed,) = made.agents[KEY].workers(float(len(reports)))
    assert observed.unregistered_seconds == seconds


def test_only_a_changed_status_is_reported() -> None:
    made = fleet(pod())
    assert made.record_status(KEY, "pod-1", status(), 0.0)
    assert not made.record_status(KEY, "pod-1", status(), 1.0)
    assert made.record_status(KEY, "pod-1", status(calls=1), 2.0)
    assert not made.record_status(KEY, "gone", status(), 3.0), "the pod is gone"
    assert not made.record_status(Key("shop", "other"), "pod-1", status(), 3.0)


def stages(succeeded_at: float | None = None, failed_at: float | None = None) -> StageReports:
    failure = None if failed_at is None else StageFailure(at=failed_at, status=429, code="insufficient_quota")
    is_failing = failed_at is not None and (succeeded_at is None or failed_at > succeeded_at)
    return StageReports(llm=StageReport(succeeded_at=succeeded_at, failure=failure, failures=int(is_failing)))


def test_only_outcomes_that_may_change_a_decision_are_reported() -> None:
    made = fleet(pod())
    assert made.record_status(KEY, "pod-1", status(stages=stages(1.0)), 0.0)
    assert not made.record_status(KEY, "pod-1", status(stages=stages(20.0)), 1.0), "one success is like another"
    assert made.record_status(KEY, "pod-1", status(stages=stages(20.0, 30.0)), 2.0)
    assert made.record_status(KEY, "pod-1", status(stages=stages(40.0, 30.0)), 3.0)
    assert not made.record_status(KEY, "pod-1", status(), 4.0), "a reader that did not ask"


def test_outcomes_count_for_the_configuration_of_their_worker() -> None:
    made = fleet(pod(), pod("pod-2"), pod("pod-3", template="template-2"))
    made.record_status(KEY, "pod-1", status(stages=stages(failed_at=2.0)), 0.0)
    made.record_status(KEY, "pod-2", status(stages=stages(3.0)), 0.0)
    made.record_status(KEY, "pod-3", status(stages=stages(failed_at=9.0)), 0.0)
    known = made.agents[KEY].stages
    assert known["template-1"].llm.failures == 0, "another worker has succeeded since"
    assert known["template-2"].llm.failures == 1


@pytest.mark.parametrize(
    ("terminating", "draining"), [(True, False), (False, True)], ids=["terminating pod", "draining worker"]
)
def test_outcomes_of_a_worker_that_drains_do_not_count(terminating: bool, draining: bool) -> None:
    made = fleet(pod(terminating=terminating))
    made.record_status(KEY, "pod-1", status(draining=draining, stages=stages(failed_at=2.0)), 0.0)
    assert made.agents[KEY].stages == {}


def test_outcomes_stay_without_workers_until_another_configuration_reports() -> None:
    made = fleet(pod())
    made.record_status(KEY, "pod-1", status(stages=stages(failed_at=2.0)), 0.0)
    made.set_pods(KEY, [])
    assert made.agents[KEY].stages["template-1"].llm.failures == 1, "the last call's failure is still true"
    made.set_pods(KEY, [pod("pod-2", template="template-2")])
    made.record_status(KEY, "pod-2", status(stages=stages(3.0)), 1.0)
    assert set(made.agents[KEY].stages) == {"template-2"}


def test_first_registration_of_each_pod_is_reported_once() -> None:
    registered: list[tuple[Key, str]] = []
    made = Fleet(lambda key, pod: registered.append((key, pod.name)))
    made.declare(KEY, "uid", spec())
    made.set_pods(KEY, [pod(), pod("pod-2")])
    made.record_status(KEY, "pod-1", status(registered=False, worker_id=""), 0.0)
    assert registered == []
    for second, is_registered in enumerate([True, True, False, True]):
        made.record_status(KEY, "pod-1", status(registered=is_registered), second)
    made.record_status(KEY, "pod-1", status(registered=False, worker_id=""), 5.0)
    made.record_status(KEY, "pod-1", status(), 6.0)
    assert registered == [(KEY, "pod-1")], "a restarted container is no new pod"
    made.record_status(KEY, "pod-2", status(), 7.0)
    assert registered == [(KEY, "pod-1"), (KEY, "pod-2")]


def test_status_of_a_removed_pod_is_forgotten() -> None:
    made = fleet(pod())
    made.record_status(KEY, "pod-1", status(calls=1), 0.0)
    made.set_pods(KEY, [])
    made.set_pods(KEY, [pod()])
    assert [worker.status for worker in made.agents[KEY].workers(0.0)] == [None]


def test_demand_adds_up_until_a_gateway_expires() -> None:
    made = fleet()
    made.record_demand(demand(2, "gateway-0"), 0.0)
    made.record_demand(demand(3, "gateway-1"), 5.0)
    assert made.expire_gateways(GATEWAY_MEMORY_SECONDS) == set()
    assert made.pending(KEY) == 5
    assert made.expire_gateways(GATEWAY_MEMORY_SECONDS + 1) == {KEY}
    assert made.pending(KEY) == 3
    assert made.expire_gateways(GATEWAY_MEMORY_SECONDS + 6) == {KEY}
    assert made.pending(KEY) == 0
    assert made.expire_gateways(GATEWAY_MEMORY_SECONDS + 7) == set(), "only once"


@pytest.mark.parametrize(
    ("reports", "changed"),
    [
        pytest.param([demand(1)], {KEY}, id="calls wait"),
        pytest.param([demand(1), demand(1)], set(), id="same number"),
        pytest.param([demand(1), Demand(gateway="gateway-0")], {KEY}, id="no call waits any more"),
        pytest.param([demand(0)], set(), id="still no call waits"),
        pytest.param([demand(1, key=Key("shop", "unknown"))], set(), id="unknown agent"),
    ],
)
def test_agents_with_changed_demand_are_returned(reports: list[Demand], changed: set[Key]) -> None:
    made = fleet()
    found: set[Key] = set()
    for report in reports:
        found = made.record_demand(report, 0.0)
    assert found == changed


def test_negative_demand_counts_as_zero() -> None:
    made = fleet()
    made.record_demand(demand(-5), 0.0)
    assert made.pending(KEY) == 0


def test_history_is_kept_until_the_agent_is_forgotten() -> None:
    made = fleet()
    history, pending = (Sample(0.0, 3),), PendingTemplate("digest", 0.0, 1.0)
    made.remember(KEY, history, pending, None)
    made.declare(KEY, "uid-ava", spec())
    assert (made.agents[KEY].history, made.agents[KEY].pending_rollout) == (history, pending)
    made.clear_pending_rollout(KEY)
    assert (made.agents[KEY].history, made.agents[KEY].pending_rollout) == (history, None)
    made.declare(KEY, "uid-another", spec())
    assert made.agents[KEY].history == ()
    made.forget(KEY)
    assert made.supply(60.0) == {}


@pytest.mark.parametrize(
    ("avatar", "free"),
    [
        pytest.param({}, None, id="no avatar"),
        pytest.param(TAVUS, None, id="no limit"),
        pytest.param({**TAVUS, "maxSessions": 5}, 2, id="seats of terminating workers are taken"),
        pytest.param({**TAVUS, "maxSessions": 2}, 0, id="lowered limit"),
    ],
)
def test_supply_has_the_free_avatar_seats(avatar: dict[str, Any], free: int | None) -> None:
    made = fleet(pod(), pod("pod-2", terminating=True), avatar=avatar)
    made.record_status(KEY, "pod-1", status(calls=2, avatars=1), 0.0)
    made.record_status(KEY, "pod-2", status(calls=2, avatars=2), 0.0)
    assert made.supply(0.0)["shop/ava"].free_avatars == free


@pytest.mark.parametrize(
    ("others", "mine", "user"),
    [
        pytest.param({"agent_name": "desk"}, None, Key("shop", "eva"), id="another agent's worker is registered"),
        pytest.param({"agent_name": "desk", "draining": True}, None, None, id="draining"),
        pytest.param({"agent_name": "desk", "registered": False}, None, None, id="not registered"),
        pytest.param({"agent_name": "hall"}, None, None, id="under another name"),
        pytest.param({"agent_name": "desk"}, "desk", None, id="own workers use the name too"),
        pytest.param({"agent_name": "desk"}, "hall", Key("shop", "eva"), id="own workers have another name"),
    ],
)
def test_other_user_of_a_name_is_found(others: dict[str, Any], mine: str | None, user: Key | None) -> None:
    made, eva = fleet(pod()), Key("shop", "eva")
    made.declare(eva, "uid-eva", spec())
    made.set_pods(eva, [pod("pod-2")])
    made.record_status(eva, "pod-2", status(**others), 0.0)
    if mine is not None:
        made.record_status(KEY, "pod-1", status(agent_name=mine), 0.0)
    claim = Claim(KEY, server_of(spec().livekit.url, "shop"), "desk", "2026-01-01T00:00:00Z", "uid-1")
    assert made.other_user(claim, 1.0) == user
    assert made.other_user(claim, WORKER_MEMORY_SECONDS + 1) is None, "the last status is too old"
    elsewhere = Claim(KEY, server_of("wss://elsewhere.example", "shop"), "desk", "2026-01-01T00:00:00Z", "uid-1")
    assert made.other_user(elsewhere, 1.0) is None
    made.forget(eva)
    assert made.other_user(claim, 1.0) is None
