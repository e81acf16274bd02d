"""The report of a call: what the session's events add to it, and what it never contains."""

import json
import logging
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit.agents import JobContext, llm
from livekit.agents.voice import AgentSession, ConversationItemAddedEvent, FunctionToolsExecutedEvent

from agentspec.wire import CallOutcome, DispatchMetadata, WorkerConfig
from agentspec.wire.callreport import CallReport
from tests.unit.worker.builders import make_config
from tests.unit.worker.conversation import Conversation, conversation, speech
from worker import report_spool
from worker.call import call_record
from worker.call.call_record import CallRecord

METADATA = DispatchMetadata(call_id="c1", caller_identity="salma", user_id="u-7", metadata={"plan": "gold"})
CONTEXT = cast(JobContext, SimpleNamespace(job=SimpleNamespace(id="AJ_1", room=SimpleNamespace(name="ornina-c1"))))
PRICES = {
    "currency": "EUR",
    "models": [{"model": "gpt-4o-mini", "perMillionInputTokens": 1, "perMillionOutputTokens": 10}],
}


def declared(*include: str, **more: Any) -> WorkerConfig:
    ref = {"name": "report", "key": "signingKey"}
    report = {"url": "https://crm.example/calls", "secretKeyRef": ref, "include": list(include), **more}
    return make_config(language="en", report=report)


ALL = declared("Transcript", "Usage", "Latencies", prices=PRICES)


def finished(record: CallRecord, folder: Path, outcome: CallOutcome = CallOutcome.CALLER_LEFT) -> dict[str, Any]:
    """End the call, and return the data of the report that waits."""
    record.finish(CONTEXT, outcome)
    document: dict[str, Any] = json.loads((folder / "avatar-agent-reports/default.ornina/AJ_1.json").read_text())
    CallReport.model_validate(document)
    assert document["timestamp"] == document["data"]["endedAt"]
    data: dict[str, Any] = document["data"]
    return data


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


class FakeSession:
    """Passes on events as a session does; it used nothing."""

    def __init__(self, record: CallRecord) -> None:
        self.usage = SimpleNamespace(model_usage=[])
        self._handlers: dict[str, Any] = {}
        record.follow(cast("AgentSession[None]", self))

    def on(self, event: str, handler: Any) -> None:  # noqa: ANN401 - any callback
        self._handlers[event] = handler

    def said(self, role: llm.ChatRole, text: str, **fields: Any) -> None:
        item = llm.ChatMessage(role=role, content=[text], **fields)
        self._handlers["conversation_item_added"](ConversationItemAddedEvent(item=item))

    def used(self, name: str, *, is_error: bool) -> None:
        call = llm.FunctionCall(call_id="1", name=name, arguments='{"city": "Damascus"}')
        output = llm.FunctionCallOutput(call_id="1", name=name, output="secret result", is_error=is_error)
        event = FunctionToolsExecutedEvent(function_calls=[call], function_call_outputs=[output])
        self._handlers["function_tools_executed"](event)


async def answered(talk: Conversation) -> None:
    talk.microphone.play(speech(1.2))
    await talk.until(lambda: talk.messages("assistant"), "the agent has replied")


async def test_report_of_a_conversation(folder: Path) -> None:
    record = CallRecord(ALL, METADATA)
    async with conversation(ALL, before_start=record.follow) as talk:
        await answered(talk)
    report = finished(record, folder)
    expected = {
        "version": 1,
        "callID": "c1",
        "jobID": "AJ_1",
        "agent": "default/ornina",
        "agentName": "ornina-avatar-agent",
        "room": "ornina-c1",
        "userID": "u-7",
        "language": "en",
        "outcome": "caller_left",
    }
    assert {key: report[key] for key in expected} == expected
    assert report["seconds"] > 0 and report["startedAt"] < report["endedAt"]
    assert [(turn["speaker"], turn["text"], turn["interrupted"]) for turn in report["turns"]] == [
        ("caller", "What are your opening hours?", False),
        ("agent", "From nine to five.", False),
    ]
    usage = {used["stage"]: used for used in report["usage"]}
    assert (usage["llm"]["model"], usage["llm"]["inputTokens"], usage["llm"]["outputTokens"]) == (
        "gpt-4o-mini",
        100,
        20,
    )
    assert usage["tts"]["characters"] == len("From nine to five.")
    assert usage["tts"]["audioSeconds"] == pytest.approx(1.0, abs=0.1)
    assert usage["stt"]["audioSeconds"] > 1.0
    (latency,) = report["latencies"]
    assert 0 < latency["llmSeconds"] < latency["totalSeconds"]
    assert report["cost"]["total"] == report["cost"]["models"]["gpt-4o-mini"] == "0.000300"
    unpriced = {usage["tts"]["model"], usage["stt"]["model"]}
    assert set(report["cost"]["modelsWithoutPrice"]) == unpriced


@pytest.mark.parametrize(
    ("part", "fields"),
    [("Transcript", {"turns", "tools"}), ("Usage", {"usage", "cost"}), ("Latencies", {"latencies"})],
)
def test_report_contains_only_what_is_declared(folder: Path, part: str, fields: set[str]) -> None:
    record = CallRecord(declared(part, prices=PRICES), METADATA)
    FakeSession(record).said("user", "My name is Salma.")
    report = finished(record, folder)
    optional = ("turns", "tools", "usage", "latencies", "cost")
    assert {name for name in optional if report[name] is not None} == fields
    assert ("Salma" in json.dumps(report)) == (part == "Transcript")


def test_interrupted_reply_and_tools_are_reported(folder: Path) -> None:
    record = CallRecord(ALL, METADATA)
    session = FakeSession(record)
    session.said("assistant", "We are open from", interrupted=True)
    session.used("order_status", is_error=False)
    session.used("branches", is_error=True)
    report = finished(record, folder)
    assert [(turn["text"], turn["interrupted"]) for turn in report["turns"]] == [("We are open from", True)]
    assert [(tool["name"], tool["failed"]) for tool in report["tools"]] == [("order_status", False), ("branches", True)]
    assert not any(word in json.dumps(report) for word in ("Damascus", "secret result", "gold", "salma"))


def test_latency_is_divided_into_stages(folder: Path) -> None:
    record = CallRecord(ALL, METADATA)
    session = FakeSession(record)
    session.said("assistant", "Welcome.")
    session.said("user", "Hello", metrics={"transcription_delay": 0.3, "end_of_turn_delay": 0.5})
    session.said("assistant", "Hello", metrics={"e2e_latency": 1.1, "llm_node_ttft": 0.4, "tts_node_ttfb": 0.2})
    (latency,) = finished(record, folder)["latencies"]
    assert {key: value for key, value in latency.items() if key != "at"} == {
        "totalSeconds": 1.1,
        "sttSeconds": 0.3,
        "endOfTurnSeconds": 0.2,
        "llmSeconds": 0.4,
        "ttsSeconds": 0.2,
    }


def test_long_call_keeps_its_newest_turns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_record, "MAX_TURN_BYTES", 1001)
    record = CallRecord(ALL, METADATA)
    session = FakeSession(record)
    for number in range(1000):
        session.said("user", f"{number:04} " + "م" * 5000)  # an Arabic letter takes two bytes
    report = finished(record, folder)
    assert 0 < len(report["turns"]) == 1000 - report["turnsLeftOut"]
    assert report["turns"][-1]["text"] == "0999 " + "م" * 498
    size = (folder / "avatar-agent-reports/default.ornina/AJ_1.json").stat().st_size
    assert size < report_spool.MAX_REPORT_BYTES


def test_call_without_a_declared_report_leaves_nothing(folder: Path) -> None:
    config = make_config(language="en")
    record = CallRecord(config, METADATA)
    FakeSession(record)
    record.finish(CONTEXT, CallOutcome.CALLER_LEFT)
    assert list(folder.iterdir()) == []


def test_report_that_cannot_be_stored_does_not_stop_the_call(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "avatar-agent-reports").write_text("not a folder")
    record = CallRecord(ALL, METADATA)
    FakeSession(record).said("user", "My name is Salma.")
    record.finish(CONTEXT, CallOutcome.CALLER_LEFT)
    (line,) = [line for line in caplog.records if line.levelno == logging.ERROR]
    assert line.message == "could not store the report of the call"
    assert "Salma" not in caplog.text


def test_only_the_worker_can_read_what_waits(folder: Path) -> None:
    finished(CallRecord(ALL, METADATA), folder)
    file = folder / "avatar-agent-reports/default.ornina/AJ_1.json"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
