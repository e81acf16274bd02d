"""Retrieval: the passages that a question needs are found, and never more than fit."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentspec.wire import WHOLE_KNOWLEDGE_BYTES, KnowledgeDocument, knowledge_bytes
from worker.call import prompt
from worker.call.retrieval import PASSAGES_BYTES, PassageIndex

DATA = Path(__file__).parent / "knowledge"
"""A handbook of a clinic in two languages, and questions with the words that answer each."""
QUESTIONS: dict[str, list[dict[str, Any]]] = json.loads((DATA / "questions.json").read_text())
TARGET_RECALL = 0.95


@pytest.fixture(scope="module")
def documents() -> list[KnowledgeDocument]:
    names = ("clinic-ar.md", "clinic-en.md")
    return [KnowledgeDocument(name=f"clinic/{name}", text=(DATA / name).read_text()) for name in names]


@pytest.fixture(scope="module")
def index(documents: list[KnowledgeDocument]) -> PassageIndex:
    return PassageIndex(documents, "ar")


def test_questions_are_about_a_large_knowledge_base(documents: list[KnowledgeDocument]) -> None:
    assert knowledge_bytes(documents) >= 60 * 1024 > 3 * WHOLE_KNOWLEDGE_BYTES
    assert min(len(asked) for asked in QUESTIONS.values()) >= 30
    text = "".join(document.text for document in documents)
    for asked in QUESTIONS.values():
        assert [text.count(question["answer"]) for question in asked] == [1] * len(asked)


@pytest.mark.parametrize("language", ["ar", "en"])
def test_at_least_95_percent_of_the_needed_passages_are_sent(index: PassageIndex, language: str) -> None:
    asked = QUESTIONS[language]
    sent = [prompt.knowledge(index.search([one["question"], *one.get("previous", [])])) for one in asked]
    missed = [one["question"] for one, text in zip(asked, sent, strict=True) if one["answer"] not in text]
    assert 1 - len(missed) / len(asked) >= TARGET_RECALL, missed
    assert max(len(text.encode()) for text in sent) <= PASSAGES_BYTES


def test_follow_up_question_uses_the_question_before() -> None:
    shops = [f"## Shop {number}\nOn Friday shop {number} is open until noon." for number in range(300)]
    text = "\n\n".join([*shops, "## Pharmacy\nOn Friday, unlike all the others in this street, it is open from two."])
    shop_index = PassageIndex([KnowledgeDocument(name="hours", text=text)], "en")
    assert "from two" not in text_of(shop_index.search(["And on Friday?"]))
    assert "from two" in text_of(shop_index.search(["And on Friday?", "When is the pharmacy open?"]))


def text_of(found: list[KnowledgeDocument]) -> str:
    return "\n".join(document.text for document in found)


def test_question_without_a_known_word_finds_nothing(index: PassageIndex) -> None:
    assert index.search(["zzzz qqqq"]) == []
    assert index.search([]) == []


def test_passages_are_in_the_order_of_the_documents(index: PassageIndex, documents: list[KnowledgeDocument]) -> None:
    found = index.search(["price of an MRI scan, سعر الرنين"])
    assert [document.name for document in found] == ["clinic/clinic-ar.md", "clinic/clinic-en.md"]
    for document, whole in zip(found, documents, strict=True):
        places = [whole.text.index(passage.split("\n", 1)[1]) for passage in document.text.split("\n\n## ")]
        assert places == sorted(places)


def test_entry_among_thousands_is_found() -> None:
    text = "".join(f"## سؤال {n}\nجواب عن الخدمة رقم {n}.\n\n" for n in range(2600))  # noqa: RUF001
    found = PassageIndex([KnowledgeDocument(name="all.md", text=text)], "ar").search(["ما جواب السؤال ٢٣٧٥؟"])
    assert "رقم 2375." in text_of(found)
    assert len(text_of(found).encode()) <= PASSAGES_BYTES


@settings(max_examples=30)
@given(st.lists(st.text(max_size=4000), max_size=5), st.text(max_size=60))
def test_any_knowledge_can_be_searched_within_the_bound(texts: list[str], question: str) -> None:
    documents = [KnowledgeDocument(name=f"n{'x' * 100}{number}", text=text) for number, text in enumerate(texts)]
    found = PassageIndex(documents, "ar").search([question, " ".join(texts)])
    assert len(prompt.knowledge(found).encode()) <= PASSAGES_BYTES + sum(text.count("<") for text in texts) * 6
