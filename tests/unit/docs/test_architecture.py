"""The architecture page lists the layers that import-linter checks, and the folders that exist."""

import re
import tomllib
from typing import Any

import pytest

from devkit.paths import REPOSITORY

PAGE = (REPOSITORY / "docs/architecture.md").read_text()
LINTER = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERED = [contract for contract in LINTER["contracts"] if contract["type"] == "layers"]


def heading(contract: dict[str, Any]) -> str:
    """The heading of the section that explains a contract."""
    if containers := contract.get("containers"):
        return f"Inside {containers[0]}"
    roots = {layer.split(".")[0] for layer in contract["layers"]}
    return f"Inside {roots.pop()}" if len(roots) == 1 else "The packages"


def declared(contract: dict[str, Any]) -> list[set[str]]:
    """The modules of each layer, without their container and without the brackets of optional ones."""
    prefix = "" if heading(contract) == "The packages" else f"{heading(contract).split()[1]}."
    return [{name.strip(" ()").removeprefix(prefix) for name in layer.split("|")} for layer in contract["layers"]]


def documented(title: str) -> list[set[str]]:
    """The modules in each row of the table below a heading."""
    section = re.split(r"^#", PAGE.split(f"### {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    return [set(re.findall(r"`([^`]+)`", cell)) for cell in rows]


@pytest.mark.parametrize("contract", LAYERED, ids=heading)
def test_page_lists_layers_of_contract(contract: dict[str, Any]) -> None:
    assert documented(heading(contract)) == declared(contract)


def test_page_lists_every_package() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE.split("## The folders")[1].split("Inside the three")[0], re.MULTILINE)
    folders = {folder.rstrip("/") for row in rows for folder in re.findall(r"`([^`]+)`", row)}
    assert set(LINTER["root_packages"]) <= folders
    assert {folder for folder in folders if not (REPOSITORY / folder).is_dir()} == set()
