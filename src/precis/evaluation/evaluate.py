"""How good a method is: the same questions with no document, with all of it, with σ, with baselines.

What counts is right answers: those that hold what a human answered. How near the optimisation came to its
aim is measured beside it, by the full document's own answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from precis.artifact import Artifact
from precis.baselines import BASELINES, Prepared, Task, check_names, same_for_all
from precis.calibration import Calibration
from precis.compilation.general import general_artifact
from precis.compilation.progress import Progress
from precis.compilation.settings import Settings
from precis.compilation.teacher import Teacher
from precis.compilation.training import Schedule
from precis.errors import PrecisError, SettingsError
from precis.evaluation.examination import Examination, reading_all
from precis.evaluation.report import Report
from precis.evaluation.scoring import compare_methods, reliability_of, scores_of
from precis.evaluation.timing import measure_costs
from precis.manifest import Manifest
from precis.model.language_model import LanguageModel
from precis.text.document import Document
from precis.text.passages import Passages
from precis.text.questions import Question
from precis.text.recall import RECALL

# Which method is compared with which, question by question, where a report has both.
COMPARED = (
    ("precis", "full"),
    ("soft-prompt", "full"),
    ("precis", "retrieve"),
    ("precis", "retrieve-x4"),
    ("precis", "other-recall"),
)


def evaluate(
    artifact: Artifact,
    document: Document,
    questions: Sequence[Question],
    *,
    model: LanguageModel,
    methods: Sequence[str] = (),
    other: Artifact | None = None,
    progress: Progress | None = None,
) -> Report:
    """Ask the same questions of the model with no document, with all of it, with σ, and with baselines.

    Parameters
    ----------
    artifact, document
        σ and what it stands for.
    questions
        What to ask; σ must not have been trained on them.
    model
        The one that σ was compiled for.
    methods
        Names of `BASELINES` to compare with beside `retrieve`, at as many slots as σ has; those that find
        text for a question, with as many tokens as σ and what is recalled have together. Those that train
        something do so with σ's settings, on questions that the model writes.
    other
        Another document's σ, for the control `other-recall`: what the recalled passage does after a σ that
        never saw this document. None: the general one, where the package has one for the model.
    progress
        Is told of every stage.

    Raises
    ------
    ArtifactError
        σ was compiled for another model.
    SettingsError
        There is no such method, or `other` is no control.
    """
    check_names(methods)
    if other is None:
        other = general_artifact(model)
    _check_control(other, artifact, document, model)
    progress = progress or Progress()
    examination = Examination(model, document, questions)
    teacher = examination.teacher
    if not teacher.reads_whole:
        progress.note(
            f"The document ({teacher.tokens:,} tokens) is longer than the model's window: 'full' reads "
            f"the part that suits each question best ({len(teacher.readings)} parts)."
        )
    slots = artifact.manifest.slots
    soft_prompt = same_for_all(artifact.prefix(model))
    own = passages_of(artifact, teacher)
    prepared = {"full-recall": reading_all(teacher), "soft-prompt": soft_prompt, "precis": soft_prompt}
    recalling = {"full-recall": teacher.passages}
    if own is None:
        progress.note(
            f"The text of {artifact.manifest.document.name} is not kept in the file, so 'precis' recalls "
            "nothing: it answers from the soft prompt alone, as 'ask' does."
        )
    else:
        recalling["precis"] = own
    if other is not None:
        prepared["other-recall"] = same_for_all(other.prefix(model))
        recalling["other-recall"] = teacher.passages
    task = Task(model, document, slots, _settings(artifact.manifest), None, progress)
    names = ["retrieve", *methods]
    baselines, reasons = prepare_baselines(task, names, slots + examination.recalled_tokens(own))
    prepared |= baselines
    calibrations = _calibrations(artifact, own)
    asked = examination.compare(prepared, recalling=recalling, calibrations=calibrations, progress=progress)
    costs = measure_costs(
        teacher, prepared, recalling, [record.question for record in asked if record.methods]
    )
    ordered = dict.fromkeys(["none", "full", *(name for name in prepared if name not in baselines), *names])
    scores = {name: scores_of(asked, name, costs.get(name), reasons.get(name)) for name in ordered}
    return Report(
        model=model.name,
        document=document.name,
        questions=len(questions),
        ratio=teacher.tokens / slots,
        judged_by=examination.judged_by,
        recovery=scores["soft-prompt"].recovery,
        methods=scores,
        comparisons=[found for pair in COMPARED if (found := compare_methods(asked, *pair)) is not None],
        asked=asked,
        reliability=reliability_of(asked, "precis") or reliability_of(asked, "soft-prompt"),
    )


def _check_control(
    other: Artifact | None, artifact: Artifact, document: Document, model: LanguageModel
) -> None:
    """Refuse a control that has seen the document, or that another model knows.

    Raises
    ------
    SettingsError
        It has, or does.
    """
    if other is None:
        return
    about, wanted = other.manifest.document, other.manifest.model
    if about.sha256 in (document.sha256, artifact.manifest.document.sha256):
        raise SettingsError(
            f"The control is the soft prompt of {about.name}, the same document as is evaluated. Give the "
            "soft prompt of another document, one that has nothing on these questions."
        )
    if (wanted.digest, wanted.tokenizer_digest) != (model.digest, model.tokenizer_digest):
        raise SettingsError(
            f"The control was compiled for {wanted.name} (weights {wanted.digest[:12]}), but the model "
            f"is {model.name} (weights {model.digest[:12]}). Give one that was compiled for the same model."
        )


def passages_of(artifact: Artifact, teacher: Teacher) -> Passages | None:
    """Give what `ask` recalls from; None where the file does not keep the document's text."""
    kept = artifact.document()
    if kept is None:
        return None
    same = kept.sha256 == teacher.document.sha256
    return teacher.passages if same else Passages(kept, teacher.model.chat)


def _calibrations(artifact: Artifact, recalled_from: Passages | None) -> dict[str, Calibration]:
    """Say which methods answer as those answers were given that confidence was calibrated on."""
    found = artifact.calibration
    if found is None:
        return {}
    counts = {"precis": RECALL if recalled_from is not None else 0, "soft-prompt": 0}
    return {name: found for name, count in counts.items() if count == found.recall}


def _settings(manifest: Manifest) -> Settings:
    """Give baselines that train something the settings of σ, as far as its manifest tells them."""
    schedule = Schedule()
    if (training := manifest.training) is not None:
        known = {item.name for item in fields(Schedule)} & {item.name for item in fields(training)}
        schedule = Schedule(**{name: getattr(training, name) for name in known})
    return Settings(
        slots=manifest.slots,
        objective=manifest.objective,
        objective_weight=manifest.objective_weight,
        warm_start=manifest.warm_start,
        seed=manifest.seed,
        schedule=schedule,
    )


def prepare_baselines(
    task: Task, methods: Sequence[str], tokens: int
) -> tuple[dict[str, Prepared], dict[str, str]]:
    """Prepare baselines; give those that are ready, and why the others are not.

    Parameters
    ----------
    tokens
        How many tokens those get that find text for a question; the others have the task's slots.
    """
    prepared: dict[str, Prepared] = {}
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(methods):
        baseline = BASELINES[name]
        if not baseline.trains:
            task.progress.stage(name, 1)
        try:
            prepared[name] = baseline.prepare(replace(task, slots=tokens) if baseline.finds_text else task)
        except PrecisError as error:
            reasons[name] = str(error)
        if not baseline.trains:
            task.progress.advance(1)
    return prepared, reasons
