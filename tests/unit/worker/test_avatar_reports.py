"""Avatars that the main process counts, and what call processes report about them."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import soon
from worker import avatar_reports
from worker.avatar_reports import AvatarReport, Avatars, AvatarState, receive_reports, report


async def _reported(avatars: Avatars, jobs: set[str], count: int, error: str) -> None:
    await soon(lambda: (avatars.count(jobs), avatars.last_error) == (count, error))


def test_only_current_jobs_with_an_avatar_count() -> None:
    avatars = Avatars()
    avatars.expect("a")
    avatars.expect("b")
    assert avatars.count({"a", "b", "voice only"}) == 2
    assert avatars.count({"b"}) == 1, "a killed process does not count for ever"


def test_error_lasts_until_an_avatar_joins() -> None:
    avatars = Avatars()
    avatars.record(AvatarReport(job_id="a", state=AvatarState.FAILED, error="no seat"))
    avatars.record(AvatarReport(job_id="a", state=AvatarState.RELEASED))
    assert avatars.last_error == "no seat"
    avatars.record(AvatarReport(job_id="b", state=AvatarState.JOINED))
    assert avatars.last_error == ""


async def test_report_reaches_the_main_process() -> None:
    avatars = Avatars()
    async with receive_reports(avatars):
        avatars.expect("a")
        report("a", AvatarState.FAILED, "x" * 1000)
        await _reported(avatars, {"a"}, 1, "x" * avatar_reports.MAX_ERROR_LENGTH)
        report("a", AvatarState.RELEASED)
        await _reported(avatars, {"a"}, 0, avatars.last_error)


async def test_report_of_another_process_arrives() -> None:
    avatars = Avatars()
    async with receive_reports(avatars):
        code = (
            "from worker.avatar_reports import AvatarState, report;"
            "report('a', AvatarState.FAILED, 'Tavus did not answer')"
        )
        done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], timeout=30, check=True)
        assert done.returncode == 0
        await _reported(avatars, set(), 0, "Tavus did not answer")


async def test_invalid_report_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    avatars = Avatars()
    avatar_reports._Receiver(avatars).datagram_received(b'{"jobID": "a", "state": "in love"}', None)
    assert "invalid avatar report ignored" in caplog.text
    assert avatars.last_error == ""


def test_report_without_a_receiver_only_logs(caplog: pytest.LogCaptureFixture) -> None:
    assert avatar_reports.SOCKET_VARIABLE not in os.environ
    report("a", AvatarState.JOINED)
    assert "avatar report not sent" in caplog.text


async def test_socket_is_removed_with_the_worker() -> None:
    async with receive_reports(Avatars()):
        path = Path(os.environ[avatar_reports.SOCKET_VARIABLE])
    assert avatar_reports.SOCKET_VARIABLE not in os.environ
    assert not await asyncio.to_thread(path.parent.exists)
