"""What is remembered of workers and gateways, and what is counted."""

from typing import Any

import pytest

from agentspec import Demand, DispatchMode, DispatchSpec
from controller.fleet.fleet import GATEWAY_MEMORY_SECONDS, WORKER_MEMORY_SECONDS, Fleet
from controller.observation import Key, ObservedPod, ObservedWorker
from controller.policy.capacity import counts_of, deletion_costs, load_of, rollout_of
from controller.policy.names import Claim, server_of
from controller.policy.plan import Counts
from controller.policy.rollout import PendingTemplate, Rollout
from controller.policy.scale import Load, Sample
from tests.unit.controller.builders import TAVUS, pod, spec, status, worker

KEY = Key("shop", "ava")


def fleet(*pods: ObservedPod, **changes: Any) -> Fleet:
    made = Fleet()
    made.declare(KEY, "uid-ava", spec(worker={"callsPerWorker": 4}, **changes))
    made.set_pods(KEY, pods)
    return made


def counted(made: Fleet, now: float = 0.0) -> Counts:
    """The numbers for the status, with one worker desired."""
    agent = made.agents[KEY]
    workers, pending = agent.workers(now), made.pending(KEY)
    return counts_of(workers, agent.registered_name, desired=1, updated=0, pending_calls=pending)


def demand(pending: int, gateway: str = "gateway-0", key: Key = KEY) -> Demand:
    return Demand(gateway=gateway, pending={str(key): pending})


def test_calls_of_leaving_workers_are_counted_but_their_slots_are_not() -> None:
    made = fleet(pod("staying"), pod("leaving", terminating=True))
    made.record_status(KEY, "staying", status(calls=1), 0.0)
    made.record_status(KEY, "leaving", status(calls=2), 0.0)
    counts = counted(made)
    assert (counts.calls.active, counts.slots.total, counts.slots.free) == (3, 4, 3)
    assert (counts.workers.registered, counts.workers.ready, counts.workers.draining) == (1, 1, 1)
    workers = made.agents[KEY].workers(0.0)
    assert load_of(workers, pending_calls=0) == Load(calls=1, pending=0, busy=1, busy_unready=False)


def test_workers_under_another_name_are_no_supply() -> None:
    made = fleet(pod())
    made.record_status(KEY, "pod-1", status(agent_name="eva"), 0.0)
    assert made.supply(0.0)["shop/ava"].slots == 0


def test_automatic_dispatch_expects_workers_without_a_name() -> None:
    made = fleet(pod(), dispatch=DispatchSpec(mode=DispatchMode.AUTOMATIC).model_dump(by_alias=True))
    made.record_status(KEY, "pod-1", status(agent_name=""), 0.0)
    assert counted(made).workers.registered == 1


def test_supply_tells_the_slots_and_the_free_ones() -> None:
    made = fleet(pod())
    made.record_status(KEY, "pod-1", status(calls=1), 0.0)
    supply = made.supply(0.0)["shop/ava"]
    assert (supply.slots, supply.free_slots) == (4, 3)


def test_a_silent_worker_counts_with_its_last_word_for_a_while() -> None:
    made = fleet(pod())
    made.record_status(KEY, "pod-1", status(calls=2), 0.0)
    assert counted(made, WORKER_MEMORY_SECONDS).calls.active == 2
    assert counted(made, WORKER_MEMORY_SECONDS + 1).calls.active == 0
    silent = made.agents[KEY].workers(WORKER_MEMORY_SECONDS + 1)
    assert load_of(silent, 0).busy == 1, "it may still have them: it is not taken"


def test_only_news_is_news() -> None:
    made = fleet(pod())
    assert made.record_status(KEY, "pod-1", status(), 0.0)
    assert not made.record_status(KEY, "pod-1", status(), 1.0)
    assert made.record_status(KEY, "pod-1", status(calls=1), 2.0)
    assert not made.record_status(KEY, "gone", status(), 3.0), "a pod that is gone has nothing to say"
    assert not made.record_status(Key("shop", "other"), "pod-1", status(), 3.0)


def test_what_a_pod_said_goes_with_the_pod() -> None:
    made = fleet(pod())
    made.record_status(KEY, "pod-1", status(calls=1), 0.0)
    made.set_pods(KEY, [])
    made.set_pods(KEY, [pod()])
    assert counted(made).calls.active == 0


def test_waiting_calls_of_all_gateways_add_up_and_a_silent_gateway_is_forgotten() -> None:
    made = fleet()
    made.record_demand(demand(2, "gateway-0"), 0.0)
    made.record_demand(demand(3, "gateway-1"), 5.0)
    assert made.expire_gateways(GATEWAY_MEMORY_SECONDS) == set()
    assert made.pending(KEY) == 5
    assert made.expire_gateways(GATEWAY_MEMORY_SECONDS + 1) == {KEY}
    assert made.pending(KEY) == 3
    assert made.expire_gateways(GATEWAY_MEMORY_SECONDS + 6) == {KEY}
    assert made.pending(KEY) == 0
    assert made.expire_gateways(GATEWAY_MEMORY_SECONDS + 7) == set(), "told once"


@pytest.mark.parametrize(
    ("reports", "changed"),
    [
        pytest.param([demand(1)], {KEY}, id="calls wait"),
        pytest.param([demand(1), demand(1)], set(), id="as many as before"),
        pytest.param([demand(1), Demand(gateway="gateway-0")], {KEY}, id="none waits any more"),
        pytest.param([demand(0)], set(), id="none waited and none waits"),
        pytest.param([demand(1, key=Key("shop", "nobody"))], set(), id="an agent that does not exist"),
    ],
)
def test_agents_whose_waiting_calls_changed_are_told(reports: list[Demand], changed: set[Key]) -> None:
    made = fleet()
    found: set[Key] = set()
    for report in reports:
        found = made.record_demand(report, 0.0)
    assert found == changed


def test_a_negative_number_of_waiting_calls_takes_nothing_away() -> None:
    made = fleet()
    made.record_demand(demand(-5), 0.0)
    assert made.pending(KEY) == 0


def test_history_is_kept_until_the_agent_is_forgotten() -> None:
    made = fleet()
    history, pending = (Sample(0.0, 3),), PendingTemplate("digest", 0.0, 1.0)
    made.remember(KEY, history, pending)
    made.declare(KEY, "uid-ava", spec())
    assert (made.agents[KEY].history, made.agents[KEY].pending_rollout) == (history, pending)
    made.clear_pending_rollout(KEY)
    assert (made.agents[KEY].history, made.agents[KEY].pending_rollout) == (history, None)
    made.declare(KEY, "uid-another", spec())
    assert made.agents[KEY].history == ()
    made.forget(KEY)
    assert made.supply(60.0) == {}


def test_rollout_counts_new_and_old_workers() -> None:
    made = fleet(
        pod("new", template="now"),
        pod("coming", template="now", ready=False),
        pod("old", template="before"),
        pod("leaving", template="before", terminating=True),
    )
    for name, calls in {"new": 1, "old": 2, "leaving": 3}.items():
        made.record_status(KEY, name, status(calls=calls), 0.0)
    rollout = rollout_of(made.agents[KEY].workers(0.0), "now", pending=False)
    assert rollout == Rollout(total=4, updated=1, old=2, old_calls=5)


@pytest.mark.parametrize(
    ("avatar", "free"),
    [
        pytest.param({}, None, id="no face"),
        pytest.param(TAVUS, None, id="no limit of ours"),
        pytest.param({**TAVUS, "maxSessions": 5}, 2, id="those of leaving workers are taken, too"),
        pytest.param({**TAVUS, "maxSessions": 2}, 0, id="a limit that was lowered"),
    ],
)
def test_supply_tells_the_free_seats(avatar: dict[str, Any], free: int | None) -> None:
    made = fleet(pod(), pod("pod-2", terminating=True), avatar=avatar)
    made.record_status(KEY, "pod-1", status(calls=2, avatars=1), 0.0)
    made.record_status(KEY, "pod-2", status(calls=2, avatars=2), 0.0)
    assert made.supply(0.0)["shop/ava"].free_avatars == free
    assert counted(made).calls.with_avatar == 3


@pytest.mark.parametrize(
    ("seen", "costs"),
    [
        pytest.param([worker(report=status())], {}, id="an idle worker costs nothing"),
        pytest.param([worker(report=status(calls=2))], {"pod-1": "2"}, id="a busy one costs its calls"),
        pytest.param([worker(report=status(calls=2), deletion_cost="2")], {}, id="and is not told so twice"),
        pytest.param(
            [worker(report=status(), deletion_cost="2")], {"pod-1": "0"}, id="one that became idle costs no more"
        ),
        pytest.param([worker()], {"pod-1": "1"}, id="one whose calls are not known may have some"),
        pytest.param([worker(ready=False)], {}, id="one that is not up yet has none"),
        pytest.param([worker(report=status(calls=2), terminating=True)], {}, id="one that leaves needs no price"),
    ],
)
def test_busy_workers_are_dear(seen: list[ObservedWorker], costs: dict[str, str]) -> None:
    assert deletion_costs(seen) == costs


@pytest.mark.parametrize(
    ("others", "mine", "user"),
    [
        pytest.param(
            {"agent_name": "desk"}, None, Key("shop", "eva"), id="another agent's worker takes calls under it"
        ),
        pytest.param({"agent_name": "desk", "draining": True}, None, None, id="it drains"),
        pytest.param({"agent_name": "desk", "registered": False}, None, None, id="it is not registered"),
        pytest.param({"agent_name": "hall"}, None, None, id="it has another name"),
        pytest.param({"agent_name": "desk"}, "desk", None, id="so do this agent's own already"),
        pytest.param({"agent_name": "desk"}, "hall", Key("shop", "eva"), id="this agent's have another name"),
    ],
)
def test_who_else_uses_a_name(others: dict[str, Any], mine: str | None, user: Key | None) -> None:
    made, eva = fleet(pod()), Key("shop", "eva")
    made.declare(eva, "uid-eva", spec())
    made.set_pods(eva, [pod("pod-2")])
    made.record_status(eva, "pod-2", status(**others), 0.0)
    if mine is not None:
        made.record_status(KEY, "pod-1", status(agent_name=mine), 0.0)
    claim = Claim(KEY, server_of(spec().livekit.url, "shop"), "desk", "2026-01-01T00:00:00Z", "uid-1")
    assert made.other_user(claim, 1.0) == user
    assert made.other_user(claim, WORKER_MEMORY_SECONDS + 1) is None, "silence is no use"
    elsewhere = Claim(KEY, server_of("wss://elsewhere.example", "shop"), "desk", "2026-01-01T00:00:00Z", "uid-1")
    assert made.other_user(elsewhere, 1.0) is None
    made.forget(eva)
    assert made.other_user(claim, 1.0) is None
