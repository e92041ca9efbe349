"""Recall: what the document says on a question, word for word, to stand beside σ when it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from precis.text.passages import Passage, Passages

# How many passages stand beside σ: a small model answers worse from more.
RECALL = 1
# What is said where an answer's confidence is under the threshold that the user has set.
REFUSAL = "The document does not say."


@dataclass(frozen=True)
class Recalled:
    """What was recalled for one question.

    Parameters
    ----------
    passages
        The passages, the best first; none where nothing in the document shares a word with the question.
    text
        Their words, in the document's order.
    coverage
        Share of the question's words, weighed by how rare they are in the document, that stand in them.
    """

    passages: tuple[Passage, ...]
    text: str
    coverage: float


NOTHING = Recalled((), "", 0.0)


def recall(passages: Passages, question: str, count: int = RECALL, *, before: str = "") -> Recalled:
    """Recall passages for a question.

    Parameters
    ----------
    passages
        The document's.
    question
        What is asked.
    count
        How many passages at most.
    before
        What was asked before it in the conversation, which it may refer to; it counts half.
    """
    found = passages.find(f"{question} {question} {before}" if before else question, count)
    text = " ".join(passage.text for passage in sorted(found, key=lambda passage: passage.start))
    return Recalled(found, text, passages.coverage(question, text))


def support(passages: Passages, answer: str, question: str, recalled: Recalled) -> float:
    """Give the share of what an answer says beyond its question that stands in what was recalled."""
    words = passages.language.words
    new = set(words(answer)) - set(words(question)) - passages.language.common
    return len(new & set(words(recalled.text))) / len(new) if new else 0.0


def features_of(
    log_probabilities: Sequence[float],
    entropies: Sequence[float],
    question: str,
    answer: str,
    recalled: Recalled = NOTHING,
    passages: Passages | None = None,
) -> tuple[float, ...]:
    """Give what confidence in an answer is judged by: the `confidence.FEATURES`, in their order.

    The mean tells how sure the model was of the whole; the highest entropy, of the one word that the answer
    may hang on; coverage, whether the document speaks of what is asked; support, whether the answer was read
    there.

    Parameters
    ----------
    log_probabilities, entropies
        `[answer token]`, in nats: of the tokens chosen, and of the distributions they were chosen from.
    question, answer
        The texts.
    recalled, passages
        What stood before the question, and the document's passages; none where σ answered alone.
    """
    doubt = sum(log_probabilities) / len(log_probabilities), -max(entropies)
    if passages is None:
        return (*doubt, 0.0, 0.0)
    return (*doubt, recalled.coverage, support(passages, answer, question, recalled))
