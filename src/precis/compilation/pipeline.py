"""Compiling a document into σ, stage by stage: ask, teach, warm start, train, calibrate, seal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from precis.artifact import Artifact
from precis.compilation.asking import ask
from precis.compilation.calibrating import calibrate as calibrate_confidence
from precis.compilation.calibrating import measure_break_even, time_full
from precis.compilation.general import before_compiling
from precis.compilation.lessons import leave_out_known, teach_and_hold_out, to_measure_by, to_train_on
from precis.compilation.objectives import objective_named
from precis.compilation.plan import Plan
from precis.compilation.progress import Progress
from precis.compilation.sealing import data_record, seal
from precis.compilation.settings import Settings
from precis.compilation.stages import Stage
from precis.compilation.starting import start
from precis.compilation.teacher import Gold, Teacher
from precis.compilation.training import Clock, Trainer
from precis.errors import QuestionsError
from precis.model.language_model import LanguageModel
from precis.model.loading import load_model
from precis.storage import key_of
from precis.text.document import Document
from precis.text.questions import Question

# What the very first σ is made from, where there is no general one: so many of the user's own questions at
# most, and so many that the model writes, of which one in fifteen or so is worth teaching.
FIRST_QUESTIONS, FIRST_WRITTEN = 16, 240
# With less time than this, the first σ would take too much of it.
FEWEST_MINUTES = 2


def compile(
    document: Document,
    *,
    model: LanguageModel | None = None,
    questions: Sequence[str | Question] = (),
    settings: Settings | None = None,
    work: Path | None = None,
    teacher: Teacher | None = None,
    calibrate: bool = True,
    keep_text: bool = True,
    publish: Callable[[Artifact], None] | None = None,
    publish_first: bool = True,
    progress: Progress | None = None,
) -> Artifact:
    """Compile a document into an artifact that answers in its place.

    Parameters
    ----------
    document
        From `precis.read` or `Document.from_text`.
    model
        From `precis.load_model`; the default model if None.
    questions
        Questions of your own to teach beside those of self-study; those with answers are taught with these.
    settings
        See `Settings`.
    work
        Where unfinished work is kept; a folder in the user's cache if None. The same compile begun
        again goes on from there; one with other slots or another objective reuses questions and gold
        answers.
    teacher
        What answers the questions: the same model and document. None: one that reads as much of the
        document at a time as the model's window allows.
    calibrate
        Whether σ's answers shall come with a confidence, and the compile end by saying when it has paid for
        itself; else the time that it takes to let σ answer the held-out questions is saved.
    keep_text
        Whether the artifact shall hold the document's text, from which passages are recalled when it is
        asked. Whoever has the file can read it. Without, answers are made from σ alone, and names and
        numbers blur.
    publish
        Called with an artifact that can be used already, and again with each better one: the general σ, or a
        first σ from a handful of questions; σ₀ once it is made and measured; and what training finds. Their
        answers come without confidence. A compile that goes on from an earlier run begins its training with
        the best σ of that. The result is the same with it as without.
    publish_first
        Whether `publish` shall have the general σ or the first one, too; not where an earlier run of this
        compile has published a better one.
    progress
        Is told of every stage.

    Returns
    -------
    The artifact; write it with `Artifact.save`. Interrupted (Ctrl-C) while training, it holds the
    best σ so far.

    Raises
    ------
    SettingsError, QuestionsError, ModelError, StorageError
        Something cannot work; the message says what.
    """
    settings = settings or Settings()
    settings.check()
    progress = progress or Progress()
    model = model or load_model()
    teacher = teacher or Teacher(model, document, pointed=settings.pointed)
    asked = [Question(each) if isinstance(each, str) else replace(each, place=None) for each in questions]
    plan = Plan.make(teacher, asked, settings, keep_text=keep_text, work=work, progress=progress)
    if not teacher.fits_window:
        progress.note(
            f"The document ({teacher.tokens:,} tokens) is longer than the model's window "
            f"({model.window:,}): the teacher reads {len(teacher.readings)} overlapping "
            "parts of it, each with the questions that came from there."
        )
    if publish is not None and publish_first:
        _publish_first(plan, publish)
    return _run(plan, calibrate=calibrate, publish=publish)


def _run(plan: Plan, *, calibrate: bool, publish: Callable[[Artifact], None] | None) -> Artifact:
    """Go through the stages."""
    started = time.perf_counter()
    asked = ask(plan)
    lessons = teach_and_hold_out(plan, asked.questions)
    held_out = lessons.held_out.golds
    full_pace = time_full(plan, held_out) if calibrate else None
    lessons = leave_out_known(plan, lessons)
    yardstick = to_measure_by(plan, lessons)
    first = start(plan, lessons.taught)
    data = data_record(plan, asked, lessons)
    golds = to_train_on(plan, lessons)
    trainer = Trainer(
        plan.model,
        first.soft_prompt,
        objective_named(plan.settings.objective, plan.settings.objective_weight),
        golds,
        yardstick,
        schedule=plan.settings.schedule,
        seed=plan.settings.seed,
        clock=plan.clock,
        work=plan.work,
        name=_training_name(plan, golds, held_out),
        on_better=None if publish is None else lambda trainer: publish(seal(plan, data, trainer, None)),
    )
    if trainer.run(plan.progress):
        plan.progress.note("Interrupted: sealing the best σ so far.")
    if not calibrate:
        return seal(plan, data, trainer, None)
    calibration = calibrate_confidence(plan, first.soft_prompt, held_out)
    if calibration is None:
        plan.progress.note(
            "Confidence was not calibrated, for lack of time: answers will come without it, and none can be "
            "answered again from the document for want of it. Give the compile more minutes to have both."
        )
    # where an earlier run had done a part, the time that this one took is not the whole
    anew = not (asked.study.reused or lessons.taught.reused or first.reused or trainer.resumed)
    if anew and full_pace is not None:
        found = measure_break_even(plan, first.soft_prompt, held_out, full_pace, started)
        if found is not None:
            plan.progress.break_even(found)
    return seal(plan, data, trainer, calibration)


def _publish_first(plan: Plan, publish: Callable[[Artifact], None]) -> None:
    """Publish what can answer at once: the general σ, or one that is made from a handful of questions."""
    general = before_compiling(plan.teacher.document, plan.model)
    if general is not None:
        publish(general if plan.keep_text else general.without_text())
    elif plan.teacher.reads_whole and _has_time(plan.settings):
        plan.progress.stage(Stage.ASKING, None)
        first = replace(
            plan,
            questions=plan.questions[:FIRST_QUESTIONS],
            settings=replace(plan.settings, self_study=FIRST_WRITTEN, minutes=0),
            clock=Clock(0),
            progress=Progress(),
            forgets=False,
        )
        with contextlib.suppress(QuestionsError):  # too few of them were any good
            publish(_run(first, calibrate=False, publish=None))


def _has_time(settings: Settings) -> bool:
    return settings.minutes is None or settings.minutes >= FEWEST_MINUTES


def _training_name(plan: Plan, golds: Sequence[Gold], held_out: Sequence[Gold]) -> str:
    """Name the file of the training state by everything that the training depends on."""
    data = [[(gold.prompt, gold.tokens) for gold in part] for part in (golds, held_out)]
    return f"training-{key_of(str(plan.settings), plan.slots, data, plan.taught_by)}"
