"""Finding the passages of a document that suit a question best, by BM25.

Passages are short: what a question asks about stands in one sentence or two.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import bm25s

from precis.chat import Chat
from precis.spans import Span, spans_of

PASSAGE_TOKENS = 32

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for its smallest steps to be told


class Passages:
    """A document's passages of at most `PASSAGE_TOKENS` tokens, which together are all of its text.

    Parameters
    ----------
    text
        The document's.
    chat
        Counts tokens.
    spans
        How the text is cut, if otherwise.
    """

    def __init__(self, text: str, chat: Chat, spans: Sequence[Span] | None = None) -> None:
        self.text = text
        self.spans = spans_of(text, chat, PASSAGE_TOKENS) if spans is None else list(spans)
        self._index = bm25s.BM25()
        texts = [text[span.start : span.end] for span in self.spans]
        words = bm25s.tokenize(texts, show_progress=False)
        # without a single word (a page of dashes, say) there is nothing to index
        self._searchable = bool(words.vocab)
        if self._searchable:
            self._index.index(words, show_progress=False)

    def ranked(self, question: str) -> list[int]:
        """Give the numbers of all passages, the most suitable first; of equals, the earlier first."""
        scores = self.scores(question)
        return sorted(range(len(self.spans)), key=lambda number: -scores[number])

    def scores(self, question: str) -> list[float]:
        """Score every passage: 0 where it has no word of the question but the commonest."""
        words = bm25s.tokenize([question], return_ids=False, show_progress=False)[0]
        if not self._searchable or not words:
            return [0.0] * len(self.spans)
        return [float(score) for score in self._index.get_scores(words)]

    def best_starts(self, questions: Sequence[str]) -> list[int]:
        """Give, for every question, the character at which its best passage starts."""
        return [self.spans[self.ranked(question)[0]].start for question in questions]
