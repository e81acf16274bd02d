"""Commands of the docs that no end-to-end test runs: each is checked as far as it can be without a cluster."""

import re
from pathlib import Path

from devkit.paths import REPOSITORY
from devkit.prose import pages

BLOCK = re.compile(r"^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)

CHECKED = {
    "CONTRIBUTING.md": 1,  # here
    "docs/guides/calls.md": 3,  # tests/unit/gateway/test_docs.py
    "docs/guides/upgrade.md": 1,  # tests/chart/test_docs.py
    "docs/start.md": 2,  # here and tests/chart/test_docs.py
}
"""Number of `text` blocks by page, and where they are checked."""


def blocks(page: str) -> list[str]:
    return BLOCK.findall((REPOSITORY / page).read_text())


def test_every_text_block_is_checked() -> None:
    found = pages([str(REPOSITORY / root) for root in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs")])
    names = [str(page.relative_to(REPOSITORY)) for page in found]
    assert {name: len(blocks(name)) for name in names if blocks(name)} == CHECKED


def test_docker_builds_name_existing_files() -> None:
    lines = blocks("docs/start.md")[0].splitlines()
    built = [re.fullmatch(r"docker build -f (\S+) -t \$(\w+)_IMAGE \.", line) for line in lines]
    assert [(match[1], match[2]) for match in built if match] == [
        ("Dockerfile.controller", "CONTROLLER"),
        ("Dockerfile.worker", "WORKER"),
    ]
    assert all((REPOSITORY / match[1]).is_file() for match in built if match)


def test_set_up_commands_exist() -> None:
    make, hooks = (line.split("#")[0].split() for line in blocks("CONTRIBUTING.md")[0].splitlines())
    assert make[0] == "make"
    assert re.search(rf"^{make[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert hooks[1:] == ["install"]
    assert Path(hooks[0]).parts[:2] == (".venv", "bin")
    assert (REPOSITORY / hooks[0]).is_file()
