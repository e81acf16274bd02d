"""Texts are normalised and compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devkit.providers.text import language_of, normalise, similarity, skeleton, subject


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("مَا هِيَ سَاعَاتُ الْعَمَلِ؟", "ما هي ساعات العمل"),  # vowel marks and punctuation
        ("الاستشـــارة", "الاستشاره"),  # tatweel and ta marbuta
        ("أهلا إلى آخر", "اهلا الي اخر"),  # forms of alef and ya
        ("رئيس مؤسسة", "رييس موسسه"),  # carried hamza
        ("  Opening   HOURS?! ", "opening hours"),
        ("Café", "cafe"),
        ("0:_0", "0 0"),
    ],
)
def test_forms_of_the_same_text_are_equal(written: str, same: str) -> None:
    assert normalise(written) == normalise(same)
    assert similarity(written, same) == pytest.approx(1.0)


def test_different_letters_stay_different() -> None:
    assert normalise("باب") != normalise("تاب")
    assert similarity("مكتب", "سيارة") < 0.2


def test_misheard_arabic_is_nearer_to_its_question_than_to_another() -> None:
    heard = "كمسي بل يستشاراتي"
    assert similarity(heard, "كم سعر الاستشارة") > similarity(heard, "أين يقع مكتبكم")


def test_skeleton_forgets_vowels_word_boundaries_and_sounds_alike() -> None:
    assert skeleton("صِرَاط مُسْتَقِيم") == skeleton("سرات مستكيم")


def test_subject_keeps_what_the_question_is_about() -> None:
    assert subject("What are your opening hours?") == "opening hours"


def test_subject_of_a_question_of_empty_words_is_the_question() -> None:
    assert subject("What is it?") == "what is it"


@pytest.mark.parametrize(
    ("text", "language"),
    [("كَمْ", "ar"), ("hello", "en"), ("Ornina أهلا وسهلا بكم", "ar"), ("the word سلام in English", "en"), ("12?", "en")],
)
def test_language_is_the_script_of_most_letters(text: str, language: str) -> None:
    assert language_of(text) == language


@given(st.text(max_size=60), st.text(max_size=60))
def test_similarity_is_symmetric_and_bounded(a: str, b: str) -> None:
    assert similarity(a, b) == pytest.approx(similarity(b, a))
    assert -1e-9 <= similarity(a, b) <= 1 + 1e-9


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)
