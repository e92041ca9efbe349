"""The first stage: the questions that σ is taught, the user's own and the model's."""

from __future__ import annotations

import random
from dataclasses import dataclass

from precis.compilation import self_study
from precis.compilation.plan import Plan
from precis.compilation.self_study import Study
from precis.compilation.stages import Stage
from precis.errors import QuestionsError
from precis.text.questions import Question

# Where time decides how many questions are written: at most so many a sentence.
MOST_PER_SENTENCE = 120


@dataclass(frozen=True)
class Asked:
    """All questions, in an order in which every beginning covers the whole document.

    Parameters
    ----------
    questions
        The user's and the model's.
    study
        What the model wrote.
    """

    questions: list[Question]
    study: Study


def ask(plan: Plan) -> Asked:
    """Gather the questions.

    Raises
    ------
    QuestionsError
        There are not enough of them.
    """
    count = _most_written(plan)
    plan.progress.stage(Stage.ASKING, None if _time_decides(plan) else count)
    study = self_study.self_study(
        plan.model,
        plan.teacher.passages,
        count,
        plan.settings.seed,
        plan.work,
        out_of_time=lambda: plan.is_over(Stage.ASKING),
        progress=plan.progress.advance,
    )
    questions = self_study.without_repeats([*plan.questions, *study.questions])
    if len(questions) < 2:
        raise QuestionsError(
            f"There are {len(questions)} questions to train on, which is too few: σ needs at least 2, "
            "one to learn from and one to be measured by. Give questions of your own, or let the model "
            "write more.",
            settings=("questions", "self_study"),
        )
    random.Random(plan.settings.seed).shuffle(questions)
    return Asked(questions, study)


def _time_decides(plan: Plan) -> bool:
    """Whether time decides how many questions are written."""
    settings = plan.settings
    return settings.self_study is None and settings.minutes is not None and not settings.training_free


def _most_written(plan: Plan) -> int:
    """Choose how many questions the model writes, at most."""
    settings, sentences = plan.settings, len(plan.teacher.passages.sentences)
    if settings.self_study is not None:
        return settings.self_study
    if settings.training_free:
        return self_study.QUESTIONS_PER_ROUND * sentences
    usual = self_study.automatic_count(plan.teacher.tokens)
    return max(usual, MOST_PER_SENTENCE * sentences) if _time_decides(plan) else usual
