"""Finds the entry of a knowledge base that answers a question, by n-gram similarity. Pure functions.

The prompt contains the knowledge as one or more blocks:

    <knowledge name="opening">
    ## When are you open?
    From nine to five.

    ## Where are you?
    ...
    </knowledge>

Entries are separated by blank lines; the first line of an entry is its heading or question, the rest its text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from devkit.providers.text import cosine, language_of, ngrams, skeleton, subject

MIN_SIMILARITY = 0.28
"""Similarity from which an entry counts as an answer.

Measured with espeak-ng's Arabic as Whisper base recognises it, in the voices alloy and onyx: the heading of an entry
reaches 0.3 to 0.6 with that entry, and other questions at most 0.27. In English: at least 0.4, and at most 0.2.
"""

_BLOCK = re.compile(r"<knowledge\b[^>]*>(.*?)</knowledge>", re.DOTALL)
_BLANK_LINES = re.compile(r"\n[ \t]*\n")
_MARKUP = re.compile(r"^[#>*\-\s]+|[*`]+")


@dataclass(frozen=True)
class Entry:
    """A question or heading, and the text of its answer."""

    heading: str
    text: str


def entries_of(prompt: str) -> list[Entry]:
    """Return every entry of every knowledge block in `prompt`.

    A heading alone belongs to the paragraphs after it; a paragraph without a heading is its own heading.
    """
    entries: list[Entry] = []
    for block in _BLOCK.findall(prompt):
        heading = ""
        for paragraph in _BLANK_LINES.split(block.strip()):
            first, _, rest = paragraph.strip().partition("\n")
            if not first:
                continue
            if rest:
                entries.append(Entry(_plain(first), _plain(rest)))
                heading = ""
            elif first.lstrip().startswith("#"):
                heading = _plain(first)
            else:
                entries.append(Entry(heading or _plain(first), _plain(first)))
    return entries


def best_answer(question: str, entries: Sequence[Entry]) -> Entry | None:
    """Return the entry most similar to `question`, or None when none is similar enough."""
    if not entries:
        return None
    score, best = max(zip(scores(question, entries), entries, strict=True), key=lambda pair: pair[0])
    return best if score >= MIN_SIMILARITY else None


def scores(question: str, entries: Sequence[Entry]) -> list[float]:
    """Return each entry's similarity to `question`, from 0.0 to 1.0.

    An entry is compared by its heading, and more weakly by heading and text together. N-grams that many entries share
    ("what is your") weigh less.
    """
    spelling = _weighted_similarities([subject(question)], [[subject(e.heading)] for e in entries])
    sound = _weighted_similarities([skeleton(question)], [[skeleton(e.heading)] for e in entries])
    whole = _weighted_similarities([subject(question)], [[subject(e.heading), subject(e.text)] for e in entries])
    return [max((a + b) / 2, c) for a, b, c in zip(spelling, sound, whole, strict=True)]


def unknown_answer(question: str, prompt: str) -> str:
    """Return a sentence that says the answer is unknown, in the language of the question, or of the prompt without a
    question."""
    return _DONT_KNOW[language_of(question or prompt)]


_DONT_KNOW = {
    "ar": "عُذْرًا، لَا أَعْرِفُ الْجَوَابَ عَنْ هَذَا السُّؤَالِ.",
    "en": "I am sorry, I do not know the answer to that.",
}


def _weighted_similarities(question: list[str], documents: Sequence[list[str]]) -> list[float]:
    counted = [_count(texts) for texts in documents]
    seen_in = Counter(gram for grams in counted for gram in grams)
    total = len(counted)

    def weighted(grams: Counter[str]) -> dict[str, float]:
        return {g: n * (1.0 + math.log((1 + total) / (1 + seen_in[g]))) for g, n in grams.items()}

    asked = weighted(_count(question))
    return [cosine(asked, weighted(grams)) for grams in counted]


def _count(texts: Sequence[str]) -> Counter[str]:
    return sum((ngrams(text) for text in texts), Counter())


def _plain(text: str) -> str:
    return " ".join(_MARKUP.sub("", line).strip() for line in text.strip().splitlines())
