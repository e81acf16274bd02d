"""Debian packages are unpacked into the cache: apt downloads them once, and installs nothing."""

import os
from pathlib import Path

import pytest

from devkit import debian
from devkit.debian import Bundle
from devkit.errors import DevkitError
from devkit.progress import LogProgress

BUNDLE = Bundle("tool", ("tool", "libjs-page"), {"tool": "usr/bin/tool"})
APT = """#!/bin/sh
echo "$PWD $@" >> {log}
[ "$1" = download ] || exit 0
shift
for package; do : > $package.deb; done
"""
DPKG = """#!/bin/sh
[ "$1" = --extract ] || exit 1
/bin/mkdir -p $3/usr/bin
: > $3/usr/bin/{file}
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake apt-get and dpkg-deb. Returns the log of apt-get's folders and arguments."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "bin").mkdir()
    log = tmp_path / "apt.log"
    program(tmp_path, "apt-get", APT.format(log=log))
    program(tmp_path, "dpkg-deb", DPKG.format(file="tool"))
    return log


def program(folder: Path, name: str, script: str) -> None:
    (folder / "bin" / name).write_text(script)
    (folder / "bin" / name).chmod(0o755)


def test_packages_are_downloaded_once_and_unpacked(apt: Path) -> None:
    found = debian.ensure(LogProgress(), BUNDLE)
    assert found == {"tool": BUNDLE.folder / "usr/bin/tool"}
    assert found["tool"].exists()
    assert debian.ensure(LogProgress(), BUNDLE) == found
    commands = [line.split(" ", 1)[1] for line in apt.read_text().splitlines()]
    assert commands == ["update", "download tool libjs-page"], "nothing is installed"
    assert not list(BUNDLE.folder.rglob("*.deb"))


def test_failed_download_leaves_nothing_in_the_cache(apt: Path, tmp_path: Path) -> None:
    program(tmp_path, "apt-get", '#!/bin/sh\n[ "$1" = update ] || { echo no such package; exit 100; }\n')
    with pytest.raises(DevkitError, match="no such package"):
        debian.ensure(LogProgress(), BUNDLE)
    assert not BUNDLE.folder.exists()


def test_package_without_its_program_is_an_error(apt: Path, tmp_path: Path) -> None:
    program(tmp_path, "dpkg-deb", DPKG.format(file="other"))
    with pytest.raises(DevkitError, match=r"tool does not contain .*/usr/bin/tool"):
        debian.ensure(LogProgress(), BUNDLE)


def test_error_names_the_package_without_apt_or_root(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DevkitError, match="tool is missing and only root can update"):
        debian.ensure(LogProgress(), BUNDLE)
    (tmp_path / "bin" / "apt-get").unlink()
    with pytest.raises(DevkitError, match="tool is missing and this machine has no apt-get"):
        debian.ensure(LogProgress(), BUNDLE)


def test_other_packages_get_another_folder(apt: Path) -> None:
    assert Bundle("tool", ("tool",), {}).folder != BUNDLE.folder
