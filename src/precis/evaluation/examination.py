"""Asking the same questions of any number of methods, and measuring each by the full document's answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from precis.baselines import Groups, Prepared, same_for_all
from precis.calibration import Calibration, agrees
from precis.compilation.progress import Progress
from precis.compilation.teacher import LONGEST_ANSWER, ROOM, Teacher
from precis.evaluation.report import BY_HUMANS, BY_THE_DOCUMENT, AnsweredQuestion, MethodAnswer
from precis.measures import is_right, normalised, token_f1
from precis.model.conditioned import Example
from precis.model.decoding import Generation, Request
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix
from precis.text.document import Document
from precis.text.passages import Passages
from precis.text.questions import Question
from precis.text.recall import NOTHING, features_of, recall

# Questions whose full-document distributions are held at a time: each takes megabytes.
QUESTIONS_AT_ONCE = 48
# Slots of different prefixes that are held together.
SLOTS_AT_ONCE = 16_384
# Up to so many questions, they are kept for the methods that come later.
MOST_KEPT = 96


class Examination:
    """Questions on a document with its full-document answers ŷ, which any number of methods can take.

    Parameters
    ----------
    model, document
        Who is asked about what.
    questions
        What to ask.
    """

    def __init__(self, model: LanguageModel, document: Document, questions: Sequence[Question]) -> None:
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
            len(chat.question_prompt(text, recall(passages, text).text)) - len(chat.question_prompt(text))
            for text in texts
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
    ) -> list[AnsweredQuestion]:
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
            Is told of one stage.

        Returns
        -------
        One record a question, in their order.
        """
        progress = progress or Progress()
        methods = with_bounds(self.teacher, prepared)
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
            AnsweredQuestion(question.text, list(question.answers), found[number][0], place, found[number][1])
            if number in found
            else AnsweredQuestion(question.text, list(question.answers), 0, place, {})
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


def reading_all(teacher: Teacher) -> Prepared:
    """Put the full document before questions, or the part of it that suits each best."""

    def full(texts: Sequence[str]) -> Groups:
        assigned = teacher.assign([Question(text) for text in texts])
        return ((teacher.prefix(place), members) for place, members in assigned.items())

    return full


def with_bounds(teacher: Teacher, prepared: Mapping[str, Prepared]) -> dict[str, Prepared]:
    """Put nothing and the full document before other methods."""
    nothing = teacher.model.prefill(teacher.model.chat.document_prompt(""))
    return {"none": same_for_all(nothing), "full": reading_all(teacher), **prepared}


def _has_humans(question: Question) -> bool:
    return any(map(normalised, question.answers))


def _fitting(model: LanguageModel, questions: Sequence[Question]) -> list[int]:
    """Give the numbers of the questions that fit the window beside the document, or a part of it."""
    room = min(ROOM, model.window // 4) - LONGEST_ANSWER
    return [
        n for n, question in enumerate(questions) if len(model.chat.question_prompt(question.text)) <= room
    ]


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
        questions: Sequence[Question],
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
        prompts = [model.chat.question_prompt(text) for text in self.texts]
        for prefix, members in full(self.texts):
            given = model.given(prefix)
            unknown = [member for member in members if member not in self.golds]
            generations = given.generate([prompts[member] for member in unknown], max_tokens=LONGEST_ANSWER)
            self.golds |= {n: each.tokens for n, each in zip(unknown, generations, strict=True)}
            rows = [Example(prompts[member], self.golds[member]) for member in members]
            self._teacher |= zip(members, given.score(rows), strict=True)
            self._read |= dict.fromkeys(members, prefix.slots_per_head)

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
        prompts = [
            chat.question_prompt(text, each.text) for text, each in zip(self.texts, recalled, strict=True)
        ]
        added = [
            len(p) - len(chat.question_prompt(text)) for p, text in zip(prompts, self.texts, strict=True)
        ]
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
                measured = self._measured(member, scores, text, prefix.slots_per_head + added[member])
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
            rows = [Example(prompts[member], self.golds[member]) for member in members]
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
