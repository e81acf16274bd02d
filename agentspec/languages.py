"""What a language tag means to the models of the voice: its usual code, and whether they can hear it. Pure."""

from collections.abc import Sequence
from typing import Final

_USUAL: Final = {"in": "id", "iw": "he", "ji": "yi", "mo": "ro", "nb": "no"}
"""Codes that ISO 639-1 replaced, and Bokmål, which every model calls Norwegian."""

_WHISPER_NAMES: Final = {"jv": "jw"}
"""Codes that Whisper calls otherwise."""

_WHISPER: Final = frozenset(
    (  # noqa: SIM905 - a list of a hundred literals is harder to read
        "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha he hi hr ht hu hy id "
        "is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa "
        "sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo zh"
    ).split()
)
"""Two-letter codes that Whisper knows. Source: openai/whisper, whisper/tokenizer.py, LANGUAGES."""


def primary(language: str) -> str:
    """Return the usual primary subtag of a BCP 47 language: `ar` for `ar-SY`, `he` for `iw`, `no` for `nb-NO`."""
    code = language.split("-")[0].lower()
    return _USUAL.get(code, code)


def usual(language: str) -> str:
    """Return a BCP 47 language with its usual primary subtag, and the rest as it is: `no-NO` for `nb-NO`."""
    _, separator, rest = language.partition("-")
    return f"{primary(language)}{separator}{rest}"


def whisper_code(language: str) -> str:
    """Return the code by which OpenAI's transcription knows a language; empty when it does not know the language."""
    code = primary(language)
    code = _WHISPER_NAMES.get(code, code)
    return code if code in _WHISPER else ""


def transcription_code(language: str) -> str:
    """Return the code to send with a transcription: Whisper's, or else the usual one, which another server may know."""
    return whisper_code(language) or primary(language)


def whisper_codes() -> list[str]:
    """Return all codes that OpenAI's transcription knows, in alphabetical order."""
    return sorted(_WHISPER)


def closest(wanted: str, declared: Sequence[str]) -> str:
    """Return the declared language that fits the wanted one best: the same tag, or else the same primary subtag.

    Empty when none fits.
    """
    if not wanted:
        return ""
    exact = [language for language in declared if language.lower() == wanted.lower()]
    similar = [language for language in declared if primary(language) == primary(wanted)]
    return next(iter([*exact, *similar]), "")
