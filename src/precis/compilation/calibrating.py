"""The last stage: how far σ's own answers can be believed, and when the compile has paid for itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from precis.calibration import Calibration, agrees
from precis.compilation.break_even import BreakEven, Pace, measure_pace
from precis.compilation.general import other_questions
from precis.compilation.plan import Plan
from precis.compilation.stages import Stage
from precis.compilation.teacher import LONGEST_ANSWER, Gold
from precis.model.soft_prompt import SoftPrompt
from precis.text.recall import NOTHING, RECALL, features_of, recall

# How many questions about other texts confidence is calibrated on, beside the held-out ones.
OTHER_QUESTIONS = 24


@torch.no_grad()
def calibrate(plan: Plan, soft_prompt: SoftPrompt, golds: Sequence[Gold]) -> Calibration | None:
    """Let σ answer held-out questions as it will be asked, and some about other texts.

    None where there is no time for it, or the user does not want to wait.
    """
    if plan.is_over(Stage.CALIBRATING):
        return None
    passages = plan.teacher.passages if plan.keep_text else None
    texts = [*(gold.question.text for gold in golds), *other_questions(OTHER_QUESTIONS)]
    plan.progress.stage(Stage.CALIBRATING, len(texts))
    recalled = [NOTHING if passages is None else recall(passages, text) for text in texts]
    chat = plan.model.chat
    given = plan.model.given(soft_prompt.prefix(plan.model))
    prompts = [chat.question_prompt(text, found.text) for text, found in zip(texts, recalled, strict=True)]
    try:
        generations = given.generate(
            prompts, max_tokens=LONGEST_ANSWER, entropies=True, progress=plan.progress.advance
        )
    except KeyboardInterrupt:
        return None
    answers = [chat.decode(generation.tokens) for generation in generations]
    features = [
        features_of(each.log_probabilities, each.entropies, text, answer, found, passages)
        for each, text, answer, found in zip(generations, texts, answers, recalled, strict=True)
    ]
    return Calibration.fit(
        features[: len(golds)],
        [
            agrees(answer, chat.decode(gold.tokens), gold.question.text)
            for answer, gold in zip(answers, golds, strict=False)
        ],
        unanswerable=features[len(golds) :],
        recall=RECALL if plan.keep_text else 0,
    )


def time_full(plan: Plan, golds: Sequence[Gold]) -> Pace | None:
    """Time answers after the whole document; None where it was not read in this run."""
    read = plan.teacher.last_read
    if read is None or plan.is_over(Stage.TEACHING):
        return None
    return measure_pace(plan.model.given(read), [gold.prompt for gold in golds])


@torch.no_grad()
def measure_break_even(
    plan: Plan, soft_prompt: SoftPrompt, golds: Sequence[Gold], full: Pace, started: float
) -> BreakEven | None:
    """Find after how many questions this compile, begun at `started`, has paid for itself.

    None where there is no time for it.
    """
    if plan.is_over(Stage.CALIBRATING):
        return None
    given = plan.model.given(soft_prompt.prefix(plan.model))
    pace = measure_pace(given, [gold.prompt for gold in golds])
    return BreakEven(
        compile_seconds=time.perf_counter() - started,
        reading_seconds=plan.teacher.reading_seconds,
        answer_tokens=sum(len(gold.tokens) for gold in golds) / len(golds),
        full=full,
        soft_prompt=pace,
    )
