"""Finds the passages of a large knowledge base that a question needs, by BM25 (bm25s) over `terms`.

The index is in memory and needs no service and no model. Building it takes 0.06 s of processor time for 60 KiB, and
0.2 s for the largest knowledge base; a search takes less than 1 ms.
"""

import logging
from collections.abc import Sequence
from itertools import groupby
from typing import Final

import bm25s
import numpy as np
from numpy.typing import NDArray

from agentspec.wire import KnowledgeDocument
from worker.call.passages import split
from worker.call.terms import Terms

PASSAGES_BYTES: Final = 8 * 1024
"""Most text that one request to the language model gets from a large knowledge base: some 2,000 tokens."""
QUESTION_WEIGHTS: Final = (1.0, 0.5, 0.25)
"""Weights of the last questions, the newest first: "and on Friday?" continues the one before."""
_FRAME_BYTES: Final = 48
"""The delimiters around the passages of one document, without its name."""

logging.getLogger("bm25s").setLevel(logging.WARNING)  # the library sets it to DEBUG


class PassageIndex:
    """All passages of a knowledge base, and the terms that they are found by."""

    def __init__(self, documents: Sequence[KnowledgeDocument], language: str) -> None:
        self._passages = [passage for document in documents for passage in split(document)]
        self._sizes = [len(str(passage).encode()) + 2 for passage in self._passages]
        self._terms = Terms(language)
        tokens = [self._terms.of_text(str(passage)) for passage in self._passages]
        self._ranking: bm25s.BM25 | None = None
        if any(tokens):  # otherwise there is nothing to find, and bm25s divides by the mean length of 0
            self._ranking = bm25s.BM25()
            self._ranking.index(tokens, show_progress=False)

    def __len__(self) -> int:
        return len(self._passages)

    def search(self, questions: Sequence[str]) -> list[KnowledgeDocument]:
        """Return the passages for the last questions, newest first, of at most PASSAGES_BYTES with their delimiters.

        They are in the order of the documents. Passages without any term of the questions are left out.
        """
        scores = self._scores(questions)
        chosen: list[int] = []
        names: set[str] = set()
        left = PASSAGES_BYTES
        for index in np.argsort(-scores, kind="stable").tolist():
            name = self._passages[index].document
            frame = 0 if name in names else len(name.encode()) + _FRAME_BYTES
            left -= self._sizes[index] + frame
            if left < 0 or scores[index] <= 0:
                break
            chosen.append(index)
            names.add(name)
        found = groupby((self._passages[index] for index in sorted(chosen)), key=lambda passage: passage.document)
        return [
            KnowledgeDocument(name=name, text="\n\n".join(str(passage) for passage in passages))
            for name, passages in found
        ]

    def _scores(self, questions: Sequence[str]) -> NDArray[np.float32]:
        scores = np.zeros(len(self._passages), dtype=np.float32)
        if self._ranking is None:
            return scores
        for question, weight in zip(questions, QUESTION_WEIGHTS, strict=False):
            known = [term for term in self._terms.of_question(question) if term in self._ranking.vocab_dict]
            if known:
                scores += weight * self._ranking.get_scores(known)
        return scores
