"""The controller's list of live gateways."""

from agentspec.wire import MEMBER_SECONDS
from controller.fleet.gateways import Gateways


def names(gateways: Gateways, now: float) -> list[str] | None:
    members = gateways.members(now)
    return None if members is None else [member.name for member in members]


def heard_for(gateways: Gateways, seconds: float, *who: str, since: float = 0.0) -> float:
    """Let gateways be heard ten times a second; return the time of the last."""
    times = [since + number / 10 for number in range(round(10 * seconds) + 1)]
    for at in times:
        for name in who:
            gateways.heard(name, f"{name}:8082", at)
    return times[-1]


def test_new_leader_waits_until_all_gateways_must_have_been_heard() -> None:
    gateways = Gateways()
    gateways.heard("b", "b:8082", 10.0)
    assert names(gateways, 10.0) is None
    gateways.heard("a", "a:8082", 11.0)
    assert names(gateways, 10.0 + MEMBER_SECONDS - 0.01) is None
    gateways.heard("b", "b:8082", 11.5)
    assert names(gateways, 10.01 + MEMBER_SECONDS) == ["a", "b"]


def test_gateway_that_is_not_heard_is_dropped() -> None:
    gateways = Gateways()
    at = heard_for(gateways, 4, "a", "b")
    assert names(gateways, at) == ["a", "b"]
    last = heard_for(gateways, 1, "a", since=at)
    assert names(gateways, last) == ["a", "b"]
    last = heard_for(gateways, MEMBER_SECONDS - 0.9, "a", since=last)
    assert names(gateways, last) == ["a"]


def test_gateway_that_leaves_is_dropped_at_once() -> None:
    gateways = Gateways()
    at = heard_for(gateways, 4, "a", "b")
    gateways.left("b")
    gateways.left("b")
    assert names(gateways, at) == ["a"]


def test_container_that_starts_again_replaces_the_process_before_it() -> None:
    gateways = Gateways()
    at = heard_for(gateways, 4, "a", "b")
    gateways.heard("b.2", "b:8082", at)
    assert names(gateways, at) == ["a", "b.2"]


def test_gateways_are_unknown_beside_one_of_an_old_release() -> None:
    gateways = Gateways()
    at = heard_for(gateways, 4, "a")
    gateways.heard("old", "", at)
    assert names(gateways, at) is None
    last = heard_for(gateways, MEMBER_SECONDS + 0.1, "a", since=at)
    assert names(gateways, last) == ["a"]


def test_gap_without_any_gateway_begins_a_new_wait() -> None:
    gateways = Gateways()
    at = heard_for(gateways, 4, "a")
    gateways.heard("b", "b:8082", at + 60)
    assert names(gateways, at + 60) is None
