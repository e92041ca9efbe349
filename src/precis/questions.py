"""z, the questions that σ is trained on: the user's own, and self-study.

In self-study the model writes questions about every span of the document. Asked plainly, a small
model writes rubbish. Two things help it: worked turns (passage, question) before the passage, and a
forced beginning of the question, which is also what makes the questions differ.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from precis.chat import Turn
from precis.document import Document
from precis.language_model import LanguageModel, Sampling
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
        Asked after every span; where it says yes, the study ends with what it has.
    progress
        Called with the number of questions just written.
    """
    spans = spans_of(document.text, model.chat) if count else []
    shares = _shares(count, [span.tokens for span in spans])
    worked_tokens, _ = model.chat.conversation(_WORKED, "")
    worked = model.prefill(worked_tokens) if spans else model.empty_prefix()
    written: dict[int, list[str]] = {}
    for turn, counts in enumerate(_rounds(shares) if brief_first else [shares]):
        for place in spread_out(len(spans)):
            if not counts[place]:
                continue
            passage = document.text[spans[place].start : spans[place].end].strip()
            texts = _study_span(model, worked, passage, place, counts[place], seed + turn * 7919, work)
            written[place] = written.get(place, []) + texts
            progress(counts[place])
            if out_of_time() and len(_gather(written).questions) >= ENOUGH:
                return _gather(written)
    return _gather(written)


def _rounds(shares: Sequence[int]) -> list[list[int]]:
    """Split the spans' shares into a brief round and the rest."""
    brief = [min(BRIEF, share) for share in shares]
    return [brief, [share - few for share, few in zip(shares, brief, strict=True)]]


def _study_span(
    model: LanguageModel,
    worked: Prefix,
    passage: str,
    place: int,
    count: int,
    seed: int,
    work: WorkFolder,
) -> list[str]:
    before, reading = model.chat.conversation(_WORKED, _REQUEST + passage)
    beginnings = _beginnings(count, seed + place)
    key = key_of(before, reading, beginnings, seed, place, LONGEST_QUESTION, TEMPERATURE)
    kept = work.read_json(f"questions-{place:05d}-{key}")
    if kept is not None:
        return list(kept)
    given = model.given(model.prefill(reading, after=worked))
    generations = given.generate(
        [model.chat.encode(beginning) for beginning in beginnings],
        max_tokens=LONGEST_QUESTION,
        sampling=Sampling(
            temperature=TEMPERATURE, seed=seed * 100_003 + place, stops=model.chat.tokens_with("?\n")
        ),
    )
    texts = [
        model.chat.decode([*model.chat.encode(beginning), *generation.tokens])
        for beginning, generation in zip(beginnings, generations, strict=True)
    ]
    work.write_json(f"questions-{place:05d}-{key}", texts)
    return texts


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
