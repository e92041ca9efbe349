"""How good σ is: the same questions with no document, with all of it, and with σ."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from precis.artifact import Artifact
from precis.document import Document
from precis.gold import LONGEST_ANSWER, ROOM, Reading, Teacher
from precis.language_model import Conditioned, LanguageModel, Row
from precis.prefix import Prefix
from precis.progress import Progress
from precis.questions import Question
from precis.questions_file import UserQuestion
from precis.text_measures import exact_match, token_f1
from precis.training import recovery

TIMED_QUESTIONS = 5
TIMED_TOKENS = 16
METHODS = ("none", "full", "precis")


@dataclass(frozen=True)
class MethodScores:
    """One row of the report.

    Parameters
    ----------
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
        Positions before the question, and the memory of their keys and values.
    first_token_s, tokens_per_s
        Median time from a question to the first token of its answer, reading the document (if the
        method does) included; and the pace after it, one question at a time.
    failures
        Questions that do not fit the window beside the document, and so cannot be compared; they are left
        out of the means of every method.
    """

    nll: float | None
    kl: float | None
    top1: float | None
    match: float | None
    em: float | None
    f1: float | None
    prompt_positions: int
    prefix_bytes: int
    first_token_s: float | None
    tokens_per_s: float | None
    failures: int


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
        (NLL_none − NLL_σ) / (NLL_none − NLL_full); None where the document does not help the model.
    methods
        By name: `none`, `full`, `precis`.
    answers
        For every question: its text, and what each method answered.
    """

    model: str
    document: str
    questions: int
    ratio: float
    recovery: float | None
    methods: dict[str, MethodScores]
    answers: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Give plain values, without the answers."""
        values = asdict(self)
        del values["answers"]
        return values


@dataclass
class _Sums:
    """What is added up for one method."""

    tokens: int = 0
    nll: float = 0.0
    kl: float = 0.0
    top1: int = 0
    match: list[float] = field(default_factory=list)
    em: list[float] = field(default_factory=list)
    f1: list[float] = field(default_factory=list)
    positions: int = 0
    bytes: int = 0
    first_token: list[float] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)

    def scores(self, failures: int) -> MethodScores:
        return MethodScores(
            nll=self.nll / self.tokens if self.tokens else None,
            kl=self.kl / self.tokens if self.tokens else None,
            top1=self.top1 / self.tokens if self.tokens else None,
            match=_mean(self.match),
            em=_mean(self.em),
            f1=_mean(self.f1),
            prompt_positions=self.positions,
            prefix_bytes=self.bytes,
            first_token_s=statistics.median(self.first_token) if self.first_token else None,
            tokens_per_s=statistics.median(self.pace) if self.pace else None,
            failures=failures,
        )


def evaluate(
    artifact: Artifact,
    document: Document,
    questions: Sequence[UserQuestion],
    *,
    model: LanguageModel,
    progress: Progress | None = None,
) -> Report:
    """Ask the same questions of the model with no document, with all of it, and with σ.

    Parameters
    ----------
    artifact, document
        σ and what it stands for.
    questions
        What to ask; σ must not have been trained on them.
    model
        The one that σ was compiled for.
    progress
        Hears of every stage.

    Raises
    ------
    ArtifactError
        σ was compiled for another model.
    """
    progress = progress or Progress()
    sigma = artifact.prefix(model)
    nothing = model.prefill(model.chat.reading(""))
    teacher = Teacher(model, document)
    if not teacher.reads_whole:
        progress.note(
            f"The document ({teacher.tokens:,} tokens) is longer than the model's window: 'full' reads "
            f"the part that suits each question best ({len(teacher.readings)} parts)."
        )
    sums = {name: _Sums() for name in METHODS}
    answers: dict[int, dict[str, str]] = {}
    fitting, failures = _fitting(model, questions, max(sigma.next_position, nothing.next_position))
    assigned = teacher.assign([Question(questions[number].text) for number in fitting])
    progress.stage("evaluating", len(fitting))
    for place, members in assigned.items():
        numbers = [fitting[member] for member in members]
        full = teacher.prefix(place)
        methods = {"none": model.given(nothing), "full": model.given(full), "precis": model.given(sigma)}
        asked = [questions[number] for number in numbers]
        answers |= zip(numbers, _compare(methods, asked, sums), strict=True)
        if not sums["none"].first_token:
            _time(model, methods, teacher.readings[place], asked, sums)
        progress.advance(len(numbers))
    scores = {name: sums[name].scores(failures) for name in METHODS}
    return Report(
        model=model.name,
        document=document.name,
        questions=len(questions),
        ratio=teacher.tokens / artifact.manifest.slots,
        recovery=_recovery(scores),
        methods=scores,
        answers=[answers[number] for number in sorted(answers)],
    )


def _recovery(scores: dict[str, MethodScores]) -> float | None:
    none, sigma, full = (scores[name].nll for name in ("none", "precis", "full"))
    return None if none is None or sigma is None or full is None else recovery(none, sigma, full)


def _fitting(model: LanguageModel, questions: Sequence[UserQuestion], before: int) -> tuple[list[int], int]:
    """Give the numbers of the questions that fit the window beside any prefix, and how many do not."""
    room = min(model.window - before, ROOM, model.window // 4) - LONGEST_ANSWER
    fitting = [n for n, question in enumerate(questions) if len(model.chat.asking(question.text)) <= room]
    return fitting, len(questions) - len(fitting)


def _compare(
    methods: dict[str, Conditioned], questions: Sequence[UserQuestion], sums: dict[str, _Sums]
) -> list[dict[str, str]]:
    """Let every method answer, and score the full-document answers under each."""
    model = methods["full"].model
    prompts = [model.chat.asking(question.text) for question in questions]
    texts: dict[str, list[str]] = {}
    golds: list[list[int]] = []
    for name, given in methods.items():
        generations = given.generate(prompts, max_tokens=LONGEST_ANSWER)
        texts[name] = [model.chat.decode(generation.tokens) for generation in generations]
        if name == "full":
            golds = [generation.tokens for generation in generations]
        sums[name].positions = max(sums[name].positions, given.prefix.slots)
        sums[name].bytes = max(sums[name].bytes, given.prefix.nbytes)
    rows = [Row(prompt, gold) for prompt, gold in zip(prompts, golds, strict=True)]
    scored = zip(*(given.score(rows) for given in methods.values()), strict=True)
    for row, distributions in zip(rows, scored, strict=True):
        by_name = dict(zip(methods, distributions, strict=True))
        for name in methods:
            _add(sums[name], by_name[name], by_name["full"], row)
    for number, question in enumerate(questions):
        for name in methods:
            said, gold = texts[name][number], texts["full"][number]
            sums[name].match.append(token_f1(said, gold))
            if question.answers:
                sums[name].em.append(max(exact_match(said, human) for human in question.answers))
                sums[name].f1.append(max(token_f1(said, human) for human in question.answers))
    return [
        {"question": question.text, **{name: texts[name][number] for name in methods}}
        for number, question in enumerate(questions)
    ]


def _add(sums: _Sums, student: Tensor, teacher: Tensor, row: Row) -> None:
    gold = torch.tensor(row.answer, device=student.device).unsqueeze(1)
    sums.tokens += len(row.answer)
    sums.nll -= float(student.gather(1, gold).sum())
    sums.kl += float((teacher.exp() * (teacher - student)).sum())
    sums.top1 += int((student.argmax(1) == teacher.argmax(1)).sum())


def _time(
    model: LanguageModel,
    methods: dict[str, Conditioned],
    reading: Reading,
    questions: Sequence[UserQuestion],
    sums: dict[str, _Sums],
) -> None:
    """Time a few questions, the methods in turn, each doing all that one question costs it."""

    def read(name: str) -> Prefix:
        if name == "full":
            return model.prefill(model.chat.reading(reading.text))
        return methods[name].prefix

    for question in questions[:TIMED_QUESTIONS]:
        prompt = model.chat.asking(question.text)
        for name in methods:
            start = time.perf_counter()
            stream = model.given(read(name)).stream(prompt, max_tokens=TIMED_TOKENS)
            next(stream)
            first = time.perf_counter()
            more = sum(1 for _ in stream)
            sums[name].first_token.append(first - start)
            if more:
                sums[name].pace.append(more / (time.perf_counter() - first))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
