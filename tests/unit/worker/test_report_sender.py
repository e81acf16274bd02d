"""Reports of calls are sent with retries, within bounds, and no loss is silent."""

import asyncio
import json
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from agentspec.names import REPORT_KEY_VARIABLE
from agentspec.signing import decode_key
from tests.receiver import SIGNING_KEY, Receiver, receiving
from tests.unit.worker.builders import make_config
from tests.waiting import soon
from worker import report_spool
from worker.server import metrics, report_sender
from worker.server.report_sender import Dropped, ReportSender


class Scene:
    def __init__(self, receiver: Receiver, client: aiohttp.ClientSession, folder: Path) -> None:
        self.receiver = receiver
        self.folder = folder
        self.sender = ReportSender(client, receiver.url, decode_key(SIGNING_KEY), folder)

    def add(self, *job_ids: str, age: float = 0.0) -> None:
        for position, job_id in enumerate(job_ids):
            report_spool.add(self.folder, job_id, json.dumps({"job": job_id}))
            at = time.time() - age + position * 0.01
            os.utime(report_spool.path_of(self.folder, job_id), (at, at))

    def waiting(self) -> list[str]:
        return [job_id for job_id, _ in report_spool.waiting(self.folder)]

    async def due_again(self) -> None:
        """Send as if all pauses were over."""
        for attempts in self.sender._attempts.values():
            attempts.due = 0.0
        await self.sender.send_due()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with receiving() as receiver, aiohttp.ClientSession() as client:
        yield Scene(receiver, client, tmp_path / "reports")
        assert receiver.faults == []


def dropped(reason: Dropped) -> float:
    return float(metrics.REPORTS_DROPPED.labels(reason)._value.get())


async def test_reports_are_sent_in_order_and_removed(scene: Scene) -> None:
    scene.add("AJ_2", "AJ_1", "AJ_3")
    await scene.sender.send_due()
    assert [report["job"] for report in scene.receiver.reports] == ["AJ_2", "AJ_1", "AJ_3"]
    assert scene.waiting() == []


async def test_empty_or_missing_folder_is_no_error(scene: Scene) -> None:
    await scene.sender.send_due()
    assert scene.receiver.ids == []


async def test_failed_report_waits_for_its_retry(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.receiver.statuses = [503]
    scene.add("AJ_1")
    await scene.sender.send_due()
    await scene.sender.send_due()
    assert (scene.receiver.ids, scene.waiting()) == (["AJ_1"], ["AJ_1"])
    (line,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (vars(line)["job_id"], vars(line)["error"]) == ("AJ_1", "HTTP 503")
    await scene.due_again()
    assert (scene.receiver.ids, scene.waiting()) == (["AJ_1", "AJ_1"], [])


async def test_pause_grows_to_its_bound(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.receiver.statuses = [503] * 12
    scene.add("AJ_1")
    for _ in range(12):
        await scene.due_again()
    pauses = [vars(record)["retry_seconds"] for record in caplog.records if "retry_seconds" in vars(record)]
    assert 1.6 <= pauses[0] <= 2.4 and 6.4 <= pauses[2] <= 9.6
    assert pauses[-1] == report_sender.MAX_RETRY_SECONDS


@pytest.mark.parametrize(("asked", "pause"), [("60", 60.0), ("86400", report_sender.MAX_RETRY_SECONDS)])
async def test_pause_is_the_one_that_the_receiver_asks_for(
    scene: Scene, caplog: pytest.LogCaptureFixture, asked: str, pause: float
) -> None:
    scene.receiver.statuses, scene.receiver.headers = [429], {"Retry-After": asked}
    scene.add("AJ_1")
    await scene.sender.send_due()
    assert [vars(record)["retry_seconds"] for record in caplog.records if "retry_seconds" in vars(record)] == [pause]


async def test_report_that_fails_does_not_hold_up_others(scene: Scene) -> None:
    scene.receiver.statuses = [500]
    scene.add("AJ_1", "AJ_2")
    await scene.sender.send_due()
    assert ([report["job"] for report in scene.receiver.reports], scene.waiting()) == (["AJ_2"], ["AJ_1"])


async def test_rejected_report_is_dropped_and_counted(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    before = dropped(Dropped.REJECTED)
    scene.receiver.statuses = [422]
    scene.add("AJ_1")
    await scene.sender.send_due()
    assert (scene.waiting(), dropped(Dropped.REJECTED)) == ([], before + 1)
    (line,) = [record for record in caplog.records if record.message == "report of a call lost"]
    assert (vars(line)["reason"], vars(line)["error"]) == ("rejected", "HTTP 422")


async def test_old_report_is_dropped_after_its_last_attempt(scene: Scene) -> None:
    before = dropped(Dropped.EXPIRED)
    scene.add("AJ_1", age=report_sender.MAX_AGE_SECONDS + 60)
    scene.receiver.statuses = [503]
    await scene.sender.send_due()
    assert (scene.waiting(), dropped(Dropped.EXPIRED)) == ([], before + 1)


@pytest.mark.parametrize(("bound", "value"), [("MAX_REPORTS", 2), ("MAX_BYTES", 40)])
async def test_oldest_reports_are_dropped_when_too_many_wait(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(report_sender, bound, value)
    before = dropped(Dropped.FULL)
    scene.receiver.statuses = [503] * 9
    scene.add("AJ_1", "AJ_2", "AJ_3", "AJ_4")
    await scene.sender.send_due()
    assert (scene.waiting(), dropped(Dropped.FULL)) == (["AJ_3", "AJ_4"], before + 2)


async def test_call_without_a_report_is_counted(scene: Scene) -> None:
    before = dropped(Dropped.MISSING)
    scene.add("AJ_1", "AJ_2")
    await scene.sender.send_due()
    scene.add("AJ_3")
    for job_id in ("AJ_1", "AJ_2", "AJ_3"):
        scene.sender.check(job_id)
    assert dropped(Dropped.MISSING) == before
    scene.sender.check("AJ_killed")
    assert dropped(Dropped.MISSING) == before + 1


async def test_stopping_worker_sends_its_last_reports(scene: Scene) -> None:
    scene.receiver.statuses = [503]
    scene.add("AJ_1")
    await scene.sender.send_due()
    scene.add("AJ_2")
    await scene.sender.flush(20)
    assert sorted(report["job"] for report in scene.receiver.reports) == ["AJ_1", "AJ_2"]


async def test_stopping_worker_waits_for_a_bounded_time(scene: Scene) -> None:
    before = dropped(Dropped.STOPPED)
    scene.receiver.statuses = [503] * 1000
    scene.add("AJ_1", "AJ_2")
    await asyncio.wait_for(scene.sender.flush(0.1), 20)
    assert (scene.waiting(), dropped(Dropped.STOPPED)) == ([], before + 2)


@asynccontextmanager
async def sending(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Path]:
    """Run what a worker runs until it stops. Yields the folder of the reports."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(REPORT_KEY_VARIABLE, SIGNING_KEY)
    key = {"name": "report", "key": "signingKey"}
    config = make_config(report={"url": receiver.url, "secretKeyRef": key, "include": ["Usage"]})
    async with report_sender.sending(config, has_program=False):
        yield report_spool.folder_of(config.namespace, config.name)


async def test_worker_sends_what_calls_leave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with receiving() as receiver:
        async with sending(monkeypatch, tmp_path, receiver) as folder:
            report_spool.add(folder, "AJ_1", '{"job": 1}')
            await soon(lambda: receiver.reports)
            report_spool.add(folder, "AJ_2", '{"job": 2}')
        assert receiver.reports == [{"job": 1}, {"job": 2}]


async def test_worker_that_stops_during_a_request_sends_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.answers.clear()
        async with sending(monkeypatch, tmp_path, receiver) as folder:
            report_spool.add(folder, "AJ_1", '{"job": 1}')
            await soon(lambda: receiver.ids)
            asyncio.get_running_loop().call_later(0.1, receiver.answers.set)
        assert receiver.ids == ["AJ_1"]


@pytest.mark.parametrize("has_program", [True, False], ids=["program", "no report declared"])
async def test_calls_without_reports_have_no_sender(has_program: bool) -> None:
    report = {"url": "http://127.0.0.1:1/", "secretKeyRef": {"name": "r", "key": "k"}, "include": ["Usage"]}
    config = make_config(report=report) if has_program else make_config()
    async with report_sender.sending(config, has_program=has_program) as sender:
        assert sender is None


def test_report_of_a_strange_job_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot name a file"):
        report_spool.add(tmp_path, "../x", "{}")
    assert list(tmp_path.iterdir()) == []
