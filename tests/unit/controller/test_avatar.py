"""Avatar seats, and whether the next call would show a face."""

from typing import Any

import pytest

from agentspec import ConditionStatus, Reason, WorkerStatus
from controller.observation import ObservedWorker
from controller.policy.avatar import AvatarFailure, avatar_available, free_seats, newest_failure
from tests.unit.controller.builders import TAVUS, spec, status, worker

NO_SEAT = "User has reached maximum\nconcurrent conversations."


def showing(name: str, avatars: int, problem: str = "", **pod: Any) -> ObservedWorker:
    return worker(name, status(calls=4, avatars=avatars, avatar_problem=problem), **pod)


@pytest.mark.parametrize(
    ("face", "workers", "free"),
    [
        pytest.param({"provider": "None"}, [showing("a", 3)], None, id="no face, no limit"),
        pytest.param(TAVUS, [showing("a", 3)], None, id="nobody declared a limit"),
        pytest.param({**TAVUS, "maxSessions": 5}, [], 5, id="nobody calls"),
        pytest.param({**TAVUS, "maxSessions": 5}, [showing("a", 2), showing("b", 1)], 2, id="some are taken"),
        pytest.param(
            {**TAVUS, "maxSessions": 5}, [showing("a", 2, terminating=True)], 3, id="those of a leaving worker too"
        ),
        pytest.param({**TAVUS, "maxSessions": 5}, [worker("a")], 5, id="a worker that never answered"),
        pytest.param({**TAVUS, "maxSessions": 2}, [showing("a", 4)], 0, id="fewer seats than calls"),
    ],
)
def test_free_seats(face: dict[str, Any], workers: list[ObservedWorker], free: int | None) -> None:
    assert free_seats(spec(avatar=face), workers) == free


@pytest.mark.parametrize(
    ("face", "workers", "state", "reason", "told"),
    [
        pytest.param({"provider": "None"}, [], "True", Reason.NO_AVATAR_DECLARED, "has no avatar", id="no face"),
        pytest.param(
            {"tavus": TAVUS["tavus"]},
            [],
            "True",
            Reason.NO_AVATAR_DECLARED,
            "spec.avatar.tavus is ignored; set provider: Tavus to use it.",
            id="a face without its provider",
        ),
        pytest.param(TAVUS, [], "True", Reason.AVATAR_SEATS_FREE, "no limit set", id="no limit"),
        pytest.param(
            {**TAVUS, "maxSessions": 5},
            [showing("a", 4)],
            "True",
            Reason.AVATAR_SEATS_FREE,
            "limit 5",
            id="one is free",
        ),
        pytest.param(
            {**TAVUS, "maxSessions": 4},
            [showing("a", 4)],
            "False",
            Reason.AVATAR_SEATS_TAKEN,
            "All avatar seats are in use (spec.avatar.maxSessions: 4). The next call continues with voice only",
            id="all are taken",
        ),
        pytest.param(
            {**TAVUS, "maxSessions": 1, "onFailure": "EndCall"},
            [showing("a", 1)],
            "False",
            Reason.AVATAR_SEATS_TAKEN,
            "All avatar seats are in use (spec.avatar.maxSessions: 1). The next call ends",
            id="all are taken, and a face is demanded",
        ),
        pytest.param(
            TAVUS,
            [showing("a", 0), showing("b", 0, NO_SEAT)],
            "False",
            Reason.AVATAR_FAILING,
            "failed to start (pod b): User has reached maximum concurrent conversations.",
            id="the last one did not come",
        ),
        pytest.param(
            TAVUS,
            [showing("b", 0, NO_SEAT), showing("a", 1)],
            "True",
            Reason.AVATAR_SEATS_FREE,
            "Avatar seats are free",
            id="one worker's old failure, while another shows faces",
        ),
        pytest.param(
            TAVUS, [showing("a", 1, "x" * 10_000)], "False", Reason.AVATAR_FAILING, "x…", id="a long story is cut"
        ),
    ],
)
def test_avatar_available(
    face: dict[str, Any], workers: list[ObservedWorker], state: str, reason: Reason, told: str
) -> None:
    failure = None
    for one in workers:
        if one.status is not None:
            failure = newest_failure(failure, one.pod.name, None, one.status)
    verdict = avatar_available(spec(avatar=face), workers, failure)
    assert (verdict.status, verdict.reason) == (ConditionStatus(state), reason)
    assert told in verdict.message
    assert len(verdict.message) < 1000


def told(known: AvatarFailure | None, *stories: tuple[str, int, str]) -> AvatarFailure | None:
    """What is known after workers told, one after the other, how many avatars they have and their last problem."""
    before: dict[str, WorkerStatus] = {}
    for pod, avatars, problem in stories:
        now = status(avatars=avatars, avatar_problem=problem)
        known = newest_failure(known, pod, before.get(pod), now)
        before[pod] = now
    return known


FAILED = AvatarFailure("a", "no seat")


@pytest.mark.parametrize(
    ("stories", "known"),
    [
        pytest.param([("a", 1, ""), ("a", 0, "no seat")], FAILED, id="an avatar does not come"),
        pytest.param([("a", 0, "no seat"), ("b", 1, ""), ("b", 0, "")], None, id="then another worker's comes"),
        pytest.param(
            [("a", 0, "no seat"), ("b", 1, ""), ("a", 0, "no seat")], None, id="an old problem told again is no news"
        ),
        pytest.param(
            [("a", 0, "no seat"), ("b", 1, ""), ("a", 1, "no seat"), ("a", 0, "no seat")], FAILED, id="it fails again"
        ),
        pytest.param([("a", 0, "no seat"), ("a", 1, "")], None, id="its next one comes"),
        pytest.param([("a", 0, "no seat"), ("b", 0, "")], FAILED, id="an idle worker tells nothing of avatars"),
    ],
)
def test_the_newest_fact_counts(stories: list[tuple[str, int, str]], known: AvatarFailure | None) -> None:
    assert told(None, *stories) == known
