"""How good a method is: the same questions with no document, with all of it, with σ, with rivals.

What counts is right answers: those that hold what a human answered. How near the optimisation came to its
aim is measured beside it, by the full document's own answers.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precis.answer import LONGEST
from precis.artifact import Artifact, Manifest
from precis.bootstrap import mean_interval, recovery_interval
from precis.compilation import Settings
from precis.confidence import AGREEING_F1, Calibration, Reliability, agrees, reliability, wilson_interval
from precis.decoding import Generation, Request
from precis.document import Document
from precis.errors import PrecisError, SettingsError
from precis.general import general_artifact
from precis.gold import LONGEST_ANSWER, ROOM, Teacher
from precis.language_model import LanguageModel, Row
from precis.passages import Passages
from precis.prefix import Prefix
from precis.progress import Progress
from precis.questions import Question
from precis.questions_file import UserQuestion
from precis.recall import NOTHING, RECALL, Recalled, features_of, recall
from precis.rivals import RIVALS, Groups, Prepared, Task, check_names, same_for_all
from precis.text_measures import exact_match, is_right, normalised, token_f1
from precis.training import Schedule, recovery

TIMED_QUESTIONS = 5
TIMED_TOKENS = 16
# Questions whose full-document distributions are held at a time: each takes megabytes.
QUESTIONS_AT_ONCE = 48
# Slots of different prefixes that are held together.
SLOTS_AT_ONCE = 16_384
# Up to so many questions, they are kept for the methods that come later.
MOST_KEPT = 96
BY_HUMANS, BY_THE_DOCUMENT = "human answers", "the full document's answers"
# Which method is compared with which, question by question, where a report has both.
COMPARED = (
    ("precis", "full"),
    ("soft-prompt", "full"),
    ("precis", "retrieve"),
    ("precis", "retrieve-x4"),
    ("precis", "other-recall"),
)


@dataclass(frozen=True)
class MethodAnswer:
    """What one method made of one question.

    Parameters
    ----------
    text
        Its greedy answer; None where answers were not asked for (that of `full` is always known).
    nll
        Negative log-likelihood of ŷ, the full-document answer, summed over its tokens.
    kl
        KL divergence, over the whole vocabulary, from the teacher with the full document, summed over
        the tokens of ŷ.
    top1
        At how many tokens of ŷ the most likely token is the same.
    match
        Token F1 between `text` and ŷ; None without `text`.
    confidence
        Calibrated probability that `text` is right; None where the method has no calibration.
    right
        Whether a human's answer occurs in `text`; where no question of the set has any, whether `text` agrees
        with ŷ. None without `text`, and where only other questions have human answers.
    positions
        How many positions stood before the question, what was recalled for it included.
    """

    text: str | None
    nll: float
    kl: float
    top1: int
    match: float | None
    confidence: float | None = None
    right: bool | None = None
    positions: int = 0


@dataclass(frozen=True)
class Asked:
    """One question, and what every method made of it.

    Parameters
    ----------
    question, humans
        Its text, and the answers that a human gave, if any.
    tokens
        Length of ŷ; 0 for a question that was not asked since it does not fit the model's window.
    place
        The character of the document's text at which the passage starts that suits the question best
        (BM25).
    methods
        By name: `none`, `full`, and the others. A method that failed on the question is absent.
    """

    question: str
    humans: list[str]
    tokens: int
    place: int
    methods: dict[str, MethodAnswer]


@dataclass(frozen=True)
class MethodScores:
    """One row of the report.

    Parameters
    ----------
    right, right_interval
        Share of the questions that are answered right, with its 95 % interval (Wilson's).
    right_count, judged
        How many are; and of how many it is known whether they are.
    kept
        Of the questions that the full document answers right, the share that the method answers right, too;
        None where there is none.
    f1
        Mean token F1 against human answers, by SQuAD's rules; None if there are none.
    answer_words
        Mean length of an answer in words: whoever quotes much is right more often.
    prompt_positions, prefix_bytes
        Positions before the question, those of recalled passages included, in the mean; and the memory of
        their keys and values, in the mean of those questions that were timed. Where heads hold different
        numbers of keys, their mean; what pads them to the same length does not count.
    first_token_s, tokens_per_s
        Median time from a question to the first token of its answer, finding passages and reading the
        document (if the method does) included; and the pace after it, one question at a time.
    recovery
        (NLL_none − NLL) / (NLL_none − NLL_full), over the questions that the method did not fail on; None
        where the document does not help the model.
    interval
        Its 95 % bootstrap interval over questions; see `bootstrap_recovery`.
    nll
        Mean negative log-likelihood a token of ŷ, the full-document answer.
    kl
        Mean KL divergence, over the whole vocabulary, from the teacher with the full document, at the
        positions of ŷ.
    top1
        Share of those positions at which the most likely token is the same.
    match
        Mean token F1 between the method's own greedy answer and ŷ.
    em
        Exact match against human answers, by SQuAD's rules; None if there are none.
    failures
        Questions without a result, such as those that do not fit the window beside the document; they
        are left out of the means, and never count as zeros.
    reason
        Why the method failed on all of them; None where it did not.
    """

    right: float | None
    right_interval: tuple[float, float] | None
    right_count: int
    judged: int
    kept: float | None
    f1: float | None
    answer_words: float | None
    prompt_positions: float | None
    prefix_bytes: int | None
    first_token_s: float | None
    tokens_per_s: float | None
    recovery: float | None
    interval: tuple[float, float] | None
    nll: float | None
    kl: float | None
    top1: float | None
    match: float | None
    em: float | None
    failures: int
    reason: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same questions.

    Parameters
    ----------
    method, against
        Their names.
    difference
        By how much the first one's share of right answers is greater.
    interval
        Its 95 % interval: a bootstrap over questions, the two methods' answers to a question staying
        together.
    questions
        How many both answered.
    """

    method: str
    against: str
    difference: float
    interval: tuple[float, float] | None
    questions: int


@dataclass(frozen=True)
class Report:
    """What `evaluate` found.

    Parameters
    ----------
    model, document
        Their names.
    questions
        How many were asked.
    ratio
        Document tokens a slot.
    judged_by
        What makes an answer right: "human answers"; or "the full document's answers", where no question comes
        with human ones: right is then what agrees with them.
    recovery
        That of σ alone; None where the document does not help the model.
    methods
        By name: `none`, `full` (the whole document), `full-recall` (and the recalled passage), `soft-prompt`
        (σ alone), `precis` (σ and the recalled passage, as `ask` answers), `other-recall` (the same passage
        after the σ of another document, where one was given), `retrieve` (with as many tokens as `precis`
        uses in all), and the rivals that were asked for.
    comparisons
        Pairs of methods; see `COMPARED`.
    asked
        Every question with what each method made of it, in the order given.
    reliability
        How far confidence can be believed: that of `precis`, or of `soft-prompt` where the calibration is for
        answers from σ alone; None where there is none. What re-reading the document buys is told by agreement
        with it, all else by right answers.
    """

    model: str
    document: str
    questions: int
    ratio: float
    judged_by: str
    recovery: float | None
    methods: dict[str, MethodScores]
    comparisons: list[Comparison] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    reliability: Reliability | None = None

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)


def evaluate(
    artifact: Artifact,
    document: Document,
    questions: Sequence[UserQuestion],
    *,
    model: LanguageModel,
    methods: Sequence[str] = (),
    other: Artifact | None = None,
    progress: Progress | None = None,
) -> Report:
    """Ask the same questions of the model with no document, with all of it, with σ, and with rivals.

    Parameters
    ----------
    artifact, document
        σ and what it stands for.
    questions
        What to ask; σ must not have been trained on them.
    model
        The one that σ was compiled for.
    methods
        Names of `RIVALS` to compare with beside `retrieve`, at as many slots as σ has; those that find text
        for a question, with as many tokens as σ and what is recalled have together. Those that train
        something do so with σ's settings, on questions that the model writes.
    other
        Another document's σ, for the control `other-recall`: what the recalled passage does after a σ that
        never saw this document. None: the general one, where the package has one for the model.
    progress
        Hears of every stage.

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
            f"The text of {artifact.manifest.document['name']} is not kept in the file, so 'precis' recalls "
            "nothing: it answers from the soft prompt alone, as 'ask' does."
        )
    else:
        recalling["precis"] = own
    if other is not None:
        prepared["other-recall"] = same_for_all(other.prefix(model))
        recalling["other-recall"] = teacher.passages
    task = Task(model, document, slots, _settings(artifact.manifest), None, progress)
    names = ["retrieve", *methods]
    rivals, reasons = prepare_rivals(task, names, slots + examination.recalled_tokens(own))
    prepared |= rivals
    calibrations = _calibrations(artifact, own)
    asked = examination.compare(prepared, recalling=recalling, calibrations=calibrations, progress=progress)
    costs = _costs(teacher, prepared, recalling, [record.question for record in asked if record.methods])
    ordered = dict.fromkeys(["none", "full", *(name for name in prepared if name not in rivals), *names])
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
    if about["sha256"] in (document.sha256, artifact.manifest.document["sha256"]):
        raise SettingsError(
            f"The control is the soft prompt of {about['name']}, the same document as is evaluated. Give the "
            "soft prompt of another document, one that has nothing on these questions."
        )
    if (wanted["digest"], wanted["tokenizer_digest"]) != (model.digest, model.tokenizer_digest):
        raise SettingsError(
            f"The control was compiled for {wanted['name']} (weights {wanted['digest'][:12]}), but the model "
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


class Examination:
    """Questions on a document with its full-document answers ŷ, which any number of methods can take.

    Parameters
    ----------
    model, document
        Who is asked about what.
    questions
        What to ask.
    """

    def __init__(self, model: LanguageModel, document: Document, questions: Sequence[UserQuestion]) -> None:
        self.teacher = Teacher(model, document)
        self.questions = questions
        # questions on the same part of a long document stand together: each part is read once or twice
        fitting = _fitting(model, questions)
        assigned = self.teacher.assign([Question(questions[number].text) for number in fitting])
        self.order = [fitting[member] for members in assigned.values() for member in members]
        self.places = self.teacher.passages.best_starts([each.text for each in questions])
        self.judged_by = BY_HUMANS if any(map(_has_humans, questions)) else BY_THE_DOCUMENT
        self._golds: dict[int, list[int]] = {}
        self._kept: dict[int, _Exam] = {}

    def recalled_tokens(self, passages: Passages | None) -> int:
        """How many tokens what is recalled from some passages has in the mean, all that it adds included."""
        if passages is None or not self.order:
            return 0
        chat = self.teacher.model.chat
        texts = [self.questions[number].text for number in self.order]
        added = [
            len(chat.asking(text, recall(passages, text).text)) - len(chat.asking(text)) for text in texts
        ]
        return math.ceil(sum(added) / len(added))

    def compare(
        self,
        prepared: Mapping[str, Prepared],
        *,
        recalling: Mapping[str, Passages] | None = None,
        answers: bool = True,
        calibrations: Mapping[str, Calibration] | None = None,
        progress: Progress | None = None,
    ) -> list[Asked]:
        """Ask everything of the model with no document, with all of it, and with other methods.

        A few dozen questions at a time go through all methods.

        Parameters
        ----------
        prepared
            What the methods beside `none` and `full` put before all questions, by name.
        recalling
            By name of the method, the passages from which it recalls for every question.
        answers
            Whether every method answers for itself, too; else it is measured on the full-document answers
            alone, which takes less than half of the time.
        calibrations
            By name of the method, what gives its answers their confidence.
        progress
            Hears of one stage.

        Returns
        -------
        One record a question, in their order.
        """
        progress = progress or Progress()
        methods = _with_baselines(self.teacher, prepared)
        progress.stage("evaluating", len(self.order))
        found: dict[int, tuple[int, dict[str, MethodAnswer]]] = {}
        for start in range(0, len(self.order), QUESTIONS_AT_ONCE):
            numbers = self.order[start : start + QUESTIONS_AT_ONCE]
            exam = self._exam(numbers, methods["full"])
            results = {
                name: exam.results(
                    name, method, answers, (recalling or {}).get(name), (calibrations or {}).get(name)
                )
                for name, method in methods.items()
            }
            for member, number in enumerate(numbers):
                by_name = {name: given[member] for name, given in results.items() if member in given}
                found[number] = len(exam.golds[member]), by_name
            progress.advance(len(numbers))
        return [
            Asked(question.text, list(question.answers), found[number][0], place, found[number][1])
            if number in found
            else Asked(question.text, list(question.answers), 0, place, {})
            for number, (question, place) in enumerate(zip(self.questions, self.places, strict=True))
        ]

    def _exam(self, numbers: Sequence[int], full: Prepared) -> _Exam:
        """Set some questions; what the full document answers to them is asked once."""
        if numbers[0] in self._kept:
            return self._kept[numbers[0]]
        known = {m: self._golds[number] for m, number in enumerate(numbers) if number in self._golds}
        exam = _Exam(
            self.teacher.model,
            [self.questions[number] for number in numbers],
            full,
            known,
            by_humans=self.judged_by == BY_HUMANS,
        )
        self._golds |= {number: exam.golds[member] for member, number in enumerate(numbers)}
        if len(self.order) <= MOST_KEPT:
            self._kept[numbers[0]] = exam
        return exam


def reliability_of(asked: Sequence[Asked], method: str) -> Reliability | None:
    """Hold a method's confidence against whether its answers are right; None where it states none.

    Re-reading the document makes an answer agree with it, not right: what that buys is told by agreement.
    """
    said = [
        (answer.confidence, answer.right, answer.match >= AGREEING_F1)
        for record in asked
        if (answer := record.methods.get(method)) is not None
        and answer.confidence is not None
        and answer.match is not None
    ]
    judged = [(confidence, right) for confidence, right, _ in said if right is not None]
    by_right = reliability([confidence for confidence, _ in judged], [right for _, right in judged])
    by_agreement = reliability([confidence for confidence, _, _ in said], [agreed for _, _, agreed in said])
    if by_right is None or by_agreement is None:
        return by_agreement
    return replace(by_right, trade_off=by_agreement.trade_off)


def compare_methods(asked: Sequence[Asked], method: str, against: str) -> Comparison | None:
    """Compare the right answers of two methods; None where no question was judged for both."""
    differences = [
        float(mine) - float(theirs)
        for record in asked
        if (mine := _right(record, method)) is not None and (theirs := _right(record, against)) is not None
    ]
    if not differences:
        return None
    mean = sum(differences) / len(differences)
    return Comparison(method, against, mean, mean_interval([differences]), len(differences))


def _right(record: Asked, method: str) -> bool | None:
    return record.methods[method].right if method in record.methods else None


def bootstrap_recovery(
    asked: Sequence[Asked], method: str, *, seed: int = 0
) -> tuple[float | None, tuple[float, float] | None]:
    """Give a method's recovery, and its 95 % interval by bootstrap over questions.

    See `bootstrap.recovery_interval`.

    Parameters
    ----------
    asked
        The questions; those that the method failed on are left out.
    method
        Its name.
    seed
        Decides the draws: methods that answered the same questions get the same resamples.

    Returns
    -------
    Recovery, None where the document does not help the model on these questions; and its interval, None
    where that is so in any resample, as no bound can then be given.
    """
    records = [record.methods for record in asked if method in record.methods]
    nlls = np.array([[record[name].nll for name in ("none", method, "full")] for record in records])
    if not len(nlls):
        return None, None
    none, mine, full = nlls.T
    return recovery(*nlls.sum(0).tolist()), recovery_interval([none - mine], [none - full], seed)


def _settings(manifest: Manifest) -> Settings:
    """Give rivals that train something the settings of σ, as far as its manifest tells them."""
    known = {item.name for item in fields(Schedule)}
    schedule = {name: value for name, value in manifest.training.items() if name in known}
    return Settings(
        slots=manifest.slots,
        objective=manifest.objective,
        objective_weight=manifest.objective_weight,
        warm_start=manifest.warm_start,
        seed=manifest.seed,
        schedule=Schedule(**schedule),
    )


def prepare_rivals(
    task: Task, methods: Sequence[str], tokens: int
) -> tuple[dict[str, Prepared], dict[str, str]]:
    """Prepare rivals; give those that are ready, and why the others are not.

    Parameters
    ----------
    tokens
        How many tokens those get that find text for a question; the others have the task's slots.
    """
    prepared: dict[str, Prepared] = {}
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(methods):
        rival = RIVALS[name]
        if not rival.trains:
            task.progress.stage(name, 1)
        try:
            prepared[name] = rival.prepare(replace(task, slots=tokens) if rival.finds_text else task)
        except PrecisError as error:
            reasons[name] = str(error)
        if not rival.trains:
            task.progress.advance(1)
    return prepared, reasons


def reading_all(teacher: Teacher) -> Prepared:
    """Put the full document before questions, or the part of it that suits each best."""

    def full(texts: Sequence[str]) -> Groups:
        assigned = teacher.assign([Question(text) for text in texts])
        return ((teacher.prefix(place), members) for place, members in assigned.items())

    return full


def _with_baselines(teacher: Teacher, prepared: Mapping[str, Prepared]) -> dict[str, Prepared]:
    """Put nothing and the full document before other methods."""
    nothing = teacher.model.prefill(teacher.model.chat.reading(""))
    return {"none": same_for_all(nothing), "full": reading_all(teacher), **prepared}


def _has_humans(question: UserQuestion) -> bool:
    return any(map(normalised, question.answers))


def _fitting(model: LanguageModel, questions: Sequence[UserQuestion]) -> list[int]:
    """Give the numbers of the questions that fit the window beside the document, or a part of it."""
    room = min(ROOM, model.window // 4) - LONGEST_ANSWER
    return [n for n, question in enumerate(questions) if len(model.chat.asking(question.text)) <= room]


def _together(groups: Groups) -> Iterator[list[tuple[Prefix, list[int]]]]:
    """Join groups of questions as long as what stands before them takes little memory."""
    joined: list[tuple[Prefix, list[int]]] = []
    for prefix, members in groups:
        # side by side all prefixes are as wide as the widest
        if (
            joined
            and (len(joined) + 1) * max(prefix.slots, *(each.slots for each, _ in joined)) > SLOTS_AT_ONCE
        ):
            yield joined
            joined = []
        joined.append((prefix, members))
    if joined:
        yield joined


class _Exam:
    """A few questions with their full-document answers ŷ, by which every method is measured.

    Parameters
    ----------
    model, questions
        Who is asked what.
    full
        The method that reads the full document.
    golds
        Its answers, as far as they are known, by number.
    by_humans
        Whether human answers say what is right; else the full document's do.
    """

    def __init__(
        self,
        model: LanguageModel,
        questions: Sequence[UserQuestion],
        full: Prepared,
        golds: dict[int, list[int]],
        *,
        by_humans: bool,
    ) -> None:
        self.model = model
        self.questions = questions
        self.texts = [question.text for question in questions]
        self.golds = dict(golds)
        self.by_humans = by_humans
        self._teacher: dict[int, Tensor] = {}
        self._read: dict[int, int] = {}
        self._without: dict[bool, dict[int, MethodAnswer]] = {}
        prompts = [model.chat.asking(text) for text in self.texts]
        for prefix, members in full(self.texts):
            given = model.given(prefix)
            unknown = [member for member in members if member not in self.golds]
            generations = given.generate([prompts[member] for member in unknown], max_tokens=LONGEST_ANSWER)
            self.golds |= {n: each.tokens for n, each in zip(unknown, generations, strict=True)}
            rows = [Row(prompts[member], self.golds[member]) for member in members]
            self._teacher |= zip(members, given.score(rows), strict=True)
            self._read |= dict.fromkeys(members, prefix.slots_a_head)

    def results(
        self,
        name: str,
        method: Prepared,
        answers: bool,
        passages: Passages | None,
        calibration: Calibration | None,
    ) -> dict[int, MethodAnswer]:
        """Measure a method; questions that it fails on are absent."""
        if name == "full":
            texts = {number: self.model.chat.decode(gold) for number, gold in self.golds.items()}
            return {
                n: self._measured(n, scores, texts[n], self._read[n]) for n, scores in self._teacher.items()
            }
        if name == "none":
            if answers not in self._without:
                self._without[answers] = self._asked(method, answers, None, None)
            return self._without[answers]
        return self._asked(method, answers, passages, calibration)

    def _asked(
        self,
        method: Prepared,
        answers: bool,
        passages: Passages | None,
        calibration: Calibration | None,
    ) -> dict[int, MethodAnswer]:
        """Ask a method everything."""
        chat = self.model.chat
        recalled = [NOTHING if passages is None else recall(passages, text) for text in self.texts]
        prompts = [chat.asking(text, each.text) for text, each in zip(self.texts, recalled, strict=True)]
        added = [len(p) - len(chat.asking(text)) for p, text in zip(prompts, self.texts, strict=True)]
        results: dict[int, MethodAnswer] = {}
        for groups in _together(method(self.texts)):
            fitting = [
                (prefix.to(self.model.device, self.model.dtype), self._fitting(prefix, members, prompts))
                for prefix, members in groups
            ]
            said = self._said(fitting, prompts) if answers else {}
            for prefix, member, scores in self._scored(fitting, prompts):
                generation = said.get(member)
                text = None if generation is None else chat.decode(generation.tokens)
                measured = self._measured(member, scores, text, prefix.slots_a_head + added[member])
                if generation is not None and calibration is not None:
                    seen = features_of(
                        generation.log_probabilities,
                        generation.entropies,
                        self.texts[member],
                        text or "",
                        recalled[member],
                        passages,
                    )
                    measured = replace(measured, confidence=calibration.probability(seen))
                results[member] = measured
        return results

    def _fitting(self, prefix: Prefix, members: Sequence[int], prompts: Sequence[list[int]]) -> list[int]:
        """Give the questions that leave room for an answer after a prefix."""
        room = self.model.window - prefix.next_position
        return [member for member in members if len(prompts[member]) + LONGEST_ANSWER <= room]

    def _said(
        self, groups: Sequence[tuple[Prefix, list[int]]], prompts: Sequence[list[int]]
    ) -> dict[int, Generation]:
        """Let all be answered together, whatever stands before each."""
        members = [member for _, each in groups for member in each]
        requests = [
            Request(prefix, prompts[member], LONGEST_ANSWER, entropies=True)
            for prefix, each in groups
            for member in each
        ]
        return dict(zip(members, self.model.generate(requests), strict=True))

    def _scored(
        self, groups: Sequence[tuple[Prefix, list[int]]], prompts: Sequence[list[int]]
    ) -> Iterator[tuple[Prefix, int, Tensor]]:
        """Give the log-probabilities of ŷ, `[answer token, vocabulary]`, question by question."""
        for prefix, members in groups:
            rows = [Row(prompts[member], self.golds[member]) for member in members]
            for member, scores in zip(members, self.model.given(prefix).score(rows), strict=True):
                yield prefix, member, scores

    def _measured(self, number: int, student: Tensor, text: str | None, positions: int) -> MethodAnswer:
        """Compare log-probabilities `[answer token, vocabulary]` with the teacher's, and a text with ŷ."""
        teacher, gold = self._teacher[number], self.golds[number]
        gold_ids = torch.tensor(gold, device=student.device).unsqueeze(1)
        return MethodAnswer(
            text=text,
            nll=-float(student.gather(1, gold_ids).sum()),
            kl=float((teacher.exp() * (teacher - student)).sum()),
            top1=int((student.argmax(1) == teacher.argmax(1)).sum()),
            match=None if text is None else token_f1(text, self.model.chat.decode(gold)),
            right=None if text is None else self._right(number, text),
            positions=positions,
        )

    def _right(self, number: int, text: str) -> bool | None:
        if self.by_humans:
            question = self.questions[number]
            return is_right(text, question.answers) if _has_humans(question) else None
        gold = self.model.chat.decode(self.golds[number])
        return agrees(text, gold, self.questions[number].text)


@dataclass
class _Cost:
    """What a method costs, one entry a question that was timed."""

    bytes: list[int] = field(default_factory=list)
    first_token: list[float] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)


def _costs(
    teacher: Teacher,
    prepared: Mapping[str, Prepared],
    recalling: Mapping[str, Passages],
    texts: Sequence[str],
) -> dict[str, _Cost]:
    """Time a few questions, the methods in turn, each doing all that one question costs it."""
    methods = _with_baselines(teacher, prepared)
    costs = {name: _Cost() for name in methods}
    for text in texts[:TIMED_QUESTIONS]:
        for name, method in methods.items():
            teacher.forget()
            _time(teacher.model, method, recalling.get(name), text, costs[name])
    return costs


def _time(model: LanguageModel, method: Prepared, passages: Passages | None, text: str, cost: _Cost) -> None:
    start = time.perf_counter()
    recalled = NOTHING if passages is None else recall(passages, text)
    ((prefix, _),) = method([text])
    prompt = model.chat.asking(text, recalled.text)
    given = model.given(prefix)
    if len(prompt) >= given.room():
        return
    stream = given.stream(prompt, max_tokens=LONGEST)  # as `ask` does, which decides how it is laid out
    next(stream)
    first = time.perf_counter()
    more = sum(1 for _ in itertools.islice(stream, TIMED_TOKENS - 1))
    if more:
        cost.pace.append(more / (time.perf_counter() - first))
    cost.first_token.append(first - start)
    cost.bytes.append(prefix.nbytes + model.token_bytes * _added(model, text, recalled))


def _added(model: LanguageModel, text: str, recalled: Recalled) -> int:
    """How many tokens what was recalled adds to a prompt."""
    return len(model.chat.asking(text, recalled.text)) - len(model.chat.asking(text))


def scores_of(
    asked: Sequence[Asked], name: str, cost: _Cost | None = None, reason: str | None = None
) -> MethodScores:
    """Sum up what a method made of all questions.

    Parameters
    ----------
    asked, name
        The questions, and the method.
    cost
        What it costs, if that was measured.
    reason
        Why it failed on all of them, if it did.
    """
    cost = cost or _Cost()
    records = [record for record in asked if name in record.methods]
    mine = [record.methods[name] for record in records]
    tokens = sum(record.tokens for record in records)
    judged = [answer.right for answer in mine if answer.right is not None]
    right = _mean(judged)
    texts = [answer.text for answer in mine if answer.text is not None]
    found, interval = bootstrap_recovery(asked, name)
    return MethodScores(
        right=right,
        right_interval=None if right is None else wilson_interval(right, len(judged)),
        right_count=sum(judged),
        judged=len(judged),
        kept=_mean(
            [record.methods[name].right or False for record in records if _right(record, "full")]
            if judged
            else []
        ),
        f1=_best(records, name, token_f1),
        answer_words=_mean([len(text.split()) for text in texts]),
        prompt_positions=_mean([answer.positions for answer in mine]),
        prefix_bytes=round(statistics.mean(cost.bytes)) if cost.bytes else None,
        first_token_s=statistics.median(cost.first_token) if cost.first_token else None,
        tokens_per_s=statistics.median(cost.pace) if cost.pace else None,
        recovery=found,
        interval=interval,
        nll=sum(answer.nll for answer in mine) / tokens if tokens else None,
        kl=sum(answer.kl for answer in mine) / tokens if tokens else None,
        top1=sum(answer.top1 for answer in mine) / tokens if tokens else None,
        match=_mean([answer.match for answer in mine if answer.match is not None]),
        em=_best(records, name, exact_match),
        failures=len(asked) - len(records),
        reason=reason,
    )


def _best(records: Sequence[Asked], name: str, measure: Callable[[str, str], float]) -> float | None:
    """Compare a method's answers with the human ones: the mean over questions of the best."""
    return _mean(
        [
            max(measure(text, human) for human in record.humans)
            for record in records
            if record.humans and (text := record.methods[name].text) is not None
        ]
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
