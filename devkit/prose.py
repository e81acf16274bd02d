"""Average length of sentences in Markdown pages and CRDs: ``python -m devkit.prose PATH...`` fails above the limit.

``python -m devkit.prose --print PATH...`` prints what it reads as Markdown, for Vale. Of a CRD it reads descriptions.

Only prose counts: code blocks, tables, headings, front matter, comments and link targets do not. A sentence ends at
``.``, ``!`` or ``?`` and nowhere else, so list items without one are counted as one sentence. Vale checks each
sentence; it has no rule for an average.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

LIMIT = 19.0
"""Words a sentence, on average over a page."""

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
# With closing quotes, brackets and emphasis after it; a full stop within a word (`spec.suspend`, 1.25) ends nothing.
_END = re.compile(r"[.!?][\"')\]*_”]*(?=\s|$)")
_UNREAD = ("table_open", "heading_open")


def prose(text: str) -> str:
    """The paragraphs and list items of a page, one a line, as a reader sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(_FRONT_MATTER.sub("", text))
    return "\n".join(_paragraphs(iter(tokens)))


def _paragraphs(tokens: Iterator[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in _UNREAD:
            end = token.type.replace("_open", "_close")
            while next(tokens).type != end:
                pass
        elif token.type == "inline":
            yield "".join(
                " " if child.type in ("softbreak", "hardbreak") else child.content
                for child in token.children or ()
                if child.type != "html_inline"
            )


def average(text: str) -> float:
    """Words a sentence in the prose of a page; 0 for a page without any."""
    read = prose(text)
    words = [word for word in read.split() if any(letter.isalnum() for letter in word)]
    return len(words) / max(len(_END.findall(read)), 1)


def read(path: Path) -> str:
    """Return a page's Markdown; of a CRD, each description as a paragraph."""
    text = path.read_text()
    return "\n\n".join(dict.fromkeys(_descriptions(yaml.safe_load(text)))) if path.suffix == ".yaml" else text


def _descriptions(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(description := node.get("description"), str):
            yield description
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _descriptions(child)


def pages(paths: Sequence[str]) -> list[Path]:
    """The Markdown files named, and those in the folders named."""
    found = [Path(path) for path in paths]
    return [page for path in found for page in (sorted(path.rglob("*.md")) if path.is_dir() else [path])]


def main(arguments: Sequence[str]) -> int:
    """Check the pages, or print them. Return the exit code."""
    paths = [argument for argument in arguments if argument != "--print"]
    if len(paths) < len(arguments):
        print("\n\n".join(read(page) for page in pages(paths)))
        return 0
    failed = 0
    for page in pages(paths):
        words = average(read(page))
        if words > LIMIT:
            failed += 1
            print(f"{page}: {words:.1f} words a sentence on average, at most {LIMIT:.0f} are allowed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
