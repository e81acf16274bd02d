"""Reports on their way from a call process to the main process."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import soon
from worker import reports
from worker.avatar_reports import AvatarReport, AvatarState

REPORT = AvatarReport(job_id="a", state=AvatarState.FAILED, error="لا مقعد")


async def test_report_reaches_the_handler_of_its_type() -> None:
    received: list[AvatarReport] = []
    async with reports.receive({AvatarReport: received.append}):
        reports.send(REPORT)
        await soon(lambda: received == [REPORT])


async def test_report_of_another_process_arrives() -> None:
    received: list[AvatarReport] = []
    async with reports.receive({AvatarReport: received.append}):
        code = (
            "from worker.avatar_reports import AvatarState, report;"
            "report('a', AvatarState.FAILED, 'Tavus did not answer')"
        )
        done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], timeout=30, check=True)
        assert done.returncode == 0
        await soon(lambda: [report.error for report in received] == ["Tavus did not answer"])


@pytest.mark.parametrize(
    "datagram",
    [
        b'{"AvatarReport": {"jobID": "a", "state": "in love"}}',
        b'{"LoveLetter": {"jobID": "a"}}',
        b'{"AvatarReport": {"jobID": "a", "state": "joined"}, "AvatarReports": {}}',
        b'["AvatarReport"]',
        b'{"AvatarReport"',
        b"\xff",
        b"",
    ],
    ids=["invalid value", "unknown type", "two reports", "list", "cut off", "not UTF-8", "empty"],
)
async def test_invalid_report_is_ignored_with_a_warning(datagram: bytes, caplog: pytest.LogCaptureFixture) -> None:
    received: list[AvatarReport] = []
    reports._Receiver({AvatarReport: received.append}).datagram_received(datagram, None)
    assert "invalid report ignored" in caplog.text
    assert received == []


def test_report_without_a_receiver_only_logs(caplog: pytest.LogCaptureFixture) -> None:
    assert reports.SOCKET_VARIABLE not in os.environ
    reports.send(REPORT)
    assert "report not sent" in caplog.text


async def test_socket_is_removed_with_the_worker() -> None:
    async with reports.receive({}):
        path = Path(os.environ[reports.SOCKET_VARIABLE])
        assert await asyncio.to_thread(path.exists)
    assert reports.SOCKET_VARIABLE not in os.environ
    assert not await asyncio.to_thread(path.parent.exists)
