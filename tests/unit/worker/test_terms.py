"""Terms of words: what a caller says and what a text says share some."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.call.terms import Terms, words


@pytest.mark.parametrize(
    ("spelling", "same"),
    [
        pytest.param("ﻣﻮﻋﺪ", "موعد", id="presentation forms"),
        pytest.param("مـــوعـــد", "موعد", id="tatweel"),
        pytest.param("مَوْعِدٌ", "موعد", id="short vowels"),
        pytest.param("\u202bموعد\u202c \u200f", "موعد", id="direction controls"),
        pytest.param("إلغاء آب أمل", "الغاء اب امل", id="alef"),
        pytest.param("مستشفى", "مستشفي", id="alef maqsura"),
        pytest.param("عيادة", "عياده", id="ta marbuta"),
        pytest.param("٢٥ ۲۵", "25 25", id="digits"),
        pytest.param("\uff23\uff34 Straße", "ct strasse", id="width and case"),
    ],
)
def test_spellings_of_a_word_are_one(spelling: str, same: str) -> None:
    assert words(spelling) == same.split()


def test_words_end_at_punctuation_and_keep_vowel_signs() -> None:
    assert words("Open: 9:30, l'hôpital؟") == ["open", "9", "30", "l", "hôpital"]
    assert words("हिन्दी में") == ["हिन्दी", "में"]


@pytest.mark.parametrize(
    ("language", "question", "text"),
    [
        pytest.param("ar", "أسعار", "والأسعار", id="conjunction and article"),
        pytest.param("ar", "للعيادات", "العيادة", id="preposition and plural"),
        pytest.param("ar", "موعد", "المواعيد", id="broken plural"),
        pytest.param("ar", "appointments", "appointment", id="English words of an Arabic agent"),
        pytest.param("en", "بالمواعيد", "موعد", id="Arabic words of an English agent"),
        pytest.param("en", "vaccinated", "vaccination", id="English"),
        pytest.param("en", "anesthesia", "anaesthetic", id="another spelling"),
        pytest.param("en", "flu", "influenza", id="short form"),
        pytest.param("en", "IVF", "in vitro fertilisation", id="initials"),
        pytest.param("de", "Öffnungszeit", "Öffnungszeiten", id="German"),
        pytest.param("es", "precios", "precio", id="Spanish"),
        pytest.param("tr", "fiyatlar", "fiyat", id="Turkish"),
        pytest.param("ru", "цены", "цена", id="Russian"),
        pytest.param("hi", "कीमतें", "कीमत", id="Hindi"),
        pytest.param("zh", "营业时间是什么", "营业时间", id="Chinese"),
        pytest.param("ko", "영업시간이", "영업시간", id="Korean"),
        pytest.param("th", "เวลาทำการ", "เวลา", id="Thai"),
        pytest.param("sw", "bei", "bei", id="a language without a stemmer"),
    ],
)
def test_question_shares_terms_with_the_text(language: str, question: str, text: str) -> None:
    terms = Terms(language)
    assert set(terms.of_question(question)) & set(terms.of_text(text))


@pytest.mark.parametrize(
    ("language", "question", "text"),
    [
        pytest.param("en", "when do you", "when do you", id="English function words"),
        pytest.param("de", "und für die", "und für die", id="German function words"),
        pytest.param("ar", "سعر", "قلب", id="other Arabic words"),
        pytest.param("en", "ivf", "in vitro fertilisation", id="initials only in capitals"),
    ],
)
def test_other_words_share_no_terms(language: str, question: str, text: str) -> None:
    terms = Terms(language)
    assert not set(terms.of_question(question)) & set(terms.of_text(text))


@given(st.text(max_size=100))
def test_any_text_has_terms(text: str) -> None:
    assert set(Terms("ar").of_question(text)) <= set(Terms("ar").of_text(text))
