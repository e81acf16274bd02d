"""Records of instances, and their mounts."""

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
    return new_record(name, api_only=False, internet=False, nodes=1)


@pytest.mark.parametrize("name", ["", "Dev", "1st", "a_b", "../etc", "elevenchars"])
def test_invalid_instance_name_is_rejected(name: str) -> None:
    with pytest.raises(DevkitError, match="is not a valid instance name"):
        check_name(name)


def test_record_is_read_as_it_was_written() -> None:
    record = make("one")
    assert load("one") == record
    assert not record.ready
    assert mark_ready(record) == load("one")
    assert names() == ["one"]


def test_instances_get_different_subnets_before_they_have_routes() -> None:
    first, second = make("one"), make("two")
    assert not first.subnets.whole.overlaps(second.subnets.whole)


def test_instance_created_again_gets_the_same_subnet() -> None:
    assert make("one").subnet == make("one").subnet


def test_every_instance_has_its_own_long_enough_livekit_secret() -> None:
    secrets = {make(name).livekit_api_secret for name in ("one", "two")}
    assert len(secrets) == 2
    assert min(len(secret) for secret in secrets) >= 32


def test_only_the_owner_can_read_a_record() -> None:
    save(make("one"))
    assert Layout("one").root.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "one"}'])
def test_unreadable_record_counts_as_none(text: str) -> None:
    make("one")
    Layout("one").record.write_text(text)
    assert load("one") is None


def test_mounts_below_the_folders_are_found_last_first() -> None:
    lines = ["1 0 8:1 / / rw", "2 1 0:5 / /s/dev/a rw", "3 1 0:5 / /s/dev/a/b\\040c rw", "4 1 0:5 / /s/dev2/a rw"]
    assert mounts_below([Path("/s/dev")], "\n".join(lines)) == ["/s/dev/a/b c", "/s/dev/a"]
