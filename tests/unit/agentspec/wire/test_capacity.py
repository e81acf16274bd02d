"""Slots as workers report them."""

import json

import pytest

from agentspec import WorkerStatus
from agentspec.wire import ProviderStage, StageFailure, StageReport, StageReports, read, render


@pytest.mark.parametrize(
    ("status", "free"),
    [
        ({"registered": True, "draining": False, "slots": 4, "calls": 1}, 3),
        ({"registered": True, "draining": False, "slots": 1, "calls": 2}, 0),
        ({"registered": False, "draining": False, "slots": 4, "calls": 0}, 0),
        ({"registered": True, "draining": True, "slots": 4, "calls": 1}, 0),
    ],
    ids=["slots minus calls", "never negative", "unregistered", "draining"],
)
def test_free_slots_are_those_that_a_dispatch_could_take(status: dict[str, int], free: int) -> None:
    assert WorkerStatus.model_validate({"agentName": "a", **status}).free_slots == free


WITH_STAGES = WorkerStatus(
    agent_name="a",
    registered=True,
    draining=False,
    slots=1,
    calls=0,
    stages=StageReports(
        llm=StageReport(succeeded_at=1700000000.5),
        tts=StageReport(
            failure=StageFailure(at=1700000001.25, status=400, code="invalid_value", parameter="voice"), failures=3
        ),
    ),
)


def test_outcomes_of_the_stages_survive_the_way() -> None:
    assert read(WorkerStatus, render(WITH_STAGES)) == WITH_STAGES
    assert WITH_STAGES.stages is not None
    assert WITH_STAGES.stages.of(ProviderStage.TTS).failures == 3
    assert WITH_STAGES.stages.of(ProviderStage.STT) == StageReport()


def test_stage_of_a_newer_release_is_ignored() -> None:
    document = json.loads(render(WITH_STAGES))
    document["stages"]["vision"] = {"failures": 1, "detail": {"nested": 1}}
    document["stages"]["tts"]["failure"]["hint"] = "newer"
    assert read(WorkerStatus, json.dumps(document)) == WITH_STAGES


def test_status_without_outcomes_and_jobs_has_no_field_for_them() -> None:
    """Release 0.1.0 rejects a status with a field that it does not know."""
    document = json.loads(render(WITH_STAGES.model_copy(update={"stages": None})))
    assert not document.keys() & {"stages", "jobs"}
