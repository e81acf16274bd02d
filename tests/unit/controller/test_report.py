"""When the reporter writes a status, and for which transitions it posts events."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from agentspec import CallCounts, ConditionType, Reason, SlotCounts, WorkerCounts
from controller.cluster.agents import Agents
from controller.cluster.observe import children_selector
from controller.desired.identity import FIELD_MANAGER
from controller.metrics import Metrics
from controller.observation import Key
from controller.policy.event_budget import BURST, REFILL_SECONDS
from controller.policy.plan import Conclusion, Counts, Report
from controller.policy.snapshot import Snapshot
from controller.policy.verdict import Verdict, false, true
from controller.report import NUMBERS_SECONDS, WRITE_SECONDS, Reporter
from kube.client import ApiError, Document
from kube.kinds import AVATAR_AGENT, EVENT
from tests.unit.controller.builders import KEY, SPEC
from tests.unit.controller.world import virtual_clock
from tests.unit.fakes.apiserver import UNREACHABLE, FakeApiServer
from tests.unit.fakes.virtualtime import VirtualLoop

Verdicts = Mapping[ConditionType, Verdict]
READY: Verdicts = {ConditionType.READY: true(Reason.ALL_CHECKS_PASSED, "1 of 1 workers")}
BROKEN: Verdicts = {
    ConditionType.READY: false(Reason.SECRET_NOT_FOUND, "Create it."),
    ConditionType.CREDENTIALS_VALID: false(Reason.SECRET_NOT_FOUND, "Create it."),
}


def counts(calls: int = 0) -> Counts:
    return Counts(WorkerCounts(desired=1), SlotCounts(total=4, free=4 - calls), CallCounts(active=calls))


class Scene:
    """One AvatarAgent, and a reporter that has just started."""

    def __init__(self) -> None:
        self.server, self.agents = FakeApiServer(FIELD_MANAGER), Agents()
        self.lost: list[tuple[Key, str]] = []
        self.reporter = Reporter(
            self.server,
            Metrics(),
            self._updated,
            lambda key, uid: self.lost.append((key, uid)),
        )
        self.change(status={})

    def change(self, **changes: Any) -> None:
        """Update the AvatarAgent as another client would."""
        metadata = {"namespace": "shop", "name": "ava", "uid": "uid-1", "creationTimestamp": "2026-01-01T00:00:00Z"}
        self._updated(self.server.put(AVATAR_AGENT, {"metadata": metadata, "spec": SPEC, **changes}))

    def _updated(self, document: Document) -> None:
        self.agents.update(document)

    async def report(self, verdicts: Verdicts, counts: Counts | None = None, agent_name: str = "ava") -> float | None:
        snapshot = Snapshot(KEY, virtual_clock(), self.agents.get(KEY))
        if counts is not None:  # counts are reported only together with Ready
            verdicts = {ConditionType.READY: true(Reason.ALL_CHECKS_PASSED, "ready"), **verdicts}
        report = Report(verdicts, agent_name, counts)
        return await self.reporter.report(Conclusion(snapshot, report, limited=False, requeue_after=None))

    async def forget(self) -> None:
        """Report the deletion of the AvatarAgent."""
        await self.reporter.report(Conclusion(Snapshot(KEY, virtual_clock()), None, limited=False, requeue_after=None))

    @property
    def writes(self) -> list[Any]:
        """All statuses that were written."""
        return [document["status"] for document in self.server.written(AVATAR_AGENT)]

    @property
    def events(self) -> list[tuple[str, str]]:
        """Type and reason of all posted events."""
        return [(event["type"], event["reason"]) for event in self.server.written(EVENT)]


@pytest.fixture
async def scene(virtual_time: VirtualLoop) -> Scene:
    """An AvatarAgent without a status, in virtual time."""
    return Scene()


async def test_status_is_complete_and_written_once(scene: Scene) -> None:
    assert await scene.report(READY, counts()) is None
    (status,) = scene.writes
    assert (status["observedGeneration"], status["agentName"]) == (1, "ava")
    assert status["selector"] == children_selector("ava")
    assert status["calls"] == {"active": 0, "pending": 0, "withAvatar": 0}
    assert status["slots"] == {"total": 4, "free": 4}
    version = scene.server.version
    for _ in range(3):
        await asyncio.sleep(60)
        assert await scene.report(READY, counts()) is None
    assert (len(scene.writes), scene.server.version) == (1, version)


async def test_response_to_a_write_is_cached_at_once(scene: Scene) -> None:
    await scene.report(READY, counts())
    agent = scene.agents.get(KEY)
    assert agent is not None
    assert agent.status == scene.writes[0]
    assert scene.agents.update(await scene.server.get(AVATAR_AGENT, "shop", "ava") or {}) == set()


async def test_changed_numbers_wait_for_further_changes(scene: Scene) -> None:
    await scene.report(READY, counts(0))
    await asyncio.sleep(60)
    assert await scene.report(READY, counts(1)) == pytest.approx(NUMBERS_SECONDS)
    await asyncio.sleep(1.5)
    assert await scene.report(READY, counts(2)) == pytest.approx(0.5), "counted from the first difference"
    await asyncio.sleep(0.5)
    assert await scene.report(READY, counts(3)) is None
    assert [status["calls"]["active"] for status in scene.writes] == [0, 3]


async def test_reverted_numbers_are_not_written(scene: Scene) -> None:
    await scene.report(READY, counts(0))
    await asyncio.sleep(60)
    await scene.report(READY, counts(1))
    await asyncio.sleep(1)
    assert await scene.report(READY, counts(0)) is None
    await asyncio.sleep(60)
    assert await scene.report(READY, counts(1)) == pytest.approx(NUMBERS_SECONDS), "the wait starts again"
    assert len(scene.writes) == 1


async def test_changed_message_waits_like_changed_numbers(scene: Scene) -> None:
    await scene.report(READY, counts())
    await asyncio.sleep(60)
    reworded = {ConditionType.READY: true(Reason.ALL_CHECKS_PASSED, "2 of 2 workers")}
    assert await scene.report(reworded, counts()) == pytest.approx(NUMBERS_SECONDS)


@pytest.mark.parametrize(
    ("verdicts", "agent_name", "changes"),
    [
        pytest.param(BROKEN, "ava", {}, id="condition"),
        pytest.param({ConditionType.READY: true(Reason.NO_WORKERS_NEEDED, "")}, "ava", {}, id="reason"),
        pytest.param(READY, "eva", {}, id="agent-name"),
        pytest.param(READY, "ava", {"spec": {**SPEC, "language": "ar"}}, id="generation"),
    ],
)
async def test_important_changes_are_written_at_once(
    scene: Scene, verdicts: Verdicts, agent_name: str, changes: dict[str, Any]
) -> None:
    await scene.report(READY, counts(0))
    await asyncio.sleep(60)
    scene.change(**changes)
    assert await scene.report(verdicts, counts(1), agent_name) is None
    assert len(scene.writes) == 2
    assert scene.writes[1]["calls"]["active"] == 1, "the numbers are written too"


async def test_status_is_written_at_most_once_a_second(scene: Scene) -> None:
    loop = asyncio.get_running_loop()
    written: list[float] = []
    waits: set[float] = set()
    while loop.time() < 10:
        before = len(scene.writes)
        wait = await scene.report([READY, BROKEN][round(loop.time() * 10) % 2], counts())
        if len(scene.writes) > before:
            written.append(loop.time())
        if wait is not None:
            waits.add(wait)
        await asyncio.sleep(0.07)
    assert all(later - earlier >= WRITE_SECONDS for earlier, later in pairwise(written))
    assert len(written) >= 7
    assert all(0 < wait <= WRITE_SECONDS for wait in waits)


async def test_report_without_numbers_keeps_the_old_ones(scene: Scene) -> None:
    await scene.report(READY, counts(2))
    await asyncio.sleep(60)
    await scene.report(BROKEN)
    assert scene.writes[1]["calls"]["active"] == 2


async def test_transition_posts_one_event(scene: Scene) -> None:
    for verdicts in (BROKEN, READY, READY):
        await scene.report(verdicts, counts())
        await asyncio.sleep(60)
    assert scene.events == [("Warning", "SecretNotFound"), ("Normal", "AllChecksPassed")]
    assert scene.server.written(EVENT)[0]["involvedObject"]["uid"] == "uid-1"


async def test_frequent_transitions_are_rate_limited_and_counted(scene: Scene) -> None:
    full: Verdicts = {**READY, ConditionType.AVATAR_AVAILABLE: false(Reason.AVATAR_SEATS_TAKEN, "All are taken.")}
    free: Verdicts = {**READY, ConditionType.AVATAR_AVAILABLE: true(Reason.AVATAR_SEATS_FREE, "One is free.")}
    for _ in range(300):
        await scene.report(full)
        await asyncio.sleep(WRITE_SECONDS)
        await scene.report(free)
        await asyncio.sleep(WRITE_SECONDS)
    assert len(scene.writes) == 600
    events = [event for event in scene.server.written(EVENT) if event["reason"] == Reason.AVATAR_SEATS_TAKEN]
    assert len(events) == BURST + int(600 * WRITE_SECONDS / REFILL_SECONDS)
    assert {event["count"] for event in events[:BURST]} == {1}
    assert 100 < events[BURST]["count"] < 200
    first, last = (datetime.fromisoformat(events[BURST][field]) for field in ("firstTimestamp", "lastTimestamp"))
    assert 200 < (last - first).total_seconds() < 400
    await scene.report(BROKEN)
    assert scene.events[-1] == ("Warning", "SecretNotFound"), "other reasons have their own rate limit"
    await scene.forget()
    await scene.report(full)
    assert scene.events[-1] == ("Warning", "AvatarSeatsTaken"), "a namesake has a new rate limit"


async def test_long_message_is_shortened_in_the_event(scene: Scene) -> None:
    await scene.report({ConditionType.CREDENTIALS_VALID: false(Reason.LIVEKIT_UNREACHABLE, "x" * 5000)})
    assert len(scene.server.written(EVENT)[0]["message"]) == 1024
    assert len(scene.writes[0]["conditions"][0]["message"]) == 5000


async def test_failed_event_does_not_fail_the_report(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.server.failures["create", "Event"] = ApiError(403, "Forbidden", "POST", "events is forbidden")
    assert await scene.report(BROKEN, counts()) is None
    assert await scene.report(BROKEN, counts()) is None
    assert len(scene.writes) == 1
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == ["could not post event"]


async def test_conditions_of_another_release_are_replaced(scene: Scene) -> None:
    scene.change(status={"conditions": [{"type": "Sparkling", "status": "True"}]})
    await scene.report(READY, counts())
    assert [condition["type"] for condition in scene.writes[0]["conditions"]] == ["Ready"]


async def test_missing_agent_is_reported_as_lost(scene: Scene) -> None:
    scene.server.remove(AVATAR_AGENT, "shop", "ava")
    assert await scene.report(READY, counts()) is None
    assert scene.events == []
    assert scene.lost == [(KEY, "uid-1")], "a watch that began later never reports this deletion"


async def test_failed_write_is_repeated_at_once(scene: Scene) -> None:
    scene.server.failures["apply", "AvatarAgent"] = UNREACHABLE
    with pytest.raises(ApiError):
        await scene.report(READY, counts())
    scene.server.failures.clear()
    assert await scene.report(READY, counts()) is None
    assert len(scene.writes) == 1


async def test_namesake_of_a_forgotten_agent_is_written_at_once(scene: Scene) -> None:
    await scene.report(READY, counts())
    await scene.forget()
    assert await scene.report(BROKEN, counts()) is None
    assert len(scene.writes) == 2


async def test_suspension_is_normal_and_a_reached_limit_is_a_warning(scene: Scene) -> None:
    await scene.report(READY)
    await asyncio.sleep(WRITE_SECONDS)
    await scene.report({ConditionType.READY: false(Reason.SUSPENDED, "Set suspend: false.")})
    await asyncio.sleep(WRITE_SECONDS)
    await scene.report({ConditionType.SCALING_LIMITED: true(Reason.MAX_WORKERS_REACHED, "Raise it.")})
    assert scene.events == [
        ("Normal", "AllChecksPassed"),
        ("Normal", "Suspended"),
        ("Warning", "MaxWorkersReached"),
    ]
