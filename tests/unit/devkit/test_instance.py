"""Records and remains of an instance."""

from pathlib import Path

import pytest

from devkit import instance
from devkit.errors import DevkitError
from devkit.instance import Layout, Record, check_name, load, mark_ready, names, new_record, save
from devkit.mounts import mounts_below


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(instance, "host_routes", lambda: [])


def make(name: str) -> Record:
    return new_record(name, api_only=False, internet=False)


@pytest.mark.parametrize("name", ["", "Dev", "1st", "a_b", "../etc", "elevenchars"])
def test_a_name_that_cannot_be_a_link_or_a_folder_is_refused(name: str) -> None:
    with pytest.raises(DevkitError, match="cannot be an instance's name"):
        check_name(name)


def test_a_record_is_read_as_it_was_written() -> None:
    record = make("one")
    assert load("one") == record
    assert not record.ready
    assert mark_ready(record) == load("one")
    assert names() == ["one"]


def test_two_instances_never_share_a_subnet_even_before_either_has_a_route() -> None:
    first, second = make("one"), make("two")
    assert not first.subnets.whole.overlaps(second.subnets.whole)


def test_an_instance_that_is_made_again_does_not_stand_in_its_own_way() -> None:
    assert make("one").subnet == make("one").subnet


def test_every_instance_has_keys_of_its_own_of_the_length_that_livekit_asks_for() -> None:
    secrets = {make(name).livekit_api_secret for name in ("one", "two")}
    assert len(secrets) == 2
    assert min(len(secret) for secret in secrets) >= 32


def test_a_record_is_for_its_owner_only() -> None:
    save(make("one"))
    assert Layout("one").root.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "one"}'])
def test_a_record_that_cannot_be_read_counts_as_none(text: str) -> None:
    make("one")
    Layout("one").record.write_text(text)
    assert load("one") is None


def test_mounts_are_found_below_the_folders_only_and_the_last_comes_first() -> None:
    lines = ["1 0 8:1 / / rw", "2 1 0:5 / /s/dev/a rw", "3 1 0:5 / /s/dev/a/b\\040c rw", "4 1 0:5 / /s/dev2/a rw"]
    assert mounts_below([Path("/s/dev")], "\n".join(lines)) == ["/s/dev/a/b c", "/s/dev/a"]
