"""ŷ, the gold answers: what the frozen model says with the whole document before it.

The document is read once; all questions are answered in batches against that one prefix. A question that was
written about a sentence has that sentence before it: a small model with a long document
before it misses what it is not pointed to. Where the document does not fit the model's window, the teacher
reads windows of neighbouring spans instead, each question going to the window in whose middle its span
stands.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from precis.model.conditioned import Example
from precis.model.decoding import Generation
from precis.model.language_model import LanguageModel
from precis.model.prefix import Prefix
from precis.storage import WorkFolder, key_of
from precis.text.document import Document
from precis.text.passages import Passages
from precis.text.questions import Question
from precis.text.recall import recall
from precis.text.spans import Span, spans_of, spread_out

TOP_K = 32
LONGEST_ANSWER = 48
# Tokens of the window that stay free for a question and its answer.
ROOM = 512
# A teacher that reads in windows reads this many tokens at a time: about four pages.
WINDOW_TOKENS = 2048
# Questions answered between two savings.
CHUNK = 192


@dataclass(frozen=True)
class Gold:
    """A gold answer with what the teacher thought at each of its tokens.

    Parameters
    ----------
    question
        What was asked.
    prompt
        The tokens of the prompt after the document: the question alone.
    prompt_with_passage
        The same with the passage that is recalled for the question before it; None where none is found.
    tokens
        `[answer token]`: the answer, with the stop token where the model ended it.
    log_probabilities
        `[answer token]`, of the tokens under the teacher.
    top_ids, top_log_probabilities
        `[answer token, k]`: the teacher's most likely tokens.
    """

    question: Question
    prompt: list[int]
    prompt_with_passage: list[int] | None
    tokens: list[int]
    log_probabilities: Tensor
    top_ids: Tensor
    top_log_probabilities: Tensor

    @property
    def example(self) -> Example:
        """Prompt and answer, for scoring and training."""
        return Example(self.prompt, self.tokens)

    @property
    def mass(self) -> float:
        """Mean probability that the kept tokens cover together."""
        return float(self.top_log_probabilities.exp().sum(1).mean())


@dataclass(frozen=True)
class Reading:
    """One stretch of the document that the teacher reads at a time: spans `first` to `last`."""

    text: str
    first: int
    last: int


class Teacher:
    """The frozen model with the document before it.

    Parameters
    ----------
    model, document
        Who reads what.
    reading_tokens
        The most document tokens to read at a time, in whole spans. None: the whole document where it
        fits the window, else `WINDOW_TOKENS`.
    top_k
        How many of the most likely tokens to keep at each position of an answer.
    pointed
        Whether the sentence that a question was written about stands before the question.

    Attributes
    ----------
    reading_seconds
        What the last reading took.
    """

    def __init__(
        self,
        model: LanguageModel,
        document: Document,
        *,
        reading_tokens: int | None = None,
        top_k: int = TOP_K,
        pointed: bool = True,
    ) -> None:
        self.model = model
        self.document = document
        self.reading_tokens = reading_tokens
        self.pointed = pointed
        self.top_k = min(top_k, model.network.config.get_text_config().vocab_size)
        self.tokens = model.chat.document_tokens(document.text)
        room = min(ROOM, model.window // 4)
        self.fits_window = len(model.chat.document_prompt(document.text)) + room <= model.window
        self.reads_whole = self.fits_window and self.tokens <= (reading_tokens or self.tokens)
        self.spans: list[Span] = [] if self.reads_whole else spans_of(document.text, model.chat)
        self._read: tuple[int, Prefix] | None = None
        self.reading_seconds = 0.0
        self.readings = self._whole() if self.reads_whole else self._windows(model.window - room)

    def _whole(self) -> list[Reading]:
        return [Reading(self.document.text, 0, 0)]

    def _windows(self, room: int) -> list[Reading]:
        """Cut overlapping windows: each starts in the middle of the one before."""
        around = len(self.model.chat.document_prompt(""))
        limit = min(self.reading_tokens or WINDOW_TOKENS, room - around)
        readings: list[Reading] = []
        first = 0
        while True:
            last, tokens = first, self.spans[first].tokens
            while last + 1 < len(self.spans) and tokens + self.spans[last + 1].tokens <= limit:
                last += 1
                tokens += self.spans[last].tokens
            text = self.document.text[self.spans[first].start : self.spans[last].end]
            readings.append(Reading(text, first, last))
            if last + 1 == len(self.spans):
                return readings
            first += max(1, (last + 1 - first) // 2)

    @cached_property
    def passages(self) -> Passages:
        """The document's passages."""
        return Passages(self.document, self.model.chat)

    def prompts(self, question: Question) -> tuple[list[int], list[int] | None]:
        """Give the question alone, and with what is recalled for it."""
        chat, found = self.model.chat, recall(self.passages, question.text)
        return chat.question_prompt(question.text), chat.question_prompt(
            question.text, found.text
        ) if found.text else None

    def prefix(self, place: int) -> Prefix:
        """Let the model read one of the `readings`; the last one read is remembered."""
        if self._read is None or self._read[0] != place:
            self._read = None  # two readings of a long document need not fit the memory together
            tokens = self.model.chat.document_prompt(self.readings[place].text)
            start = time.perf_counter()
            self._read = place, self.model.prefill(tokens)
            self.reading_seconds = time.perf_counter() - start
        return self._read[1]

    @property
    def last_read(self) -> Prefix | None:
        """What was read last, if it is remembered; it took `reading_seconds`."""
        return None if self._read is None else self._read[1]

    def forget(self) -> None:
        """Free the memory of the last reading."""
        self._read = None

    def assign(self, questions: Sequence[Question]) -> dict[int, list[int]]:
        """Say which questions (by their numbers) belong to which reading.

        A question that came from no sentence goes where most of its words stand (BM25).
        """
        if self.reads_whole:
            return {0: list(range(len(questions)))} if questions else {}
        assigned: dict[int, list[int]] = {}
        for number, question in enumerate(questions):
            place = question.place
            if place is None:
                (place,) = self.passages.best_starts([question.text])
            assigned.setdefault(self._reading_of(place), []).append(number)
        return dict(sorted(assigned.items()))

    def _reading_of(self, place: int) -> int:
        """Choose the reading in whose middle a character stands."""
        span = bisect_right(self.spans, place, key=lambda span: span.start) - 1
        middles = [abs((reading.first + reading.last) / 2 - span) for reading in self.readings]
        return middles.index(min(middles))


@dataclass(frozen=True)
class Taught:
    """Gold answers.

    Parameters
    ----------
    golds
        One a question that was answered well, in the order of the questions.
    dropped
        How many answers were empty, degenerate or not accepted.
    reused
        Whether an earlier run had given some of them.
    """

    golds: list[Gold]
    dropped: int
    reused: bool = field(default=False, compare=False)


def teach(
    teacher: Teacher,
    questions: Sequence[Question],
    work: WorkFolder,
    *,
    accept: Callable[[Question, str], bool] = lambda question, answer: True,
    out_of_time: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda _: None,
) -> Taught:
    """Answer all questions greedily with the document in context; answers of the user's stay as they are.

    The work folder keeps every finished chunk of answers.

    Parameters
    ----------
    accept
        Says whether an answer to a question is worth learning.
    out_of_time
        Asked after every chunk; where it says yes, the rest stays unanswered.
    progress
        Called with the number of questions just answered.
    """
    golds: dict[int, Gold] = {}
    answered, reused = 0, False
    assigned = teacher.assign(questions)
    places = list(assigned)
    for place in (places[number] for number in spread_out(len(places))):
        numbers = assigned[place]
        for start in range(0, len(numbers), CHUNK):
            chunk = numbers[start : start + CHUNK]
            asked = [questions[number] for number in chunk]
            prompts = [_prompt(teacher, question) for question in asked]
            own = [question.answers[:1] for question in asked]
            key = key_of(teacher.readings[place].text, prompts, own, teacher.top_k, LONGEST_ANSWER)
            name = f"gold-{place:05d}-{key}"
            kept = work.read_tensors(name)
            if kept is None:
                kept = _answers(teacher, teacher.prefix(place), asked, prompts), None
                work.write_tensors(name, kept[0])
            else:
                reused = True
            for number, gold in zip(chunk, _unpack(teacher, asked, kept[0]), strict=True):
                said = teacher.model.chat.decode(gold.tokens)
                if gold.question.answers or (
                    not degenerate(gold.tokens, teacher.model) and accept(gold.question, said)
                ):
                    golds[number] = gold
            answered += len(chunk)
            progress(len(chunk))
            if out_of_time():
                return _taught(golds, answered, reused)
    return _taught(golds, answered, reused)


def _taught(golds: dict[int, Gold], answered: int, reused: bool) -> Taught:
    return Taught([golds[number] for number in sorted(golds)], answered - len(golds), reused)


def _prompt(teacher: Teacher, question: Question) -> list[int]:
    """Give what the teacher is asked: with its sentence before it where a question's place is known."""
    chat = teacher.model.chat
    if not teacher.pointed or question.place is None:
        return chat.question_prompt(question.text)
    return chat.question_prompt(question.text, teacher.passages.around(question.place))


def _answers(
    teacher: Teacher, prefix: Prefix, questions: Sequence[Question], prompts: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """Answer one chunk; everything worth keeping, as tensors."""
    model, given = teacher.model, teacher.model.given(prefix)
    written = [number for number, question in enumerate(questions) if not question.answers]
    said = given.generate(
        [prompts[number] for number in written], max_tokens=LONGEST_ANSWER, top_k=teacher.top_k
    )
    generations = dict(zip(written, said, strict=True))
    own = [number for number in range(len(questions)) if number not in generations]
    examples = [
        Example(prompts[n], model.chat.answer_tokens(questions[n].answers[0])[:LONGEST_ANSWER]) for n in own
    ]
    generations |= {
        number: _as_if_said(example, scores, teacher.top_k)
        for number, example, scores in zip(own, examples, given.score(examples), strict=True)
    }
    return _pack([generations[number] for number in range(len(questions))])


def _as_if_said(example: Example, scores: Tensor, top_k: int) -> Generation:
    """Give a known answer with what the teacher thinks of it: scores are `[answer token, vocabulary]`."""
    top = scores.topk(top_k, dim=-1)
    chosen = torch.tensor(example.answer, device=scores.device).unsqueeze(1)
    return Generation(
        tokens=list(example.answer),
        finished=True,
        log_probabilities=scores.gather(1, chosen).squeeze(1).tolist(),
        top_ids=top.indices.tolist(),
        top_log_probabilities=top.values.tolist(),
    )


def _pack(generations: Sequence[Generation]) -> dict[str, Tensor]:
    return {
        "lengths": torch.tensor([len(generation.tokens) for generation in generations]),
        "tokens": torch.tensor([token for g in generations for token in g.tokens], dtype=torch.int32),
        "log_probabilities": torch.tensor([value for g in generations for value in g.log_probabilities]),
        "top_ids": torch.tensor([ids for g in generations for ids in g.top_ids], dtype=torch.int32),
        "top_log_probabilities": torch.tensor(
            [values for g in generations for values in g.top_log_probabilities]
        ),
    }


def _unpack(teacher: Teacher, questions: Sequence[Question], tensors: dict[str, Tensor]) -> list[Gold]:
    lengths = tensors["lengths"].tolist()
    parts = {name: torch.split(tensors[name], lengths) for name in tensors if name != "lengths"}
    return [
        Gold(
            question,
            *teacher.prompts(question),
            parts["tokens"][number].tolist(),
            parts["log_probabilities"][number],
            parts["top_ids"][number].long(),
            parts["top_log_probabilities"][number],
        )
        for number, question in enumerate(questions)
    ]


def degenerate(tokens: Sequence[int], model: LanguageModel) -> bool:
    """Whether an answer says nothing, or goes round in a circle."""
    said = [token for token in tokens if token not in model.chat.stop_tokens]
    if not model.chat.decode(said):
        return True
    triples = list(zip(said, said[1:], said[2:], strict=False))
    return len(triples) >= 12 and len(set(triples)) < len(triples) / 2
