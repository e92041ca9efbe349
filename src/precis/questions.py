"""z, the questions that σ is trained on: the user's own, and self-study.

In self-study the model writes questions about every span of the document. Asked plainly, a small
model writes rubbish. Two things help it: worked turns (passage, question) before the passage, and a
forced beginning of the question, which is also what makes the questions differ.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from precis.chat import Turn
from precis.decoding import ROWS_AT_ONCE, Request, Sampling
from precis.document import Document
from precis.language_model import LanguageModel
from precis.prefix import Prefix
from precis.spans import spans_of, spread_out
from precis.work_folder import WorkFolder, key_of

QUESTIONS_A_ROOT = 10
FEWEST, MOST = 64, 4096
LONGEST_QUESTION = 32
TEMPERATURE = 0.7
# Even a compile that is out of time asks this many, or there is nothing to learn from.
ENOUGH = 8
# Questions a span in the first round, where time is short.
BRIEF = 8

BEGINNINGS = (
    "What",
    "Who",
    "When",
    "Where",
    "Why",
    "How",
    "How many",
    "Which",
    "What is",
    "What was",
    "What did",
    "In what",
    "What kind of",
    "What happened",
    "Who was",
    "How did",
    "How much",
    "What are",
    "According to the text, what",
    "What does",
)

_WORKED = (
    Turn(
        "The Sable Bridge was opened in 1874 by the engineer Ada Quill. It replaced a ferry that had "
        "carried 300 people a day. Because its cables are coated in zinc, they do not rust.",
        "Who opened the Sable Bridge in 1874?",
    ),
    Turn(
        "Kestrels hover above open fields while they look for voles. They nest in holes of old trees, "
        "and lay four to six eggs in April.",
        "Where do kestrels make their nests?",
    ),
)
_REQUEST = "Write one question that this text answers.\n\nText: "


@dataclass(frozen=True)
class Question:
    """A question and where it came from.

    Parameters
    ----------
    text
        The question.
    span
        The number of the span that it was written about; None for the user's own.
    """

    text: str
    span: int | None = None


@dataclass(frozen=True)
class Study:
    """What self-study gave: the questions, and how many were dropped as degenerate or repeated."""

    questions: list[Question]
    dropped: int


def automatic_count(document_tokens: int) -> int:
    """How many questions a document of that length gets: 10 times the root of its tokens, within bounds.

    More questions raise recovery (docs/experiments.md) and take time in proportion; the root keeps the
    time of a document of a few pages to minutes on two cores, and that of a book bearable.
    """
    return min(MOST, max(FEWEST, round(QUESTIONS_A_ROOT * math.sqrt(document_tokens))))


def brief_count(model: LanguageModel, document: Document) -> int:
    """How many questions make the shortest self-study: a few for every span."""
    return BRIEF * len(spans_of(document.text, model.chat))


def self_study(
    model: LanguageModel,
    document: Document,
    count: int,
    seed: int,
    work: WorkFolder,
    *,
    brief_first: bool = False,
    out_of_time: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda _: None,
) -> Study:
    """Let the model write about `count` questions, the same number for every span.

    Finished spans are kept in the work folder. Spans are visited in an order that leaves no part of
    the document out for long, so that a run that is stopped early has asked about all parts.

    Parameters
    ----------
    brief_first
        Whether to go round the document twice, with a few questions a span in the first round: time that
        runs out then leaves no part unasked. It costs the reading of every span once more.
    out_of_time
        Asked after every batch of spans; where it says yes, the study ends with what it has.
    progress
        Called with the number of questions just written.
    """
    spans = spans_of(document.text, model.chat) if count else []
    shares = _shares(count, [span.tokens for span in spans])
    writer = _Writer(model, [document.text[span.start : span.end].strip() for span in spans], work)
    written: dict[int, list[str]] = {}
    for turn, counts in enumerate(_rounds(shares) if brief_first else [shares]):
        for batch in _batches([(place, counts[place]) for place in spread_out(len(spans)) if counts[place]]):
            for place, texts in writer.write(batch, seed + turn * 7919).items():
                written[place] = written.get(place, []) + texts
            progress(sum(share for _, share in batch))
            if out_of_time() and len(_gather(written).questions) >= ENOUGH:
                return _gather(written)
    return _gather(written)


def _batches(shares: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Join spans until their questions fill a step."""
    batch: list[tuple[int, int]] = []
    for place, count in shares:
        if batch and sum(share for _, share in batch) + count > ROWS_AT_ONCE:
            yield batch
            batch = []
        batch.append((place, count))
    if batch:
        yield batch


def _rounds(shares: Sequence[int]) -> list[list[int]]:
    """Split the spans' shares into a brief round and the rest."""
    brief = [min(BRIEF, share) for share in shares]
    return [brief, [share - few for share, few in zip(shares, brief, strict=True)]]


class _Writer:
    """Lets the model write questions about passages, those about several passages together."""

    def __init__(self, model: LanguageModel, passages: Sequence[str], work: WorkFolder) -> None:
        self.model = model
        self.passages = passages
        self.work = work
        self._stops = model.chat.tokens_with("?\n")
        self._worked: Prefix | None = None

    def write(self, batch: Sequence[tuple[int, int]], seed: int) -> dict[int, list[str]]:
        """Write questions that the work folder does not hold yet.

        Parameters
        ----------
        batch
            Places of passages, and how many questions to write about each.
        seed
            Decides the beginnings and what is sampled.

        Returns
        -------
        By place, what was written.
        """
        chat = self.model.chat
        texts: dict[int, list[str]] = {}
        names: dict[int, str] = {}
        requests: list[Request] = []
        begun: list[tuple[int, str]] = []
        for place, count in batch:
            before, reading = chat.conversation(_WORKED, _REQUEST + self.passages[place])
            beginnings = _beginnings(count, seed + place)
            key = key_of(before, reading, beginnings, seed, place, LONGEST_QUESTION, TEMPERATURE)
            names[place] = f"questions-{place:05d}-{key}"
            kept = self.work.read_json(names[place])
            if kept is not None:
                texts[place] = list(kept)
                continue
            prefix = self.model.prefill(reading, after=self._worked_turns(before))
            requests += self._requests(prefix, beginnings, seed * 100_003 + place * MOST)
            begun += [(place, beginning) for beginning in beginnings]
        new: dict[int, list[str]] = {}
        for (place, beginning), said in zip(begun, self.model.generate(requests), strict=True):
            new.setdefault(place, []).append(chat.decode([*chat.encode(beginning), *said.tokens]))
        for place, written in new.items():
            self.work.write_json(names[place], written)
        return texts | new

    def _requests(self, prefix: Prefix, beginnings: Sequence[str], seed: int) -> list[Request]:
        return [
            Request(
                prefix,
                self.model.chat.encode(beginning),
                LONGEST_QUESTION,
                Sampling(temperature=TEMPERATURE, seed=seed + number, stops=self._stops),
            )
            for number, beginning in enumerate(beginnings)
        ]

    def _worked_turns(self, tokens: Sequence[int]) -> Prefix:
        """Let the model read what stands before every passage, once."""
        if self._worked is None:
            self._worked = self.model.prefill(tokens)
        return self._worked


def _shares(count: int, tokens: Sequence[int]) -> list[int]:
    """Split a count over spans by their lengths, every span getting one at least."""
    whole = sum(tokens)
    shares, given, passed = [], 0, 0
    for length in tokens:
        passed += length
        share = max(1, round(count * passed / whole) - given)
        shares.append(share)
        given += share
    return shares


def _beginnings(count: int, seed: int) -> list[str]:
    """Draw forced beginnings, each about equally often."""
    draw = random.Random(seed)
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += draw.sample(BEGINNINGS, len(BEGINNINGS))
    return drawn[:count]


def _gather(written: dict[int, list[str]]) -> Study:
    """Clean the texts, and drop what is degenerate or was asked before."""
    texts = [(place, cleaned(text)) for place in sorted(written) for text in written[place]]
    questions = without_repeats(Question(text, place) for place, text in texts if text is not None)
    return Study(questions, len(texts) - len(questions))


def without_repeats(questions: Iterable[Question]) -> list[Question]:
    """Keep the first of the questions that differ at most in case and punctuation."""
    kept: dict[str, Question] = {}
    for question in questions:
        kept.setdefault(re.sub(r"\W+", " ", question.text.lower()).strip(), question)
    return list(kept.values())


def cleaned(text: str) -> str | None:
    """Cut a written text to its first question; None where it holds none worth asking."""
    first = text.strip().split("\n")[0].strip()
    end = first.find("?")
    if end < 0:
        return None
    question = " ".join(first[: end + 1].split())
    words = re.findall(r"\w+", question.lower())
    repeats = len(words) - len(set(words))
    if len(words) < 4 or repeats > len(words) / 2:
        return None
    return question
