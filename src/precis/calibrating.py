"""Calibrating confidence: σ answers questions of which it is known whether the document answers them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

from precis.chat import Chat
from precis.confidence import Calibration
from precis.document import Document
from precis.gold import LONGEST_ANSWER
from precis.language_model import Conditioned
from precis.passages import Passages
from precis.recall import NOTHING, RECALL, features_of, recall
from precis.text_measures import is_right

# Passages of the project's own with questions that people ask, a third of them near misses: one a line.
QUESTIONS = "general/calibration_questions.jsonl"


@dataclass(frozen=True)
class Trial:
    """A question that σ is tried on.

    Parameters
    ----------
    question
        What is asked.
    passages
        Those of the text that is asked about; None where nothing is recalled.
    is_right
        Tells right answers; None where the text does not answer the question, so that none is.
    """

    question: str
    passages: Passages | None
    is_right: Callable[[str], bool] | None = None


def calibration_trials(chat: Chat) -> list[Trial]:
    """Give people's questions about a text of the project's own, and near misses about it."""
    lines = files("precis").joinpath(QUESTIONS).read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in lines]
    texts = dict.fromkeys(each["passage"] for each in asked)
    passages = Passages(Document.from_text("\n\n".join(texts), "calibration"), chat)
    return [
        Trial(
            each["question"], passages, partial(is_right, humans=each["answers"]) if each["answers"] else None
        )
        for each in asked
    ]


def calibrated(
    given: Conditioned,
    trials: Sequence[Trial],
    own: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Calibration:
    """Let σ answer, and fit confidence to whether it is right.

    Parameters
    ----------
    given
        The model with σ before it.
    trials
        What it is tried on.
    own
        How many of them, the first, are about the document itself and answered by it; at least one.
    progress
        Called with the number of answers just given.
    """
    chat = given.model.chat
    recalled = [NOTHING if each.passages is None else recall(each.passages, each.question) for each in trials]
    prompts = [chat.asking(each.question, found.text) for each, found in zip(trials, recalled, strict=True)]
    generations = given.generate(prompts, max_tokens=LONGEST_ANSWER, entropies=True, progress=progress)
    features, right, unanswerable = [], [], []
    for each, found, said in zip(trials, recalled, generations, strict=True):
        answer = chat.decode(said.tokens)
        seen = features_of(
            said.log_probabilities, said.entropies, each.question, answer, found, each.passages
        )
        if each.is_right is None:
            unanswerable.append(seen)
        else:
            features.append(seen)
            right.append(each.is_right(answer))
    recalls = any(each.passages is not None for each in trials)
    count = RECALL if recalls else 0
    return Calibration.fit(features, right, own=own, unanswerable=unanswerable, recall=count)
