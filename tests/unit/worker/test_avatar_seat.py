"""The limit of avatars holds for calls of any source, by the provider's own list."""

from typing import Any

import pytest
from livekit.agents import APIConnectionError

from worker.avatar_sessions import AvatarName, OpenAvatar
from worker.call.avatar_seat import ListedSeat

OWNER = "uid-1.0a1b2c3d"


class FakeProvider:
    """A provider with open avatars of these owners, the oldest first."""

    def __init__(self, *owners: str, fails: bool = False) -> None:
        self.fails = fails
        self.asked = 0
        self.found = [
            OpenAvatar(f"c{number}", AvatarName(owner, f"AJ_{number}", "r"), f"2026-01-01T00:00:0{number}")
            for number, owner in enumerate(owners)
        ]

    async def active(self) -> list[OpenAvatar]:
        self.asked += 1
        if self.fails:
            raise APIConnectionError("unreachable")
        return self.found[::-1]


def seat(provider: FakeProvider, limit: int | None, owner: str = OWNER) -> ListedSeat:
    api: Any = provider
    return ListedSeat(api, owner, limit)


@pytest.mark.parametrize(
    ("owners", "limit", "free"),
    [
        ((), 1, True),
        ((OWNER,), 1, False),
        ((OWNER,), 2, True),
        ((OWNER, "uid-1.ffffffff"), 2, False),
        (("uid-2.0a1b2c3d",), 1, True),
    ],
    ids=["nothing open", "taken", "one of two", "another server's count", "another agent's do not"],
)
async def test_seats_are_counted_over_all_workers(owners: tuple[str, ...], limit: int, free: bool) -> None:
    assert await seat(FakeProvider(*owners), limit).is_free() is free


async def test_calls_that_started_together_keep_the_oldest_avatars() -> None:
    kept = [await seat(FakeProvider(*[OWNER] * 4), 2).is_kept(f"c{number}") for number in range(4)]
    assert kept == [True, True, False, False]


async def test_unlisted_avatar_is_kept_within_the_limit() -> None:
    assert await seat(FakeProvider(OWNER), 1).is_kept("just created")
    assert not await seat(FakeProvider(OWNER, OWNER), 1).is_kept("just created")


@pytest.mark.parametrize(("limit", "owner"), [(None, OWNER), (1, "")], ids=["no limit", "no uid"])
async def test_nothing_is_asked_without_a_limit(limit: int | None, owner: str) -> None:
    provider = FakeProvider(OWNER)
    assert await seat(provider, limit, owner).is_free()
    assert await seat(provider, limit, owner).is_kept("c9")
    assert provider.asked == 0


async def test_provider_decides_when_its_list_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    provider = FakeProvider(OWNER, fails=True)
    assert await seat(provider, 1).is_free()
    assert await seat(provider, 1).is_kept("c9")
    assert "avatar seats unknown" in caplog.text
