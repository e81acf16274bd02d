"""Only missing Debian packages are installed; an error names them where that is impossible."""

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


def test_package_is_missing_if_its_program_or_file_is(tmp_path: Path) -> None:
    program(tmp_path, "there")
    needed = {"there": "a", str(tmp_path / "there"): "b", "absent": "d", "absent-too": "d", "/nowhere/file": "c"}
    assert system.missing_packages(needed) == ["c", "d"]


def test_apt_does_not_run_when_nothing_is_missing(tmp_path: Path) -> None:
    program(tmp_path, "there")
    system.install({"there": "a"}, LogProgress())


def test_missing_package_is_installed(tmp_path: Path) -> None:
    program(tmp_path, "apt-get", f'[ "$1" = update ] || {{ : > {tmp_path}/absent; /bin/chmod +x {tmp_path}/absent; }}')
    system.install({"absent": "a"}, LogProgress())
    assert system.missing_packages({"absent": "a"}) == []


def test_error_names_package_without_its_program(tmp_path: Path) -> None:
    program(tmp_path, "apt-get")
    with pytest.raises(DevkitError, match="these packages are still missing: a"):
        system.install({"absent": "a"}, LogProgress())


def test_error_without_apt_or_root_names_packages_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DevkitError, match="this machine has no apt-get: install a"):
        system.install({"absent": "a"}, LogProgress())
    program(tmp_path, "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DevkitError, match="only root can install them: install a"):
        system.install({"absent": "a"}, LogProgress())
