"""The estimate of how long a waiting call still waits."""

from dataclasses import replace

import httpx
import pytest

from gateway.calls.call import CallState
from gateway.calls.waits import MIN_CALLS, RECENT_CALLS, CallLengths, estimate_seconds
from tests.unit.gateway.fakes import World
from tests.unit.gateway.scenes import JOINED, NOW, WAITING, call_token_of, open_call, post_call, reaches


def over(seconds: float) -> CallLengths:
    """Lengths of an agent whose latest calls all took so long."""
    lengths = CallLengths()
    for _ in range(MIN_CALLS):
        lengths.record(replace(JOINED, state=CallState.ENDED, joined_at=NOW, state_since=NOW + seconds))
    return lengths


@pytest.mark.parametrize(
    ("position", "in_progress", "lengths", "expected"),
    [
        (1, 1, [60.0, 60.0, 60.0], 60),
        (1, 4, [60.0, 60.0, 60.0], 15),
        (4, 4, [60.0, 60.0, 60.0], 60),
        (3, 2, [30.0, 60.0, 90.0], 90),
        (1, 7, [10.0, 10.0, 10.0], 2),
        (1, 2, [60.0, 60.0], None),
        (1, 0, [60.0, 60.0, 60.0], None),
    ],
    ids=["one slot", "several slots", "further back", "mean length", "rounded up", "too few calls", "no slot"],
)
def test_estimate(position: int, in_progress: int, lengths: list[float], expected: int | None) -> None:
    assert estimate_seconds(position, in_progress, lengths) == expected


def test_only_the_latest_calls_of_the_agent_count() -> None:
    lengths = CallLengths()
    for seconds in range(RECENT_CALLS + 5):
        lengths.record(replace(JOINED, state=CallState.ENDED, joined_at=NOW, state_since=NOW + seconds))
    assert list(lengths.of("agents/ornina")) == list(range(5, RECENT_CALLS + 5))
    assert list(lengths.of("agents/other")) == []


def test_call_without_an_agent_has_no_length() -> None:
    lengths = CallLengths()
    lengths.record(replace(WAITING, state=CallState.FAILED, state_since=NOW + 120))
    assert list(lengths.of("agents/ornina")) == []


async def test_waiting_call_has_an_estimate_once_calls_have_ended(http: httpx.AsyncClient, world: World) -> None:
    world.supply.free = 1
    for _ in range(MIN_CALLS):
        call = await reaches(world, await open_call(world), CallState.JOINED)
        assert call.joined_at == call.state_since
        await world.gateway.dispatcher.hang_up(call)
    await reaches(world, await open_call(world), CallState.JOINED)
    world.supply.free = 0
    waiting = await post_call(http)
    assert (waiting["state"], waiting["position"], waiting["estimatedWaitSeconds"]) == ("waiting", 1, 1)
    world.supply.free = world.livekit.slots = 2
    world.livekit.connect_caller(waiting["room"], waiting["identity"])
    world.gateway.dispatcher.wake_waiting_calls()
    path, headers = f"/v1/calls/{waiting['callId']}", call_token_of(waiting)
    found = (await http.get(path, params={"state": "waiting", "waitSeconds": "10"}, headers=headers)).json()
    assert found["state"] != "waiting"
    assert found["estimatedWaitSeconds"] is None


async def test_estimate_is_unknown_while_no_call_has_ended(http: httpx.AsyncClient, world: World) -> None:
    world.supply.free = 0
    assert (await post_call(http))["estimatedWaitSeconds"] is None
