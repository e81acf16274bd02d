"""The fenced blocks of README, docs and the other pages."""

from dataclasses import dataclass

from markdown_it import MarkdownIt

from devkit.paths import REPOSITORY
from devkit.prose import pages

_ROOTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs")
PAGES = [str(page.relative_to(REPOSITORY)) for page in pages([str(REPOSITORY / root) for root in _ROOTS])]


@dataclass(frozen=True)
class Fence:
    """One block of a page."""

    language: str
    """Word behind the opening fence; empty: none, or the block is indented."""
    text: str

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0]


def parse(markdown: str) -> list[Fence]:
    """Return the blocks of a text, fenced or indented, in order."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [Fence(token.info.strip(), token.content) for token in tokens if token.type in ("fence", "code_block")]


def fences(page: str) -> list[Fence]:
    """Return the blocks of a page, named by its path in the repository."""
    return parse((REPOSITORY / page).read_text())


def fence(page: str, words: str) -> Fence:
    """Return the only block of a page that begins with these words."""
    (found,) = [one for one in fences(page) if one.text.startswith(words)]
    return found


def http_request(text: str) -> tuple[str, str, dict[str, str], str]:
    """Parse a documented request: method, path, headers with the notes behind them, and body.

    A line may hold two headers.
    """
    head, _, body = text.partition("\n\n")
    method, path, *words = head.split()
    headers: dict[str, str] = {}
    name = ""
    for word in words:
        if word.endswith(":") and word[0].isupper():
            headers[name := word.removesuffix(":")] = ""
        else:
            headers[name] = f"{headers[name]} {word}".strip()
    return method, path, headers, body
