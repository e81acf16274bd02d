"""Relative links and paths of files in all pages lead to something that exists."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from devkit.paths import REPOSITORY
from devkit.prose import pages

ROOTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs")
BASES = (REPOSITORY, REPOSITORY / "controller", REPOSITORY / "locks")
PAGES = pages([str(REPOSITORY / root) for root in ROOTS])


def targets(text: str) -> Iterator[str]:
    """Targets of the page's links and images that stay within the repository."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in token.children or ():
            target = str(child.attrs.get("href") or child.attrs.get("src") or "")
            if target and not re.match(r"[a-z]+:", target):
                yield target


def anchors(text: str) -> set[str]:
    """The anchors of the page's headings, as hosting platforms make them."""
    tokens = MarkdownIt("commonmark").parse(text)
    headings = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """The links of this text, as that of the page, that lead nowhere."""
    found = []
    for target in targets(text):
        path, _, anchor = target.partition("#")
        file = page.parent / path
        exists = not path or file.exists()
        if not exists or (anchor and anchor not in anchors(file.read_text() if path else text)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page, page.read_text()) == []


def test_dead_links_are_found() -> None:
    text = (
        "# One two\n[a](#one-two) [b](#three) [c](none.md) ![i](none.png) [d](glossary.md#calls) [e](glossary.md#none)"
    )
    assert broken(REPOSITORY / "docs" / "page.md", text) == ["#three", "none.md", "none.png", "glossary.md#none"]


def missing_files(text: str) -> list[str]:
    """The files and folders of the project that a text names in code spans, and that do not exist.

    The page on the controller and the page on locks name files without their folder.
    """
    folders = {path.name for base in BASES for path in base.iterdir() if path.is_dir()}
    spans = re.findall(r"`([\w.-]+(?:/[\w.-]*)*)`", text)
    named = [
        span for span in spans if span.partition("/")[0] in folders or re.search(r"\.(?:py|md|ini|toml|txt)$", span)
    ]
    return [name for name in named if not any((base / name).exists() for base in BASES)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_named_files_exist(page: Path) -> None:
    assert missing_files(page.read_text()) == []


def test_missing_files_are_found() -> None:
    assert missing_files(
        "`devkit/prose.py` `gather.py` `controller/none.py` `none.md` `tests/none/` `apps/v1` `none`"
    ) == [
        "controller/none.py",
        "none.md",
        "tests/none/",
    ]
