"""Changes of manifests and of own code are noticed."""

import asyncio
from pathlib import Path

import pytest

from avatar_agent.local import watching


def test_files_of_a_package_are_followed_without_caches(tmp_path: Path) -> None:
    for name in ("flowers/__init__.py", "flowers/shop/prices.py", "flowers/__pycache__/a.py", "flowers/readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = watching.code_files("flowers.shop:Florist", [tmp_path / "absent", tmp_path])
    assert found == [tmp_path / "flowers/__init__.py", tmp_path / "flowers/shop/prices.py"]


def test_module_of_one_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "flowers.py").touch()
    assert watching.code_files("flowers:Florist", [tmp_path]) == [tmp_path / "flowers.py"]


def test_installed_code_and_the_stock_agent_have_no_files(tmp_path: Path) -> None:
    assert watching.code_files("", [tmp_path]) == watching.code_files("json:Florist", [tmp_path]) == []


@pytest.mark.parametrize("change", ["edit", "replace", "add", "remove"])
async def test_every_kind_of_change_is_noticed(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)
    manifest, package = tmp_path / "agent.yaml", tmp_path / "flowers"
    package.mkdir()
    manifest.write_text("a")
    (package / "__init__.py").touch()
    before = watching.state_of([manifest, package / "__init__.py"])
    waiting = asyncio.create_task(watching.changed("flowers:Florist", [manifest], [tmp_path], before))
    await asyncio.sleep(0)
    if change == "edit":
        manifest.write_text("longer")
    elif change == "replace":
        (tmp_path / "new").write_text("b" * 9)
        (tmp_path / "new").replace(manifest)
    elif change == "add":
        (package / "prices.py").touch()
    else:
        (package / "__init__.py").unlink()
    assert await asyncio.wait_for(waiting, 10) != before
