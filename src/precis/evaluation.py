"""How good a method is: the same questions with no document, with all of it, with σ, with rivals."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precis.artifact import Artifact, Manifest
from precis.bootstrap import recovery_interval
from precis.compilation import Settings
from precis.confidence import AGREEING_F1, Calibration, Reliability, features_of, reliability
from precis.decoding import Generation
from precis.document import Document
from precis.errors import PrecisError
from precis.gold import LONGEST_ANSWER, ROOM, Teacher
from precis.language_model import LanguageModel, Row
from precis.passages import Passages
from precis.progress import Progress
from precis.questions import Question
from precis.questions_file import UserQuestion
from precis.rivals import RIVALS, Groups, Prepared, Task, check_names, same_for_all
from precis.text_measures import exact_match, token_f1
from precis.training import Schedule, recovery

TIMED_QUESTIONS = 5
TIMED_TOKENS = 16
# Questions whose full-document distributions are held at a time: each takes megabytes.
QUESTIONS_AT_ONCE = 48
# Up to so many questions, they are kept for the methods that come later.
MOST_KEPT = 96


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
        Calibrated probability that `text` agrees with ŷ; None where the method has no calibration.
    """

    text: str | None
    nll: float
    kl: float
    top1: int
    match: float | None
    confidence: float | None = None


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
    em, f1
        Exact match and token F1 against human answers, by SQuAD's rules; None if there are none.
    prompt_positions, prefix_bytes
        Positions before the question, and the memory of their keys and values: the most of those
        questions that were timed. Where heads hold different numbers of keys, their mean; what pads
        them to the same length does not count.
    first_token_s, tokens_per_s
        Median time from a question to the first token of its answer, reading the document (if the
        method does) included; and the pace after it, one question at a time.
    failures
        Questions without a result, such as those that do not fit the window beside the document; they
        are left out of the means, and never count as zeros.
    reason
        Why the method failed on all of them; None where it did not.
    """

    recovery: float | None
    interval: tuple[float, float] | None
    nll: float | None
    kl: float | None
    top1: float | None
    match: float | None
    em: float | None
    f1: float | None
    prompt_positions: int | None
    prefix_bytes: int | None
    first_token_s: float | None
    tokens_per_s: float | None
    failures: int
    reason: str | None = None


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
    recovery
        That of σ; None where the document does not help the model.
    methods
        By name: `none`, `full`, `precis`, and the rivals that were asked for.
    asked
        Every question with what each method made of it, in the order given.
    reliability
        How far σ's confidence can be believed; None where its file holds no calibration.
    """

    model: str
    document: str
    questions: int
    ratio: float
    recovery: float | None
    methods: dict[str, MethodScores]
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
        Names of `RIVALS` to compare with, at as many slots as σ has. Those that train something do so
        with σ's settings, on questions that the model writes.
    progress
        Hears of every stage.

    Raises
    ------
    ArtifactError
        σ was compiled for another model.
    SettingsError
        There is no such method.
    """
    check_names(methods)
    progress = progress or Progress()
    examination = Examination(model, document, questions)
    teacher = examination.teacher
    if not teacher.reads_whole:
        progress.note(
            f"The document ({teacher.tokens:,} tokens) is longer than the model's window: 'full' reads "
            f"the part that suits each question best ({len(teacher.readings)} parts)."
        )
    slots = artifact.manifest.slots
    prepared = {"precis": same_for_all(artifact.prefix(model))}
    task = Task(model, document, slots, _settings(artifact.manifest), None, progress)
    rivals, reasons = _prepare(task, methods)
    prepared |= rivals
    found = artifact.calibration
    calibrations = {} if found is None else {"precis": found}
    asked = examination.compare(prepared, calibrations=calibrations, progress=progress)
    costs = _costs(teacher, prepared, [record.question for record in asked if record.methods])
    names = ["none", "full", "precis", *dict.fromkeys(methods)]
    scores = {name: _scores(asked, name, costs.get(name, _Cost()), reasons.get(name)) for name in names}
    return Report(
        model=model.name,
        document=document.name,
        questions=len(questions),
        ratio=teacher.tokens / slots,
        recovery=scores["precis"].recovery,
        methods=scores,
        asked=asked,
        reliability=reliability_of(asked, "precis"),
    )


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
        passages = Passages(document.text, model.chat)
        self.places = passages.best_starts([each.text for each in questions])
        self._golds: dict[int, list[int]] = {}
        self._kept: dict[int, _Exam] = {}

    def compare(
        self,
        prepared: Mapping[str, Prepared],
        *,
        answers: bool = True,
        calibrations: Mapping[str, Calibration] | None = None,
        progress: Progress | None = None,
    ) -> list[Asked]:
        """Ask everything of the model with no document, with all of it, and with other methods.

        A few dozen questions at a time go through all methods.

        Parameters
        ----------
        prepared
            The methods beside `none` and `full`, by name.
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
                name: exam.results(name, method, answers, (calibrations or {}).get(name))
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
        exam = _Exam(self.teacher.model, [self.questions[number].text for number in numbers], full, known)
        self._golds |= {number: exam.golds[member] for member, number in enumerate(numbers)}
        if len(self.order) <= MOST_KEPT:
            self._kept[numbers[0]] = exam
        return exam


def reliability_of(asked: Sequence[Asked], method: str) -> Reliability | None:
    """Hold a method's confidence against whether its answers agree with ŷ; None where it states none."""
    stated = [
        (answer.confidence, answer.match >= AGREEING_F1)
        for record in asked
        if (answer := record.methods.get(method)) is not None
        and answer.confidence is not None
        and answer.match is not None
    ]
    return reliability([confidence for confidence, _ in stated], [agreed for _, agreed in stated])


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


def _prepare(task: Task, methods: Sequence[str]) -> tuple[dict[str, Prepared], dict[str, str]]:
    """Prepare rivals; give those that are ready, and why the others are not."""
    prepared: dict[str, Prepared] = {}
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(methods):
        rival = RIVALS[name]
        if not rival.trains:
            task.progress.stage(name, 1)
        try:
            prepared[name] = rival.prepare(task)
        except PrecisError as error:
            reasons[name] = str(error)
        if not rival.trains:
            task.progress.advance(1)
    return prepared, reasons


def _with_baselines(teacher: Teacher, prepared: Mapping[str, Prepared]) -> dict[str, Prepared]:
    """Put nothing and the full document before other methods."""
    model = teacher.model

    def full(texts: Sequence[str]) -> Groups:
        assigned = teacher.assign([Question(text) for text in texts])
        return ((teacher.prefix(place), members) for place, members in assigned.items())

    nothing = model.prefill(model.chat.reading(""))
    return {"none": same_for_all(nothing), "full": full, **prepared}


def _fitting(model: LanguageModel, questions: Sequence[UserQuestion]) -> list[int]:
    """Give the numbers of the questions that fit the window beside the document, or a part of it."""
    room = min(ROOM, model.window // 4) - LONGEST_ANSWER
    return [n for n, question in enumerate(questions) if len(model.chat.asking(question.text)) <= room]


class _Exam:
    """A few questions with their full-document answers ŷ, by which every method is measured.

    Parameters
    ----------
    model, texts
        Who is asked what.
    full
        The method that reads the full document.
    golds
        Its answers, as far as they are known, by number.
    """

    def __init__(
        self, model: LanguageModel, texts: Sequence[str], full: Prepared, golds: dict[int, list[int]]
    ) -> None:
        self.model = model
        self.texts = texts
        self.prompts = [model.chat.asking(text) for text in texts]
        self.golds = dict(golds)
        self._teacher: dict[int, Tensor] = {}
        self._without: dict[bool, dict[int, MethodAnswer]] = {}
        for prefix, members in full(texts):
            given = model.given(prefix)
            unknown = [member for member in members if member not in self.golds]
            generations = given.generate(
                [self.prompts[member] for member in unknown], max_tokens=LONGEST_ANSWER
            )
            self.golds |= {n: each.tokens for n, each in zip(unknown, generations, strict=True)}
            rows = [Row(self.prompts[member], self.golds[member]) for member in members]
            self._teacher |= zip(members, given.score(rows), strict=True)

    def results(
        self, name: str, method: Prepared, answers: bool, calibration: Calibration | None
    ) -> dict[int, MethodAnswer]:
        """Measure a method; questions that it fails on are absent."""
        if name == "full":
            texts = {number: self.model.chat.decode(gold) for number, gold in self.golds.items()}
            return {n: self._measured(n, scores, texts[n]) for n, scores in self._teacher.items()}
        if name == "none":
            if answers not in self._without:
                self._without[answers] = self._asked(method, answers, None)
            return self._without[answers]
        return self._asked(method, answers, calibration)

    def _asked(
        self, method: Prepared, answers: bool, calibration: Calibration | None
    ) -> dict[int, MethodAnswer]:
        """Ask a method everything."""
        results: dict[int, MethodAnswer] = {}
        for prefix, members in method(self.texts):
            given = self.model.given(prefix)
            fitting = [n for n in members if len(self.prompts[n]) + LONGEST_ANSWER <= given.room()]
            prompts = [self.prompts[member] for member in fitting]
            said: list[Generation | None] = [None] * len(fitting)
            if answers:
                said = [*given.generate(prompts, max_tokens=LONGEST_ANSWER, entropies=True)]
            rows = [Row(self.prompts[member], self.golds[member]) for member in fitting]
            for member, scores, generation in zip(fitting, given.score(rows), said, strict=True):
                text = None if generation is None else self.model.chat.decode(generation.tokens)
                measured = self._measured(member, scores, text)
                if generation is not None and calibration is not None:
                    doubt = features_of(generation.log_probabilities, generation.entropies)
                    measured = replace(measured, confidence=calibration.probability(doubt))
                results[member] = measured
        return results

    def _measured(self, number: int, student: Tensor, text: str | None) -> MethodAnswer:
        """Compare log-probabilities `[answer token, vocabulary]` with the teacher's, and a text with ŷ."""
        teacher, gold = self._teacher[number], self.golds[number]
        gold_ids = torch.tensor(gold, device=student.device).unsqueeze(1)
        return MethodAnswer(
            text=text,
            nll=-float(student.gather(1, gold_ids).sum()),
            kl=float((teacher.exp() * (teacher - student)).sum()),
            top1=int((student.argmax(1) == teacher.argmax(1)).sum()),
            match=None if text is None else token_f1(text, self.model.chat.decode(gold)),
        )


@dataclass
class _Cost:
    """What a method costs, one entry a question that was timed."""

    positions: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    first_token: list[float] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)


def _costs(teacher: Teacher, prepared: Mapping[str, Prepared], texts: Sequence[str]) -> dict[str, _Cost]:
    """Time a few questions, the methods in turn, each doing all that one question costs it."""
    methods = _with_baselines(teacher, prepared)
    costs = {name: _Cost() for name in methods}
    for text in texts[:TIMED_QUESTIONS]:
        for name, method in methods.items():
            teacher.forget()
            _time(teacher.model, method, text, costs[name])
    return costs


def _time(model: LanguageModel, method: Prepared, text: str, cost: _Cost) -> None:
    start = time.perf_counter()
    ((prefix, _),) = method([text])
    prompt = model.chat.asking(text)
    given = model.given(prefix)
    if len(prompt) >= given.room():
        return
    stream = given.stream(prompt, max_tokens=TIMED_TOKENS)
    next(stream)
    first = time.perf_counter()
    more = sum(1 for _ in stream)
    if more:
        cost.pace.append(more / (time.perf_counter() - first))
    cost.first_token.append(first - start)
    cost.positions.append(prefix.slots_a_head)
    cost.bytes.append(prefix.nbytes)


def _scores(asked: Sequence[Asked], name: str, cost: _Cost, reason: str | None) -> MethodScores:
    """Sum up what a method made of all questions."""
    records = [record for record in asked if name in record.methods]
    mine = [record.methods[name] for record in records]
    tokens = sum(record.tokens for record in records)
    human = [
        (answer.text, record.humans)
        for record, answer in zip(records, mine, strict=True)
        if record.humans and answer.text is not None
    ]
    found, interval = bootstrap_recovery(asked, name)
    return MethodScores(
        recovery=found,
        interval=interval,
        nll=sum(answer.nll for answer in mine) / tokens if tokens else None,
        kl=sum(answer.kl for answer in mine) / tokens if tokens else None,
        top1=sum(answer.top1 for answer in mine) / tokens if tokens else None,
        match=_mean([answer.match for answer in mine if answer.match is not None]),
        em=_mean([max(exact_match(said, each) for each in humans) for said, humans in human]),
        f1=_mean([max(token_f1(said, each) for each in humans) for said, humans in human]),
        prompt_positions=max(cost.positions, default=None),
        prefix_bytes=max(cost.bytes, default=None),
        first_token_s=statistics.median(cost.first_token) if cost.first_token else None,
        tokens_per_s=statistics.median(cost.pace) if cost.pace else None,
        failures=len(asked) - len(records),
        reason=reason,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
