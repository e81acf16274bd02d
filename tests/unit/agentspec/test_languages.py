"""What language tags mean to the models, and which declared language a call gets."""

import pytest

from agentspec.languages import closest, primary, usual, whisper_code, whisper_codes


@pytest.mark.parametrize(
    ("language", "code"),
    [("ar-SY", "ar"), ("EN", "en"), ("nb", "no"), ("nb-NO", "no"), ("iw", "he"), ("in-ID", "id"), ("mo", "ro")],
)
def test_code_is_the_usual_one(language: str, code: str) -> None:
    assert primary(language) == code


@pytest.mark.parametrize(
    ("language", "tag"),
    [("nb", "no"), ("nb-NO", "no-NO"), ("iw-IL", "he-IL"), ("ar-SY", "ar-SY"), ("zh-Hant-TW", "zh-Hant-TW")],
)
def test_usual_tag_keeps_the_region(language: str, tag: str) -> None:
    assert usual(language) == tag


@pytest.mark.parametrize(
    ("language", "code"), [("nb", "no"), ("nn", "nn"), ("iw-IL", "he"), ("jv", "jw"), ("xx", ""), ("ug", "")]
)
def test_transcription_gets_the_code_that_it_knows(language: str, code: str) -> None:
    assert whisper_code(language) == code


def test_all_codes_are_two_letters() -> None:
    assert all(len(code) == 2 for code in whisper_codes())
    assert len(whisper_codes()) == 98


@pytest.mark.parametrize(
    ("wanted", "declared"),
    [("en", "en-GB"), ("en-us", "en-US"), ("en-AU", "en-GB"), ("iw", "he"), ("nb", "no"), ("fr", ""), ("", "")],
)
def test_closest_declared_language_is_chosen(wanted: str, declared: str) -> None:
    assert closest(wanted, ["ar", "en-GB", "en-US", "he", "no"]) == declared
