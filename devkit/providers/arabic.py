"""Rewrites vowelled Arabic so that espeak-ng pronounces it as speakers do. Pure functions.

espeak-ng reads every letter: the l of the article before sun letters, the alef of a noun that begins with two
consonants, and the case endings that speakers omit. A recogniser that was trained on people does not recognise that.
Text without vowel marks stays nearly unchanged.
"""
# ruff: noqa: RUF001 - Arabic letters look like Latin ones to a linter.

from __future__ import annotations

import re

_FATHA, _DAMMA, _KASRA, _SHADDA, _SUKUN = "\u064e", "\u064f", "\u0650", "\u0651", "\u0652"
_DAMMATAN, _KASRATAN = "\u064c", "\u064d"
_MARKS = "\u064b-\u0652\u0670"
_SUN_LETTERS = frozenset("تثدذرزسشصضطظلن")

_WORD = re.compile(f"[\u0621-\u063a\u0641-\u064a\u0671{_MARKS}]+")
_MARK = re.compile(f"[{_MARKS}]")
_ARTICLE = re.compile(f"^ا[{_MARKS}]*ل")
_JOINING_ALEF = re.compile(f"^[{_SUKUN}{_KASRA}]*[اٱ][{_MARKS}]*")
_FEMININE_ENDING = re.compile(f"ة[{_MARKS}]*$")
_CASE_ENDING = re.compile(f"[{_FATHA}{_DAMMA}{_KASRA}{_DAMMATAN}{_KASRATAN}]$")

_NEVER_CLIPPED = frozenset({"هو", "هي"})
"""Words whose last vowel is spoken, because their second syllable consists of it."""


def as_spoken(text: str) -> str:
    """Return `text` with every Arabic word spelt as it is pronounced."""
    return _WORD.sub(lambda match: _word(match.group()), text)


def _word(word: str) -> str:
    bare = _MARK.sub("", word)
    if len(bare) > 3 and bare.startswith("ال"):
        word = _with_article(_ARTICLE.sub("", word))
    if bare.endswith("ة"):
        return _FEMININE_ENDING.sub("", word)
    return word if bare in _NEVER_CLIPPED else _CASE_ENDING.sub("", word)


def _with_article(noun: str) -> str:
    """Return the article and `noun`, which is given without it, as one word."""
    if joining := _JOINING_ALEF.match(noun):
        return "اَلِ" + noun[joining.end() :]
    noun = noun.removeprefix(_SUKUN)
    if noun[0] in _SUN_LETTERS:
        return "ا" + noun[0] + _SHADDA + noun[1:].replace(_SHADDA, "", 1 if _SHADDA in noun[1:3] else 0)
    return "ال" + _SUKUN + noun
