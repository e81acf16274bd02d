"""The pre-commit configuration: valid, and the same checks as `make check`."""

import re
import subprocess
import sys

import yaml

from devkit.paths import REPOSITORY

CONFIG = REPOSITORY / ".pre-commit-config.yaml"


def test_configuration_is_valid() -> None:
    argv = [sys.executable, "-m", "pre_commit", "validate-config", str(CONFIG)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hooks_run_what_make_check_runs() -> None:
    found = re.search(r"^check: ([a-z ]+) ##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert found is not None
    (local,) = yaml.safe_load(CONFIG.read_text())["repos"]
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == [
        f"make --no-print-directory {target}" for target in found[1].split()
    ]
    assert all(hook["pass_filenames"] is False for hook in local["hooks"])
