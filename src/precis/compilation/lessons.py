"""The second stage: gold answers, and what of them σ is taught and measured by."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from precis.compilation.general import as_gold, reading_lessons
from precis.compilation.objectives.nll import nll
from precis.compilation.plan import Plan
from precis.compilation.self_study import Judge
from precis.compilation.stages import Stage
from precis.compilation.teacher import Gold, Taught, teach
from precis.compilation.training import HeldOut
from precis.errors import QuestionsError
from precis.text.questions import Question

HELD_OUT_SHARE, FEWEST_HELD_OUT, MOST_HELD_OUT = 0.2, 4, 32
# How many reading lessons stand beside the document's own, at least; and how many are held out.
FEWEST_READING_LESSONS, HELD_OUT_READING_LESSONS = 128, 16


@dataclass(frozen=True)
class Lessons:
    """What σ is taught, and what it is measured by.

    Parameters
    ----------
    taught
        Gold answers about the document that σ learns from.
    held_out
        Those that it does not.
    reading
        Lessons that are the same for all documents, in an order of the seed's.
    """

    taught: Taught
    held_out: Taught
    reading: list[Gold]


def teach_and_hold_out(plan: Plan, questions: Sequence[Question]) -> Lessons:
    """Answer the questions, and hold some of them out.

    Raises
    ------
    QuestionsError
        Hardly any of them was answered well.
    """
    plan.progress.stage(Stage.TEACHING, len(questions))
    taught = teach(
        plan.teacher,
        questions,
        plan.work,
        accept=Judge(plan.teacher.passages).is_confirmed,
        out_of_time=lambda: plan.is_over(Stage.TEACHING),
        progress=plan.progress.advance,
    )
    golds = taught.golds
    if len(golds) < 2:
        raise QuestionsError(
            "The model gave no usable answer to nearly all of the questions, so there is nothing to "
            "learn from. Try a larger model, or questions of your own.",
            settings=("model", "questions"),
        )
    held = min(MOST_HELD_OUT, max(FEWEST_HELD_OUT, round(len(golds) * HELD_OUT_SHARE)), len(golds) // 2)
    reading = [as_gold(plan.model, lesson, plan.teacher.top_k) for lesson in reading_lessons(plan.model)]
    random.Random(plan.settings.seed).shuffle(reading)
    return Lessons(
        replace(taught, golds=golds[held:]), replace(taught, golds=golds[:held], dropped=0), reading
    )


def leave_out_known(plan: Plan, lessons: Lessons) -> Lessons:
    """Leave out self-study questions that the model answers likewise without the document: no lesson."""
    taught = lessons.taught
    scored = plan.without_document.score([gold.example for gold in taught.golds])
    kept = [
        gold
        for gold, scores in zip(taught.golds, scored, strict=True)
        if scores.argmax(1).tolist() != gold.tokens or gold.question.place is None
    ]
    dropped = taught.dropped + len(taught.golds) - len(kept)
    return replace(lessons, taught=replace(taught, golds=kept or taught.golds, dropped=dropped))


def to_train_on(plan: Plan, lessons: Lessons) -> Sequence[Gold]:
    """Give what σ is trained on: the document's own lessons, and some on reading."""
    golds = lessons.taught.golds
    count = max(len(golds), FEWEST_READING_LESSONS)
    return _as_asked(plan, golds, lessons.reading[HELD_OUT_READING_LESSONS:][:count])


def to_measure_by(plan: Plan, lessons: Lessons) -> HeldOut:
    """Measure the held-out questions without the document; what the teacher thinks is known already."""
    golds = lessons.held_out.golds
    tokens = sum(len(gold.tokens) for gold in golds)
    total = 0.0
    scored = plan.without_document.score([gold.example for gold in golds])
    for gold, scores in zip(golds, scored, strict=True):
        gold_ids = torch.tensor(gold.tokens, device=scores.device)
        total += len(gold.tokens) * float(nll(scores, gold_ids))
    full = -sum(float(gold.log_probabilities.sum()) for gold in golds)
    asked = _as_asked(plan, golds, lessons.reading[:HELD_OUT_READING_LESSONS])
    return HeldOut(golds, asked, total / tokens, full / tokens)


def with_passages(golds: Sequence[Gold]) -> list[Gold]:
    """Give answers after the passage that is recalled for their question; those for which none is, alone."""
    return [
        replace(gold, prompt=gold.prompt_with_passage) if gold.prompt_with_passage else gold for gold in golds
    ]


def _as_asked(plan: Plan, golds: Sequence[Gold], reading: Sequence[Gold]) -> Sequence[Gold]:
    """Give lessons as σ will be asked for them: alone, and after passages where it will have them.

    Without reading lessons beside them it is not taught alone, too: what it half remembers would get into
    answers whose passage is right. With them it does not (docs/experiments.md).
    """
    if not plan.keep_text:
        return golds
    return [*golds, *with_passages(golds), *reading] if reading else with_passages(golds)
