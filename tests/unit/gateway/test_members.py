"""Which gateway owns which agents, and when it may act."""

from collections import Counter

import pytest

from agentspec.wire import MEMBER_SECONDS, GatewayMember
from gateway.calls.ids import call_id_for, foreign_call_id, new_call_id, shard_of_call
from gateway.cluster.members import (
    FENCE_SECONDS,
    PASS_OVER_SECONDS,
    SHARD_DIGITS,
    UNLISTED_SECONDS,
    Members,
    owner_of,
    shard_of,
)

SHARDS = [f"{number:0{SHARD_DIGITS}x}" for number in range(16**SHARD_DIGITS)]
NAMES = tuple(f"avatar-agent-gateway-7d9f8c6b5-{end}" for end in ("2xk4p", "8mzqw", "c7rtn", "lw9vd"))
A, B, C = (GatewayMember(name=name, address=f"{name}:8082") for name in "abc")
KEY = "agents/ornina"


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def members(clock: Clock) -> Members:
    """Gateway a, which has just heard that b is alive too."""
    created = Members("a", A.address, clock=clock)
    created.received([A, B], clock())
    return created


def keep_in_touch(members: Members, clock: Clock, seconds: float) -> None:
    """Let time pass, with a completed exchange each half second."""
    for _ in range(round(seconds / 0.5)):
        clock.seconds += 0.5
        members.completed(clock())


def test_shards_are_balanced_over_the_gateways() -> None:
    owned = Counter(owner_of(shard, NAMES) for shard in SHARDS)
    assert set(owned) == set(NAMES)
    assert all(0.8 < count / (len(SHARDS) / len(NAMES)) < 1.2 for count in owned.values()), owned


def test_only_the_shards_of_a_gateway_that_goes_move() -> None:
    gone, left = NAMES[1], tuple(name for name in NAMES if name != NAMES[1])
    for shard in SHARDS:
        before = owner_of(shard, NAMES)
        assert before == gone or owner_of(shard, left) == before


def test_owner_does_not_depend_on_the_order_of_the_gateways() -> None:
    assert all(owner_of(shard, NAMES) == owner_of(shard, NAMES[::-1]) for shard in SHARDS)


def test_each_call_id_begins_with_the_shard_of_its_agent() -> None:
    ids = [new_call_id(KEY), call_id_for(KEY, "public", "k" * 16), foreign_call_id(KEY, "wss://livekit", "RM_1")]
    assert {shard_of_call(call_id) for call_id in ids} == {shard_of(KEY)}
    assert {len(call_id) for call_id in ids} == {24}
    assert len(set(ids)) == 3


def test_gateway_without_others_always_acts(clock: Clock) -> None:
    alone = Members("a", "", clock=clock)
    assert alone.acts_for(KEY)
    clock.seconds += 1000
    assert alone.acts_for(KEY)


def test_only_gateway_acts_while_the_controller_does_not_answer(clock: Clock) -> None:
    only = Members("a", A.address, clock=clock)
    only.received([A], clock())
    clock.seconds += 1000
    assert only.acts_for(KEY)


def test_gateway_that_does_not_know_the_others_does_not_act(clock: Clock) -> None:
    started = Members("a", A.address, clock=clock)
    for _ in range(100):
        clock.seconds += 0.5
        started.received(None, clock())
        assert not started.may_act()


def test_gateway_is_introduced_by_the_first_list_and_stays_so(clock: Clock) -> None:
    started = Members("a", A.address, clock=clock)
    started.received(None, clock())
    clock.seconds += MEMBER_SECONDS + 0.5
    started.received(None, clock())
    assert not started.is_introduced, "a new leader does not know the gateways yet"
    started.received([A, B], clock())
    assert started.is_introduced
    clock.seconds += 3600
    started.check()
    started.received(None, clock())
    assert started.is_introduced, "without a controller too"


def test_gateway_without_a_controller_is_not_introduced(clock: Clock) -> None:
    started = Members("a", A.address, clock=clock)
    for _ in range(100):
        clock.seconds += 1
        started.completed(clock())
    assert not started.is_introduced


def test_gateway_is_introduced_beside_one_of_a_release_without_lists(clock: Clock) -> None:
    """The controller lists nobody while it hears a gateway of 0.1.0, which stops only after another one is ready."""
    started = Members("a", A.address, clock=clock)
    began = clock()
    while not started.is_introduced:
        clock.seconds += 0.4
        started.received(None, clock())
    assert clock() - began == pytest.approx(UNLISTED_SECONDS, abs=1)


def test_new_leader_after_a_gap_is_no_release_without_lists(clock: Clock) -> None:
    started = Members("a", A.address, clock=clock)
    started.received(None, clock())
    clock.seconds += UNLISTED_SECONDS
    started.received(None, clock())
    assert not started.is_introduced


def test_gateway_without_others_needs_no_introduction(clock: Clock) -> None:
    assert Members("a", "", clock=clock).is_introduced


def test_gateways_that_all_lose_the_controller_go_on(members: Members, clock: Clock) -> None:
    keep_in_touch(members, clock, 5)
    for _ in range(20):
        clock.seconds += 0.5
        members.confirmed(clock())
        members.tell_touch("b")
        assert members.may_act()
    assert not members.is_in_touch()
    members.received([A, B], clock())
    assert members.may_act(), "nothing has changed"
    clock.seconds += 1.5
    members.received([A], clock())
    assert not members.may_act(), "others may have confirmed each other before they are dropped"


def test_gateway_that_others_may_have_confirmed_without_waits_before_it_takes_over(
    members: Members, clock: Clock
) -> None:
    """An exchange that takes long began while the controller was in touch, and ends after another gateway has asked."""
    keep_in_touch(members, clock, 5)
    clock.seconds += 0.4
    began = clock()
    clock.seconds += 0.7
    assert not members.tell_touch("b")
    members.received([A], began)
    assert not members.may_act()
    keep_in_touch(members, clock, FENCE_SECONDS + 0.5)
    assert members.may_act()


def test_gateway_in_touch_takes_over_at_once(members: Members, clock: Clock) -> None:
    keep_in_touch(members, clock, 5)
    assert members.tell_touch("b")
    clock.seconds += 0.9
    members.received([A], clock())
    assert members.may_act(), "its own exchange took long, and it told b nothing else"


def test_what_a_gateway_told_another_one_that_lives_delays_nothing(members: Members, clock: Clock) -> None:
    keep_in_touch(members, clock, 5)
    members.received([A, B, C], clock())
    clock.seconds += 0.9
    assert not members.tell_touch("b")
    members.received([A, B], clock())
    assert members.may_act()
    members.received([A], clock())
    assert not members.may_act()


def test_gateway_that_asks_without_its_name_may_be_any_that_is_dropped(members: Members, clock: Clock) -> None:
    keep_in_touch(members, clock, 5)
    clock.seconds += 0.9
    assert not members.tell_touch("")
    members.received([A], clock())
    assert not members.may_act()


def test_many_requests_in_doubt_ask_the_controller_ten_times_a_second(members: Members, clock: Clock) -> None:
    asked: list[float] = []
    members.on_doubt = lambda: asked.append(clock())
    for _ in range(1000):
        clock.seconds += 0.001
        members.refresh()
    assert 9 <= len(asked) <= 10


def test_new_gateway_acts_once_the_others_know_of_it(members: Members, clock: Clock) -> None:
    assert not members.may_act()
    keep_in_touch(members, clock, FENCE_SECONDS + 0.5)
    assert members.may_act()


def test_end_of_a_fence_is_a_beginning_until_it_is_noticed(members: Members, clock: Clock) -> None:
    members.check()
    assert not members.is_beginning()
    keep_in_touch(members, clock, FENCE_SECONDS + 0.5)
    assert members.may_act()
    assert members.is_beginning()
    members.check()
    assert not members.is_beginning()


def test_gateway_stops_acting_before_the_controller_drops_it(members: Members, clock: Clock) -> None:
    keep_in_touch(members, clock, 5)
    clock.seconds += FENCE_SECONDS + 0.01
    assert FENCE_SECONDS < MEMBER_SECONDS
    assert not members.may_act()


def test_gateway_that_was_cut_off_waits_before_it_acts_again(members: Members, clock: Clock) -> None:
    keep_in_touch(members, clock, 5)
    clock.seconds += 3
    members.received([A, B], clock())
    assert not members.may_act(), "the others may own its agents still"
    keep_in_touch(members, clock, FENCE_SECONDS + 0.5)
    assert members.may_act()


def test_exactly_one_gateway_owns_each_shard(clock: Clock) -> None:
    several = [Members(one.name, one.address, clock=clock) for one in (A, B, C)]
    for one in several:
        one.received([C, A, B], clock())
    for shard in SHARDS:
        assert sum(one.is_mine(shard) for one in several) == 1


def test_gateway_that_refuses_a_connection_is_passed_over_at_once(members: Members, clock: Clock) -> None:
    shard = next(shard for shard in SHARDS if members.owner(shard) == B)
    members.refused("b")
    assert members.owner(shard) == A
    members.received([A, B], clock())
    assert members.owner(shard) == A
    clock.seconds += PASS_OVER_SECONDS
    assert members.owner(shard) == A, "without news of it, it stays passed over"
    members.received([A, B], clock())
    assert members.owner(shard) == B, "the controller hears it, so it lives"
    members.refused("b")
    assert members.owner(shard) == B
    members.received([A], clock())
    members.received([A, B], clock())
    members.refused("b")
    assert members.owner(shard) == A, "a gateway that came again may be gone again"


def test_gateway_that_leaves_owns_nothing(members: Members, clock: Clock) -> None:
    keep_in_touch(members, clock, 5)
    assert members.leave()
    assert not members.may_act()
    assert {members.owner(shard) for shard in SHARDS} == {B}


def test_only_gateway_does_not_leave(clock: Clock) -> None:
    only = Members("a", A.address, clock=clock)
    only.received([A], clock())
    assert not only.leave()
    assert only.acts_for(KEY)


def test_changes_are_told_once_and_logged(members: Members, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    changes: list[float] = []
    members.on_change = lambda: changes.append(clock())
    members.received([B, A], clock())
    assert changes == []
    members.received([A, B, C], clock())
    assert len(changes) == 1
    keep_in_touch(members, clock, 5)
    members.check()
    members.check()
    clock.seconds += 5
    members.check()
    assert len(changes) == 3
    messages = [record.message for record in caplog.records]
    assert messages == [
        "gateways changed",
        "gateway acts for its agents",
        "gateway does not act for its agents, waiting for the controller",
    ]
    assert caplog.records[0].__dict__["gateways"] == ["a", "b", "c"]
