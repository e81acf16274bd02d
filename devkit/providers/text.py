"""Compares short Arabic and English texts by their character n-grams. Pure functions.

A recogniser misspells synthesised speech, above all in Arabic: words seldom match, but runs of characters do.
"""
# ruff: noqa: RUF001 - Arabic letters look like Latin ones to a linter.

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

NGRAM_SIZES = (2, 3)

# Spellings of the same letter that writers and recognisers use interchangeably.
_ARABIC_FORMS = str.maketrans(
    {
        "أ": "ا",
        "إ": "ا",
        "آ": "ا",
        "ٱ": "ا",
        "ى": "ي",
        "ئ": "ي",
        "ؤ": "و",
        "ة": "ه",
        "ـ": None,  # tatweel: stretches a word, says nothing
    }
)

# Letters that sound alike to a recogniser: emphatic and plain consonants, and the throat sounds.
_ARABIC_SOUNDS = str.maketrans(
    {"ص": "س", "ث": "س", "ط": "ت", "ض": "د", "ظ": "ز", "ذ": "ز", "ق": "ك", "ح": "ه", "غ": "خ", "ع": "ا", "ء": "ا"}
)
_ARABIC_LONG_VOWELS = re.compile("[اوي]")
_LATIN_VOWELS = re.compile("[aeiou]")
_NOT_WORD = re.compile(r"[\W_]+")
_ARABIC_LETTER = re.compile(r"[\u0620-\u064a\u0671-\u06d3]")
_LATIN_LETTER = re.compile(r"[A-Za-z]")


# English function words of questions. Recognition confuses the Arabic ones too often.
_EMPTY_WORDS = frozenset(
    {"a", "an", "and", "are", "at", "can", "could", "do", "does", "for", "have", "how", "i", "in", "is", "it", "me"}
    | {"my", "of", "on", "or", "please", "tell", "the", "there", "to", "us", "want", "we", "what", "when", "where"}
    | {"which", "who", "why", "will", "with", "would", "you", "your"}
)


def language_of(text: str) -> str:
    """Return "ar" or "en", by the script that most letters of `text` are written in; "en" when there is no letter."""
    arabic = len(_ARABIC_LETTER.findall(text))
    return "ar" if arabic > len(_LATIN_LETTER.findall(text)) else "en"


def normalise(text: str) -> str:
    """Return `text` in lower case, without vowel marks, tatweel and punctuation, letter forms unified."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_ARABIC_FORMS)
    bare = "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))
    return _NOT_WORD.sub(" ", bare.translate(_ARABIC_FORMS)).strip()


def subject(text: str) -> str:
    """Return the normalised words of `text` without function words; all words if it has only those."""
    words = normalise(text).split()
    return " ".join([word for word in words if word not in _EMPTY_WORDS] or words)


def skeleton(text: str) -> str:
    """Return the consonants of `text` as they sound, without word boundaries: they survive a bad recognition."""
    sounds = normalise(text).translate(_ARABIC_SOUNDS)
    return _LATIN_VOWELS.sub("", _ARABIC_LONG_VOWELS.sub("", sounds)).replace(" ", "")


def ngrams(text: str) -> Counter[str]:
    """Return how often each character n-gram occurs in `text`, which is taken as it is; edges count as a space."""
    padded = f" {text} " if text else ""
    return Counter(
        padded[start : start + size] for size in NGRAM_SIZES for start in range(max(0, len(padded) - size + 1))
    )


def cosine(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Return the cosine of two sparse vectors, 0.0 when either is empty."""
    norm = math.sqrt(sum(v * v for v in a.values())) * math.sqrt(sum(v * v for v in b.values()))
    return sum(v * b.get(k, 0.0) for k, v in a.items()) / norm if norm else 0.0


def similarity(a: str, b: str) -> float:
    """Return the similarity of two texts, from 0.0 (nothing in common) to 1.0 (same letters in the same order)."""
    return cosine(ngrams(normalise(a)), ngrams(normalise(b)))
