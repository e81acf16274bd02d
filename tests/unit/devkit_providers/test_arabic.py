"""Arabic spelt as it is pronounced."""

import pytest

from devkit.providers.arabic import as_spoken


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("سِعْرُ", "سِعْر"),  # case endings are not said
        ("الشَّمْسُ", "\u0627\u0634\u0651\u064e\u0645\u0652\u0633"),  # the article's l disappears before sun letters
        ("الْقَمَرِ", "الْقَمَر"),
        ("العَمَلِ", "الْعَمَل"),
        ("الاِسْتِشَارَةِ", "اَلِسْتِشَارَ"),  # article before two consonants, and the feminine ending
        ("صَبَاحًا", "صَبَاحًا"),  # adverbs keep their n
        ("هِيَ", "هِيَ"),
        ("ما هي ساعات العمل؟", "ما هي ساعات الْعمل؟"),  # no marks: hardly anything to change
        ("Ornina, 24 h.", "Ornina, 24 h."),
        ("", ""),
    ],
)
def test_spelling_follows_pronunciation(written: str, said: str) -> None:
    assert as_spoken(written) == said
