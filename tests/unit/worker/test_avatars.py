"""Avatars counted in the main process, and what call processes tell it of them."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import soon
from worker import avatar_reports
from worker.avatar_reports import Avatars, AvatarState, listening, tell


async def _eventually(seats: Avatars, held: set[str], count: int, problem: str) -> None:
    await soon(lambda: (seats.count(held), seats.problem) == (count, problem))


def test_only_jobs_that_are_held_and_wanted_an_avatar_count() -> None:
    seats = Avatars()
    seats.expect("a")
    seats.expect("b")
    assert seats.count({"a", "b", "voice only"}) == 2
    assert seats.count({"b"}) == 1, "a process that was killed does not count for ever"


def test_a_problem_lasts_until_an_avatar_comes() -> None:
    seats = Avatars()
    seats.note("a", AvatarState.FAILED, "no seat")
    seats.note("a", AvatarState.GONE, "")
    assert seats.problem == "no seat"
    seats.note("b", AvatarState.CAME, "")
    assert seats.problem == ""


async def test_a_call_process_tells_the_main_process() -> None:
    seats = Avatars()
    async with listening(seats):
        seats.expect("a")
        tell("a", AvatarState.FAILED, "x" * 1000)
        await _eventually(seats, {"a"}, 1, "x" * avatar_reports.MAX_PROBLEM_LENGTH)
        tell("a", AvatarState.GONE)
        await _eventually(seats, {"a"}, 0, seats.problem)


async def test_another_process_finds_the_way() -> None:
    seats = Avatars()
    async with listening(seats):
        code = (
            "from worker.avatar_reports import AvatarState, tell; tell('a', AvatarState.FAILED, 'Tavus did not answer')"
        )
        done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], timeout=30, check=True)
        assert done.returncode == 0
        await _eventually(seats, set(), 0, "Tavus did not answer")


async def test_nonsense_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    seats = Avatars()
    avatar_reports._Receiver(seats).datagram_received(b'{"jobID": "a", "fate": "fell in love"}', None)
    assert "ignored" in caplog.text
    assert seats.problem == ""


def test_telling_nobody_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    assert avatar_reports.SOCKET_VARIABLE not in os.environ
    tell("a", AvatarState.CAME)
    assert "not told" in caplog.text


async def test_the_way_is_closed_with_the_worker() -> None:
    async with listening(Avatars()):
        path = Path(os.environ[avatar_reports.SOCKET_VARIABLE])
    assert avatar_reports.SOCKET_VARIABLE not in os.environ
    assert not await asyncio.to_thread(path.parent.exists)
