"""The prepared sentences: complete in every language, and the right language for an agent."""

from dataclasses import asdict
from itertools import product
from string import ascii_lowercase

import pytest

from worker import sdk
from worker.call.sentences import TRANSLATIONS, for_language


@pytest.mark.parametrize("language", sorted(TRANSLATIONS))
def test_translation_is_complete_and_its_own(language: str) -> None:
    texts = asdict(TRANSLATIONS[language]).values()
    assert all(text.strip() == text and text for text in texts)
    assert len(set(texts)) == len(texts)
    others = {text for code, other in TRANSLATIONS.items() if code != language for text in asdict(other).values()}
    assert not others & set(texts)


@pytest.mark.parametrize("language", sorted(TRANSLATIONS))
def test_every_sentence_is_prepared(language: str) -> None:
    assert sorted(TRANSLATIONS[language].by_importance()) == sorted(asdict(TRANSLATIONS[language]).values())


def test_every_language_of_the_turn_detector_has_sentences() -> None:
    codes = ["".join(letters) for letters in product(ascii_lowercase, repeat=2)]
    known = {code for code in codes if sdk.has_local_turn_detection(code)}
    assert {"ar", "en"} < known <= set(TRANSLATIONS)


def test_sentences_are_in_the_language_or_english() -> None:
    assert for_language("ar-SY") is for_language("ar") is TRANSLATIONS["ar"]
    assert for_language("pt-BR") is TRANSLATIONS["pt"]
    assert for_language("sw") is for_language("en") is TRANSLATIONS["en"]
