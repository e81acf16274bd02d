"""Installing Debian packages: only what is missing, and words for a person where that is impossible."""

import os
from pathlib import Path

import pytest

from devkit import system
from devkit.errors import DevkitError
from devkit.progress import LogProgress


@pytest.fixture(autouse=True)
def no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def program(folder: Path, name: str, script: str = "") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_package_is_missing_when_its_program_or_file_is(tmp_path: Path) -> None:
    program(tmp_path, "there")
    needed = {"there": "a", str(tmp_path / "there"): "b", "absent": "d", "absent-too": "d", "/nowhere/file": "c"}
    assert system.missing_packages(needed) == ["c", "d"]


def test_with_everything_there_apt_is_not_asked(tmp_path: Path) -> None:
    program(tmp_path, "there")
    system.install({"there": "a"}, LogProgress())


def test_what_is_missing_is_installed(tmp_path: Path) -> None:
    program(tmp_path, "apt-get", f'[ "$1" = update ] || {{ : > {tmp_path}/absent; /bin/chmod +x {tmp_path}/absent; }}')
    system.install({"absent": "a"}, LogProgress())
    assert system.missing_packages({"absent": "a"}) == []


def test_a_package_that_does_not_bring_its_program_is_named(tmp_path: Path) -> None:
    program(tmp_path, "apt-get")
    with pytest.raises(DevkitError, match="still missing after apt-get install: a"):
        system.install({"absent": "a"}, LogProgress())


def test_without_apt_or_root_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DevkitError, match="missing: a; this machine has no apt-get"):
        system.install({"absent": "a"}, LogProgress())
    program(tmp_path, "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DevkitError, match="missing: a; only root may"):
        system.install({"absent": "a"}, LogProgress())
