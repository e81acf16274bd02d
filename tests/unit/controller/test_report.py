"""When a status is written, and which transitions are told."""

from typing import Any

import pytest

from agentspec import CallCounts, ConditionType, Reason, SlotCounts, WorkerCounts
from controller import report
from controller.cluster.client import ApiError
from controller.fleet import Counts
from controller.observation import Key
from controller.policy.verdict import Verdict, false, true
from controller.report import Reporter
from tests.unit.controller.recorder import Recorder

KEY = Key("shop", "ava")
READY = {ConditionType.READY: true(Reason.ALL_CHECKS_PASSED, "1 of 1 workers")}
BROKEN = {
    ConditionType.READY: false(Reason.SECRET_NOT_FOUND, "Create it."),
    ConditionType.CREDENTIALS_VALID: false(Reason.SECRET_NOT_FOUND, "Create it."),
}


def document(status: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "ava", "uid": "uid-1", "generation": 3}
    return {"metadata": metadata, "spec": {}, **({} if status is None else {"status": status})}


def counts(calls: int = 0) -> Counts:
    return Counts(WorkerCounts(desired=1), SlotCounts(total=4, free=4 - calls), CallCounts(active=calls))


async def write(
    reporter: Reporter,
    before: dict[str, Any] | None,
    verdicts: dict[ConditionType, Verdict],
    numbers: Counts | None = None,
) -> float | None:
    return await reporter.report(KEY, document(before), verdicts, agent_name="ava", counts=numbers)


async def written(client: Recorder) -> dict[str, Any]:
    status: dict[str, Any] = client.of("AvatarAgent")[-1]["status"]
    return status


async def test_what_is_written_is_not_written_again() -> None:
    client = Recorder()
    reporter = Reporter(client)
    await write(reporter, None, READY, counts())
    status = await written(client)
    assert status["observedGeneration"] == 3
    assert status["calls"] == {"active": 0, "pending": 0}
    assert await write(reporter, status, READY, counts()) is None
    assert len(client.of("AvatarAgent")) == 1


async def test_numbers_alone_are_written_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Recorder()
    reporter = Reporter(client)
    await write(reporter, None, READY, counts(0))
    status = await written(client)
    wait = await write(reporter, status, READY, counts(1))
    assert wait is not None
    assert 0 < wait <= 1
    assert len(client.of("AvatarAgent")) == 1
    monkeypatch.setattr(report, "NUMBERS_SECONDS", 0.0)
    assert await write(reporter, status, READY, counts(1)) is None
    assert (await written(client))["calls"]["active"] == 1


async def test_a_transition_does_not_wait() -> None:
    client = Recorder()
    reporter = Reporter(client)
    await write(reporter, None, READY, counts(0))
    assert await write(reporter, await written(client), BROKEN, counts(1)) is None
    assert len(client.of("AvatarAgent")) == 2


async def test_without_numbers_the_old_ones_stay() -> None:
    client = Recorder()
    reporter = Reporter(client)
    await write(reporter, None, READY, counts(2))
    await write(reporter, await written(client), BROKEN)
    assert (await written(client))["calls"]["active"] == 2


async def test_what_a_person_wants_to_read_is_told_once() -> None:
    client = Recorder()
    reporter = Reporter(client)
    await write(reporter, None, BROKEN, counts())
    told = client.of("Event")
    assert [(event["type"], event["reason"]) for event in told] == [("Warning", "SecretNotFound")]
    assert told[0]["involvedObject"]["uid"] == "uid-1"
    await write(reporter, await written(client), READY, counts())
    assert [event["reason"] for event in client.of("Event")] == ["SecretNotFound", "AllChecksPassed"]
    await write(reporter, await written(client), READY, counts())
    assert len(client.of("Event")) == 2


async def test_a_long_message_fits_an_event() -> None:
    client = Recorder()
    verdicts = {ConditionType.CREDENTIALS_VALID: false(Reason.LIVEKIT_UNREACHABLE, "x" * 5000)}
    await write(Reporter(client), None, verdicts)
    assert len(client.of("Event")[0]["message"]) == 1024
    assert len((await written(client))["conditions"][0]["message"]) == 5000


async def test_conditions_of_another_release_are_decided_anew() -> None:
    client = Recorder()
    before = {"conditions": [{"type": "Sparkling", "status": "True"}]}
    await write(Reporter(client), before, READY, counts())
    assert [condition["type"] for condition in (await written(client))["conditions"]] == ["Ready"]


@pytest.mark.parametrize(("status", "raised"), [(404, False), (409, True)])
async def test_an_agent_that_is_gone_needs_no_report(status: int, raised: bool) -> None:
    client = Recorder(ApiError(status, "", "PATCH /x", ""))
    if raised:
        with pytest.raises(ApiError):
            await write(Reporter(client), None, READY, counts())
    else:
        assert await write(Reporter(client), None, READY, counts()) is None
