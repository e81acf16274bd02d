"""The entry that answers a question is found."""

import pytest

from devkit.providers.knowledge import Entry, best_answer, entries_of, scores, unknown_answer

PROMPT = """You are Ornina. Answer only from the knowledge.

<knowledge name="ar.md">
# أورنينا

## ما هي ساعات العمل؟
نَعْمَلُ مِنَ التَّاسِعَةِ حَتَّى الْخَامِسَةِ.

## كم سعر الاستشارة؟
سِعْرُ الِاسْتِشَارَةِ خَمْسُونَ دُولَارًا.

## أين يقع مكتبكم؟
يَقَعُ مَكْتَبُنَا فِي دِمَشْقَ.
</knowledge>

<knowledge name="en.md">
## What are your opening hours?
We are open from *nine* to five,
Sunday to Thursday.

## How much does a consultation cost?

A consultation costs fifty dollars.

Parking is free of charge behind the house.
</knowledge>
"""
ENTRIES = entries_of(PROMPT)


def test_entries_of_every_block_are_parsed() -> None:
    assert [entry.heading for entry in ENTRIES] == [
        "ما هي ساعات العمل؟",
        "كم سعر الاستشارة؟",
        "أين يقع مكتبكم؟",
        "What are your opening hours?",
        "How much does a consultation cost?",
        "How much does a consultation cost?",
    ]


def test_markup_is_removed() -> None:
    assert ENTRIES[3].text == "We are open from nine to five, Sunday to Thursday."


def test_text_outside_the_blocks_is_ignored() -> None:
    assert entries_of("## Who are you?\nOrnina.") == []


def test_paragraph_without_heading_is_its_own_heading() -> None:
    assert entries_of('<knowledge name="x">\nParking is free.\n</knowledge>') == [
        Entry("Parking is free.", "Parking is free.")
    ]


@pytest.mark.parametrize(
    ("question", "entry"),
    [
        ("كم سعر الاستشارة؟", 1),
        ("كَمْ تُكَلِّفُ الِاسْتِشَارَةُ؟", 1),
        ("ما ساعات عملكم", 0),
        ("what are your opening hours", 3),
        ("When do you open?", 3),
        ("Can you tell me what a consultation costs, please?", 4),
        ("Is parking free?", 5),
        # Transcripts of espeak-ng by Whisper base:
        ("كم سنوال إستشاراتي", 1),
        ("آي آي أكام أكتاب أكوم", 2),
        ("ما هي سامعة سواء يا ملي", 0),
    ],
)
def test_most_similar_entry_is_the_answer(question: str, entry: int) -> None:
    assert best_answer(question, ENTRIES) == ENTRIES[entry]


@pytest.mark.parametrize(
    "question",
    [
        "Will it rain tomorrow?",
        "Who won the world cup?",
        "What is the capital of France?",
        "هل ستمطر السماء غدا؟",
        "كيف أطبخ الأرز؟",
        "المنفى مميكا سيقى لمي",
        "?!",
    ],
)
def test_entries_that_differ_too_much_are_no_answer(question: str) -> None:
    assert best_answer(question, ENTRIES) is None


def test_empty_knowledge_has_no_answer() -> None:
    assert best_answer("What are your opening hours?", []) is None
    assert scores("What are your opening hours?", []) == []


def test_unknown_answer_uses_language_of_question_or_prompt() -> None:
    assert unknown_answer("هل ستمطر؟", "You answer in English.") == unknown_answer("", "أجب بالعربية")
    assert "do not know" in unknown_answer("Will it rain?", "أجب بالعربية")
