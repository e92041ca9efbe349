"""Retrieval: for every question the passages that suit it best, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from precis.baselines.baseline import Baseline, Groups, Prepared, Task, read_tokens, same_for_all
from precis.model.prefix import Prefix
from precis.text.passages import Passages


class Retrieve(Baseline):
    """Read the passages of whole sentences that BM25 finds for each question, in the document's order.

    BM25 is that of Robertson & Zaragoza, "The Probabilistic Relevance Framework" (2009), by the package
    bm25s (Lù, 2024, arXiv 2407.03618). Together the passages have at most `slots` document tokens (`evaluate`
    gives as many as σ and what is recalled beside it have); the template is free of charge, as for
    `truncate`. Nothing is computed ahead of a question: finding and
    reading the passages belongs to the time that an answer takes.
    """

    name = "retrieve"
    finds_text = True
    factor: ClassVar[int] = 1  # document tokens that there may be for every slot

    def prefix(self, task: Task) -> Prefix:
        """Read what a question without words would find: the first passages."""
        ((prefix, _),) = self.prepare(task)([""])
        return prefix

    def prepare(self, task: Task) -> Prepared:
        """Index the document's passages."""
        budget = task.slots * self.factor
        document = task.model.chat.encode_plainly(task.document.text)
        task.check_room(len(task.model.chat.document_prompt("")) + min(budget, len(document)))
        if len(document) <= budget:
            return same_for_all(read_tokens(task, document))
        passages = Passages(task.document, task.model.chat)

        def groups(texts: Sequence[str]) -> Groups:
            found: dict[tuple[int, ...], list[int]] = {}
            for number, text in enumerate(texts):
                found.setdefault(_tokens(task, passages, text, budget), []).append(number)
            return ((read_tokens(task, tokens), members) for tokens, members in found.items())

        return groups


class RetrieveX4(Retrieve):
    """The same with 4 times as many tokens."""

    name = "retrieve-x4"
    factor = 4


def _tokens(task: Task, passages: Passages, question: str, budget: int) -> tuple[int, ...]:
    """Give the tokens of the best passages, each taken where it still fits the budget."""
    ranked = passages.ranked(question)
    chosen: list[int] = []
    left = budget
    for number in ranked:
        if passages.tokens(number) <= left:
            left -= passages.tokens(number)
            chosen.append(number)
    text = "\n".join(passages.text(number) for number in sorted(chosen or ranked[:1]))
    # a single passage may be longer than a very small budget
    return tuple(task.model.chat.encode_plainly(text)[:budget])
