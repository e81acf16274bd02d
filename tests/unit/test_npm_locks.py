"""The npm lock files install from whatever registry a machine is set up for."""

import json
from pathlib import Path

import pytest

from devkit.paths import REPOSITORY

LOCKS = [
    REPOSITORY / "gateway/web/package-lock.json",
    REPOSITORY / "devkit/dashboards/web/package-lock.json",
    REPOSITORY / "tests/e2e/npm/package-lock.json",
]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.parent.relative_to(REPOSITORY).as_posix())
def test_lock_has_checksums_and_names_no_registry(path: Path) -> None:
    packages = json.loads(path.read_text())["packages"]
    assert len(packages) > 1
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name
