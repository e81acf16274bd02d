"""Relative links of all pages lead to files and headings that exist."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from devkit.paths import REPOSITORY
from devkit.prose import pages

ROOTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs")
PAGES = pages([str(REPOSITORY / root) for root in ROOTS])


def targets(text: str) -> Iterator[str]:
    """Targets of the page's links that stay within the repository."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in token.children or ():
            target = str(child.attrs.get("href", ""))
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
    text = "# One two\n[a](#one-two) [b](#three) [c](none.md) [d](glossary.md#calls) [e](glossary.md#none)"
    assert broken(REPOSITORY / "docs" / "page.md", text) == ["#three", "none.md", "glossary.md#none"]
