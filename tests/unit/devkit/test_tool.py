"""`python -m devkit tool`: runs a linter of `make check` with the arguments given."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from devkit import binaries, cli
from devkit.tools import VALE


def test_tool_replaces_the_process_with_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    ensured: list[object] = []
    run: list[object] = []

    def ensure(_progress: object, tools: list[object]) -> binaries.Binaries:
        ensured.extend(tools)
        return binaries.Binaries({"vale": Path("/cache/vale")})

    monkeypatch.setattr(binaries, "ensure", ensure)
    monkeypatch.setattr(os, "execv", lambda path, argv: run.append((path, argv)))
    result = CliRunner().invoke(cli.main, ["tool", "vale", "--ext=.md", "docs", "--", "-x"])
    assert result.exit_code == 0, result.output
    assert ensured == [VALE]
    assert run == [("/cache/vale", ["/cache/vale", "--ext=.md", "docs", "-x"])]


def test_tool_refuses_unknown_program() -> None:
    result = CliRunner().invoke(cli.main, ["tool", "rm"])
    assert result.exit_code == 2
    assert "'helm', 'vale'" in result.output
