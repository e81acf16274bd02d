"""Avatar seats, and whether the next call gets an avatar."""

from typing import Any

import pytest

from agentspec import ConditionStatus, Reason, WorkerStatus
from controller.observation import ObservedWorker
from controller.policy.avatar import AvatarFailure, avatar_available, free_seats, newest_failure
from tests.unit.controller.builders import TAVUS, spec, status, worker

NO_SEAT = "User has reached maximum\nconcurrent conversations."


def with_avatars(name: str, avatars: int, problem: str = "", **pod: Any) -> ObservedWorker:
    return worker(name, status(calls=4, avatars=avatars, avatar_problem=problem), **pod)


PLUGIN: dict[str, Any] = {"provider": "Plugin", "plugin": {"name": "bey", "options": {"avatarId": "a"}}}


def unusable(name: str, failure: str, *, draining: bool = False, **pod: Any) -> ObservedWorker:
    return worker(name, status(avatar_failure=failure, draining=draining), **pod)


@pytest.mark.parametrize(
    ("settings", "workers", "free"),
    [
        pytest.param({"provider": "None"}, [with_avatars("a", 3)], None, id="no avatar"),
        pytest.param(TAVUS, [with_avatars("a", 3)], None, id="no limit"),
        pytest.param({**TAVUS, "maxSessions": 5}, [], 5, id="no calls"),
        pytest.param(
            {**TAVUS, "maxSessions": 5}, [with_avatars("a", 2), with_avatars("b", 1)], 2, id="some seats in use"
        ),
        pytest.param(
            {**TAVUS, "maxSessions": 5},
            [with_avatars("a", 2, terminating=True)],
            3,
            id="seats of a draining worker count",
        ),
        pytest.param({**TAVUS, "maxSessions": 5}, [worker("a")], 5, id="a worker without a report"),
        pytest.param({**PLUGIN, "maxSessions": 5}, [with_avatars("a", 2)], 3, id="a plugin"),
        pytest.param({**TAVUS, "maxSessions": 2}, [with_avatars("a", 4)], 0, id="fewer seats than calls"),
    ],
)
def test_free_seats(settings: dict[str, Any], workers: list[ObservedWorker], free: int | None) -> None:
    assert free_seats(spec(avatar=settings), workers) == free


@pytest.mark.parametrize(
    ("settings", "workers", "state", "reason", "text"),
    [
        pytest.param({"provider": "None"}, [], "True", Reason.NO_AVATAR_DECLARED, "has no avatar", id="no avatar"),
        pytest.param(
            {"tavus": TAVUS["tavus"]},
            [],
            "True",
            Reason.NO_AVATAR_DECLARED,
            "spec.avatar.tavus is ignored; set provider: Tavus to use it.",
            id="Tavus settings without the provider",
        ),
        pytest.param(TAVUS, [], "True", Reason.AVATAR_SEATS_FREE, "no limit set", id="no limit"),
        pytest.param(
            {**TAVUS, "maxSessions": 5},
            [with_avatars("a", 4)],
            "True",
            Reason.AVATAR_SEATS_FREE,
            "limit 5",
            id="one free",
        ),
        pytest.param(
            {**TAVUS, "maxSessions": 4},
            [with_avatars("a", 4)],
            "False",
            Reason.AVATAR_SEATS_TAKEN,
            "All avatar seats are in use (spec.avatar.maxSessions: 4). The next call continues with voice only",
            id="all in use",
        ),
        pytest.param(
            {**TAVUS, "maxSessions": 1, "onFailure": "EndCall"},
            [with_avatars("a", 1)],
            "False",
            Reason.AVATAR_SEATS_TAKEN,
            "All avatar seats are in use (spec.avatar.maxSessions: 1). The next call ends",
            id="all in use, and calls need an avatar",
        ),
        pytest.param(
            TAVUS,
            [with_avatars("a", 0), with_avatars("b", 0, NO_SEAT)],
            "False",
            Reason.AVATAR_FAILING,
            "failed to start (pod b): User has reached maximum concurrent conversations.",
            id="the last avatar failed",
        ),
        pytest.param(
            TAVUS,
            [with_avatars("b", 0, NO_SEAT), with_avatars("a", 1)],
            "True",
            Reason.AVATAR_SEATS_FREE,
            "Avatar seats are free",
            id="an old failure, then a success on another worker",
        ),
        pytest.param(
            PLUGIN,
            [worker("a"), unusable("b", "avatarId is no option of livekit.plugins.bey.AvatarSession")],
            "False",
            Reason.AVATAR_PLUGIN_FAILED,
            "(spec.avatar.plugin, pod b): avatarId is no option of livekit.plugins.bey.AvatarSession. Correct it. "
            "Until then, a call continues with voice only",
            id="workers cannot use the plugin",
        ),
        pytest.param(
            {**PLUGIN, "onFailure": "EndCall"},
            [unusable("b", "x" * 10_000)],
            "False",
            Reason.AVATAR_PLUGIN_FAILED,
            "a call ends (spec.avatar.onFailure)",
            id="workers cannot use the plugin, and calls need an avatar",
        ),
        pytest.param(
            PLUGIN,
            [unusable("old", "wrong", terminating=True), unusable("drains", "wrong", draining=True), worker("new")],
            "True",
            Reason.AVATAR_SEATS_FREE,
            "Avatar seats are free",
            id="only old workers cannot use the plugin",
        ),
        pytest.param(
            PLUGIN,
            [with_avatars("a", 0, NO_SEAT)],
            "False",
            Reason.AVATAR_FAILING,
            "(API key, seats, spec.avatar.plugin.options)",
            id="the last avatar of a plugin failed",
        ),
        pytest.param(
            {"plugin": PLUGIN["plugin"]},
            [],
            "True",
            Reason.NO_AVATAR_DECLARED,
            "spec.avatar.plugin is ignored; set provider: Plugin to use it.",
            id="plugin settings without the provider",
        ),
        pytest.param(
            TAVUS, [with_avatars("a", 1, "x" * 10_000)], "False", Reason.AVATAR_FAILING, "x…", id="a long error is cut"
        ),
    ],
)
def test_avatar_available(
    settings: dict[str, Any], workers: list[ObservedWorker], state: str, reason: Reason, text: str
) -> None:
    failure = None
    for one in workers:
        if one.status is not None:
            failure = newest_failure(failure, one.pod.name, None, one.status)
    verdict = avatar_available(spec(avatar=settings), workers, failure)
    assert (verdict.status, verdict.reason) == (ConditionStatus(state), reason)
    assert text in verdict.message
    assert len(verdict.message) < (1300 if reason is Reason.AVATAR_PLUGIN_FAILED else 1000)


def after_reports(known: AvatarFailure | None, *reports: tuple[str, int, str]) -> AvatarFailure | None:
    """The failure after workers reported, in order, their number of avatars and last error."""
    before: dict[str, WorkerStatus] = {}
    for pod, avatars, problem in reports:
        now = status(avatars=avatars, avatar_problem=problem)
        known = newest_failure(known, pod, before.get(pod), now)
        before[pod] = now
    return known


FAILED = AvatarFailure("a", "no seat")


@pytest.mark.parametrize(
    ("reports", "known"),
    [
        pytest.param([("a", 1, ""), ("a", 0, "no seat")], FAILED, id="an avatar fails"),
        pytest.param([("a", 0, "no seat"), ("b", 1, ""), ("b", 0, "")], None, id="then another worker's avatar starts"),
        pytest.param(
            [("a", 0, "no seat"), ("b", 1, ""), ("a", 0, "no seat")], None, id="an old error reported again is ignored"
        ),
        pytest.param(
            [("a", 0, "no seat"), ("b", 1, ""), ("a", 1, "no seat"), ("a", 0, "no seat")],
            FAILED,
            id="the same error again after a call",
        ),
        pytest.param([("a", 0, "no seat"), ("a", 1, "")], None, id="its next avatar starts"),
        pytest.param([("a", 0, "no seat"), ("b", 0, "")], FAILED, id="a report of an idle worker changes nothing"),
    ],
)
def test_latest_avatar_decides(reports: list[tuple[str, int, str]], known: AvatarFailure | None) -> None:
    assert after_reports(None, *reports) == known


def test_failed_call_of_an_unusable_plugin_outlives_no_correction() -> None:
    now = status(avatar_problem="no such option", avatar_failure="no such option")
    assert newest_failure(None, "a", None, now) is None
    assert newest_failure(FAILED, "a", None, now) == FAILED


@pytest.mark.parametrize("field", ["url", "publicURL"])
def test_failing_avatar_names_the_address_that_its_provider_uses(field: str) -> None:
    livekit = {
        "url": "ws://livekit.svc:7880",
        "credentialsSecretRef": {"name": "livekit"},
        field: "wss://voice.example",
    }
    failure = AvatarFailure("a", "unreachable")
    verdict = avatar_available(spec(avatar=TAVUS, livekit=livekit), [], failure)
    assert f"can reach spec.livekit.{field} from the internet" in verdict.message
