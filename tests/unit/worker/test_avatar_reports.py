"""Avatars that the main process counts, and what call processes report about them."""

from tests.waiting import soon
from worker import avatar_reports, reports
from worker.avatar_reports import AvatarReport, Avatars, AvatarState, report


async def _reported(avatars: Avatars, jobs: set[str], count: int, error: str) -> None:
    await soon(lambda: (avatars.count(jobs), avatars.last_error) == (count, error))


def test_only_current_jobs_with_an_avatar_count() -> None:
    avatars = Avatars()
    avatars.expect("a")
    avatars.expect("b")
    assert avatars.count({"a", "b", "voice only"}) == 2
    assert avatars.count({"b"}) == 1, "a killed process does not count for ever"


def test_jobs_with_an_avatar_are_published_in_the_order_of_their_acceptance() -> None:
    published: list[list[str]] = []
    avatars = Avatars(lambda jobs: published.append(list(jobs)))
    for job in ("b", "a", "c"):
        avatars.expect(job)
    avatars.forget("a")
    avatars.forget("a")
    avatars.abandon("b")
    assert published == [["b"], ["b", "a"], ["b", "a", "c"], ["b", "c"], ["c"]]


def test_error_lasts_until_an_avatar_joins() -> None:
    avatars = Avatars()
    avatars.record(AvatarReport(job_id="a", state=AvatarState.FAILED, error="no seat"))
    avatars.record(AvatarReport(job_id="a", state=AvatarState.RELEASED))
    assert avatars.last_error == "no seat"
    avatars.record(AvatarReport(job_id="b", state=AvatarState.JOINED))
    assert avatars.last_error == ""


def test_abandoned_avatar_counts_until_it_is_forgotten() -> None:
    avatars = Avatars()
    assert not avatars.abandon("voice only")
    avatars.expect("a")
    assert avatars.abandon("a")
    assert not avatars.abandon("a"), "once is enough"
    assert (avatars.count(()), avatars.is_abandoned("a")) == (1, True)
    avatars.record(AvatarReport(job_id="a", state=AvatarState.RELEASED))
    assert (avatars.count(()), avatars.is_abandoned("a")) == (0, False)


async def test_report_reaches_the_main_process() -> None:
    avatars = Avatars()
    async with reports.receive({AvatarReport: avatars.record}):
        avatars.expect("a")
        report("a", AvatarState.FAILED, "x" * 1000)
        await _reported(avatars, {"a"}, 1, "x" * avatar_reports.MAX_ERROR_LENGTH)
        report("a", AvatarState.RELEASED)
        await _reported(avatars, {"a"}, 0, avatars.last_error)
