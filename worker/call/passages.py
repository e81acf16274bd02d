"""Splits documents into passages that can be sent to the language model one by one. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agentspec.wire import KnowledgeDocument

PASSAGE_BYTES: Final = 1024
"""Longest text of a passage: some 250 tokens, a few paragraphs about one thing."""
_MAX_HEADING_CHARACTERS: Final = 120
"""A longer line after ``#`` is text."""
_HEADING_LEVELS: Final = 3
"""A passage keeps its own heading and the two above it."""

_HEADING: Final = re.compile(rf"^(#{{1,6}})[ \t]+(\S.{{0,{_MAX_HEADING_CHARACTERS - 1}}})$", re.MULTILINE)
_PARAGRAPH: Final = re.compile(r"\n[ \t]*\n\s*")
_CUTS: Final = (
    (re.compile(r"\n"), "\n"),
    (re.compile(r"(?<=[.!?؟।])\s+|(?<=[。\uff01\uff1f])"), " "),
    (re.compile(r"\s+"), " "),
)
"""Where a long paragraph is cut, and what joins the parts: lines, else sentences, else words."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that makes sense on its own."""

    document: str
    """Name of the document."""
    heading: str
    """The headings that the text is under, from the outside in; empty without headings."""
    text: str

    def __str__(self) -> str:
        return "\n".join(part for part in (self.heading and f"## {self.heading}", self.text) if part)


def split(document: KnowledgeDocument) -> list[Passage]:
    """Return the document's passages, in its order. Together they hold all of its text."""
    return [
        Passage(document.name, " > ".join(path[-_HEADING_LEVELS:]), part)
        for path, text in _sections(document.text)
        for part in _parts(text)
    ]


def _sections(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield the path of headings and the text of each section that has text, or no section below it."""
    found = list(_HEADING.finditer(text))
    if before := text[: found[0].start() if found else None].strip():
        yield [], before
    path: list[tuple[int, str]] = []
    for index, heading in enumerate(found):
        level = len(heading[1])
        path = [*(outer for outer in path if outer[0] < level), (level, heading[2].strip())]
        following = found[index + 1] if index + 1 < len(found) else None
        body = text[heading.end() : following.start() if following else None].strip()
        if body or following is None or len(following[1]) <= level:
            yield [title for _, title in path], body


def _parts(text: str) -> Iterator[str]:
    """Yield parts of at most PASSAGE_BYTES, each of as many whole paragraphs as fit."""
    part = ""
    for paragraph in _PARAGRAPH.split(text):
        for piece in _pieces(paragraph, _CUTS):
            joined = f"{part}\n\n{piece}" if part else piece
            if part and _size(joined) > PASSAGE_BYTES:
                yield part
                joined = piece
            part = joined
    yield part


def _pieces(text: str, cuts: tuple[tuple[re.Pattern[str], str], ...]) -> Iterator[str]:
    """Yield pieces of at most PASSAGE_BYTES, cut at the coarsest place that is small enough."""
    if _size(text) <= PASSAGE_BYTES:
        yield text
    elif cuts:
        cut, joint = cuts[0]
        piece = ""
        for part in cut.split(text):
            joined = f"{piece}{joint}{part}" if piece else part
            if piece and _size(joined) > PASSAGE_BYTES:
                yield from _pieces(piece, cuts[1:])
                joined = part
            piece = joined
        yield from _pieces(piece, cuts[1:])
    else:
        length = PASSAGE_BYTES // 4  # a character has at most four bytes
        yield from (text[start : start + length] for start in range(0, len(text), length))


def _size(text: str) -> int:
    return len(text.encode())
