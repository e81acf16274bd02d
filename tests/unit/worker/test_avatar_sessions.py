"""The name of an avatar says whose it is."""

import pytest

from worker.avatar_sessions import AvatarName, owner


@pytest.mark.parametrize("room", ["ornina-c1", "a/room/with slashes", ""])
def test_name_says_whose_the_avatar_is(room: str) -> None:
    name = AvatarName("uid-1.0a1b2c3d", "AJ_1", room)
    assert AvatarName.parse(str(name)) == name


def test_too_long_room_is_left_out_of_the_name() -> None:
    name = AvatarName("uid-1", "AJ_1", "x" * 300)
    assert len(str(name)) <= 200
    assert AvatarName.parse(str(name)) == AvatarName("uid-1", "AJ_1", "")


@pytest.mark.parametrize("name", ["", "lk_conversation_1", "avatar-agent", "avatar-agent/u/AJ_1", "avatar-agent/u//r"])
def test_name_of_another_product_is_none_of_ours(name: str) -> None:
    assert AvatarName.parse(name) is None


def test_owner_is_one_agent_on_one_server() -> None:
    owners = {owner(uid, url) for uid in ("u1", "u2") for url in ("ws://a", "ws://b")}
    assert len(owners) == 4
    assert owner("", "ws://a") == "", "without a uid nobody knows whose an avatar is"
