"""Turns text into terms to search by: stems of normalised words, and pieces of them.

A question reaches the worker as a transcript. It has other word forms than the text, dialect, and slips of the
transcription; exact words would miss most of the text. Each word therefore gives several terms:

- its stem, by Snowball's algorithm for the language (PyStemmer); an Arabic word first loses article and prepositions;
- for Arabic, the stem's consonants too, because plural and singular often share nothing else (موعد, مواعيد);
- pieces of three letters, which survive a wrong letter or another spelling (anaesthetic, anesthetic);
- in scripts without blanks between words, such as Chinese, pairs of letters instead.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

import Stemmer
from bm25s import stopwords

_LANGUAGES: Final = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fa": "persian",
    "fi": "finnish",
    "fr": "french",
    "hi": "hindi",
    "hu": "hungarian",
    "id": "indonesian",
    "it": "italian",
    "nb": "norwegian",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
"""Snowball's algorithm by primary language subtag."""
_OTHER_SCRIPTS: Final = frozenset({"arabic", "greek", "hindi", "persian", "russian", "tamil"})
"""Algorithms that leave Latin letters alone: English is the language of Latin words in such texts."""
_STOPWORDS: Final = {
    "danish": stopwords.STOPWORDS_DANISH,
    "dutch": stopwords.STOPWORDS_DUTCH,
    "english": stopwords.STOPWORDS_EN_PLUS,
    "french": stopwords.STOPWORDS_FRENCH,
    "german": stopwords.STOPWORDS_GERMAN,
    "italian": stopwords.STOPWORDS_ITALIAN,
    "norwegian": stopwords.STOPWORDS_NORWEGIAN,
    "portuguese": stopwords.STOPWORDS_PORTUGUESE,
    "russian": stopwords.STOPWORDS_RUSSIAN,
    "spanish": stopwords.STOPWORDS_SPANISH,
    "swedish": stopwords.STOPWORDS_SWEDISH,
    "turkish": stopwords.STOPWORDS_TURKISH,
}

_ARABIC_SAME: Final = str.maketrans("أإآٱىئیؤةک", "ااااييويهك")
"""Letters of Arabic that are written one for the other."""
_ARABIC_IGNORED: Final = [0x0640, 0x0670, *range(0x0610, 0x061B), *range(0x064B, 0x0660), *range(0x06D6, 0x06EE)]
"""Tatweel, short vowels and other marks, which some texts have and transcripts do not."""
_ARABIC: Final = re.compile(r"[\u0600-\u06ff]")
_ARABIC_PREFIX: Final = re.compile(r"^(?:[وف]?(?:ال|لل|[بكع]ال)(?=\w{2})|[وفبلك](?=\w{4}))")
"""The article with what is attached to it; one attached letter only before four others, where it is seldom a root's."""
_ARABIC_VOWELS: Final = str.maketrans("", "", "اويءه")
_UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese; and Korean, whose words end in particles."""
_ACRONYM: Final = re.compile(r"\b[A-Z]{3,5}\b")
_PIECE: Final = 3


class _Spelling(dict[int, int | str | None]):
    """A table for `str.translate` to one spelling of each letter; what is no letter or digit becomes a blank."""

    def __missing__(self, code: int) -> str | None:
        letter = chr(code)
        category = unicodedata.category(letter)
        if category == "Cf":  # direction controls, joiners, soft hyphens
            same: str | None = None
        elif category == "Nd":
            same = str(unicodedata.decimal(letter))
        else:
            same = letter if category[0] in "LMN" else " "
        self[code] = same
        return same


_SPELLING: Final = _Spelling({**_ARABIC_SAME, **dict.fromkeys(_ARABIC_IGNORED)})


def words(text: str) -> list[str]:
    """Return the words of a text in one spelling: compatibility forms, case, marks, Arabic letters, digits."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_SPELLING).split()


class Terms:
    """The terms of texts in one main language, and in any script."""

    def __init__(self, language: str) -> None:
        algorithm = _LANGUAGES.get(language, "english")
        latin = "english" if algorithm in _OTHER_SCRIPTS else algorithm
        self._stemmer = Stemmer.Stemmer(algorithm)
        self._latin_stemmer = Stemmer.Stemmer(latin)
        self._arabic_stemmer = Stemmer.Stemmer("arabic")
        self._ignored = {word for text in _STOPWORDS.get(latin, ()) for word in words(text)}
        self._of_words: dict[str, tuple[str, ...]] = {}

    def of_text(self, text: str) -> list[str]:
        """Return the terms of a passage: of its words, and of the abbreviations that callers may say for them."""
        spoken = words(text)
        return [*self._of(spoken), *dict.fromkeys(_initials(spoken)), *_acronyms(text)]

    def of_question(self, text: str) -> list[str]:
        """Return the terms of a question."""
        return [*self._of(words(text)), *_acronyms(text)]

    def _of(self, spoken: list[str]) -> Iterator[str]:
        for word in spoken:
            if word not in self._of_words:
                self._of_words[word] = () if word in self._ignored else tuple(self._of_word(word))
            yield from self._of_words[word]

    def _of_word(self, word: str) -> list[str]:
        if _UNSPACED.search(word):
            return [word[start : start + 2] for start in range(max(1, len(word) - 1))]
        if _ARABIC.search(word):
            stem = self._arabic_stemmer.stemWord(_ARABIC_PREFIX.sub("", word))
            consonants = stem.translate(_ARABIC_VOWELS)
            return [f"={stem}", *([f"~{consonants}"] if len(consonants) > 1 else []), *_pieces(stem)]
        stem = (self._latin_stemmer if word.isascii() else self._stemmer).stemWord(word)
        return [f"={stem}", *_pieces(stem)]


def _pieces(stem: str) -> list[str]:
    """Return each run of three letters, with the stem's begin and end marked. A word of three letters is one piece."""
    marked = f"^{stem}$" if len(stem) > _PIECE else stem
    return [marked[start : start + _PIECE] for start in range(len(marked) - _PIECE + 1)]


def _acronyms(text: str) -> list[str]:
    return [f"+{found.lower()}" for found in _ACRONYM.findall(text)]


def _initials(spoken: list[str]) -> Iterator[str]:
    """Yield the initials of three and of four words in a row: "IVF" finds in vitro fertilisation."""
    latin = "".join(word[0] if word.isascii() and word.isalpha() else " " for word in spoken)
    for length in (3, 4):
        for start in range(len(latin) - length + 1):
            letters = latin[start : start + length]
            if " " not in letters:
                yield f"+{letters}"
