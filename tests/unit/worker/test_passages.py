"""Splitting documents into passages."""

import re

from hypothesis import given
from hypothesis import strategies as st

from agentspec.wire import KnowledgeDocument
from worker.call.passages import PASSAGE_BYTES, Passage, split


def passages(text: str) -> list[tuple[str, str]]:
    return [(passage.heading, passage.text) for passage in split(KnowledgeDocument(name="doc", text=text))]


def test_each_passage_keeps_its_headings() -> None:
    text = "Welcome.\n\n# Branches\n\n## Damascus\n\nMazzeh.\n\nFloor 2.\n\n## Aleppo\nFurqan.\n\n# Prices\nFifty.\n"
    assert passages(text) == [
        ("", "Welcome."),
        ("Branches > Damascus", "Mazzeh.\n\nFloor 2."),
        ("Branches > Aleppo", "Furqan."),
        ("Prices", "Fifty."),
    ]


def test_only_the_three_innermost_headings_are_kept() -> None:
    assert passages("# A\n## B\n### C\n#### D\ntext") == [("B > C > D", "text")]


def test_heading_without_text_is_a_passage_unless_sections_follow_below() -> None:
    assert passages("# A\n## Closed on Friday\n# B") == [("A > Closed on Friday", ""), ("B", "")]


def test_long_line_after_a_hash_is_text() -> None:
    assert passages("# " + "x" * 121) == [("", "# " + "x" * 121)]


def test_paragraphs_share_a_passage_while_they_fit() -> None:
    paragraph = "x" * (PASSAGE_BYTES // 2 - 2)
    assert [len(text) for _, text in passages("\n\n".join([paragraph] * 3))] == [PASSAGE_BYTES - 2, len(paragraph)]


def test_long_paragraph_is_cut_between_sentences() -> None:
    sentences = [f"Sentence {number} is about opening hours." for number in range(60)]
    found = [text for _, text in passages(" ".join(sentences))]
    assert len(found) > 1
    assert all(text.endswith("hours.") and text.startswith("Sentence") for text in found)


def test_table_is_cut_between_lines() -> None:
    lines = [f"branch {number}; Monday; 9:00; 17:00" for number in range(80)]
    found = [text for _, text in passages("\n".join(lines))]
    assert [line for text in found for line in text.split("\n")] == lines


def test_text_without_blanks_is_cut_by_length() -> None:
    found = [text for _, text in passages("検" * 2000)]
    assert "".join(found) == "検" * 2000


def test_passage_begins_with_its_heading() -> None:
    assert str(Passage("doc", "Prices > Teeth", "Fifty.")) == "## Prices > Teeth\nFifty."
    assert str(Passage("doc", "", "Fifty.")) == "Fifty."


@given(st.text(alphabet=st.sampled_from("ab #\n.؟ع検\t"), max_size=3000))
def test_no_text_is_lost_and_every_passage_is_small(text: str) -> None:
    found = split(KnowledgeDocument(name="doc", text=text))
    assert all(len(passage.text.encode()) <= PASSAGE_BYTES for passage in found)
    kept = "\n".join(part for passage in found for part in (passage.heading, passage.text))
    assert (
        set(re.findall(r"[ab]+|ع+|検+", text)) <= set(re.findall(r"[ab]+|ع+|検+", kept))
        or len(text) > PASSAGE_BYTES / 4
    )
    letters = re.compile(r"[^abع検]")
    assert len(letters.sub("", kept)) >= len(letters.sub("", text))
