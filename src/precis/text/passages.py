"""The passages of a document: whole sentences of one page, found by a question's words.

Answers are made from σ and from a passage: σ carries what the document is about, the passage the exact words.
Passages are whole sentences, since pieces that break them are misread, and short, since a small model answers
worse from more (docs/experiments.md has the measurements).
"""

from __future__ import annotations

import logging
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from precis.model.chat import Chat
from precis.text.bm25 import BM25
from precis.text.document import Document
from precis.text.language import Language
from precis.text.spans import spans_of

# A passage takes in the next sentence of its paragraph as long as it has no more tokens than these.
PASSAGE_TOKENS = 48
# A sentence of more tokens (a list without stops, say) is cut.
MOST_TOKENS = 128
# A line of its own that is no longer, and ends like no sentence, is a heading.
LONGEST_HEADING = 80

_PARAGRAPH_END = re.compile(r"\n\s*\n\s*")
_STOP = re.compile(r"[.!?:;,。！？：；，…]['\"”’)\]]*$")
_HEADING_MARK = re.compile(r"^\s{0,3}#{1,6}\s+")

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for its smallest steps to be told


@dataclass(frozen=True)
class Sentence:
    """A sentence of a document.

    Parameters
    ----------
    start, end
        Its characters in the document's text.
    tokens
        How many it has.
    paragraph
        The number of its paragraph.
    heading
        The heading that it stands under; empty where there is none.
    """

    start: int
    end: int
    tokens: int
    paragraph: int
    heading: str


@dataclass(frozen=True)
class Passage:
    """A passage that was found.

    Parameters
    ----------
    text
        Its words.
    source, page
        The file, and the page in it, that it stands on.
    start, end
        Its characters in the document's text.
    score
        BM25's: comparable within one document and question only.
    """

    text: str
    source: str
    page: int
    start: int
    end: int
    score: float

    @property
    def place(self) -> str:
        """Say where it stands."""
        return f"{self.source}, page {self.page}"


class Passages:
    """A document's passages; together they are all of its text but the headings.

    They are ranked by BM25 (Robertson & Zaragoza, 2009; the package bm25s, Lù, 2024, arXiv 2407.03618) over
    the stems of their words and of their heading's.

    Parameters
    ----------
    document
        What is searched.
    chat
        Counts tokens.
    limit
        How many tokens a passage has at most, where it is more than a sentence.
    """

    def __init__(self, document: Document, chat: Chat, limit: int = PASSAGE_TOKENS) -> None:
        self.document = document
        self.language = Language.of(document.text)
        self.sentences = list(_sentences(document, self.language, chat))
        self.spans = list(_windows(self.sentences, limit))
        self._index = BM25()
        words = [
            self.language.words(f"{self.sentences[first].heading} {self.text(number)}")
            for number, (first, _) in enumerate(self.spans)
        ]
        # without a single word (a page of dashes, say) there is nothing to index
        self._searchable = any(words)
        if self._searchable:
            self._index.index(words, show_progress=False)

    def text(self, number: int) -> str:
        """Give the words of a passage."""
        start, end = self.characters(number)
        return self.document.text[start:end]

    def characters(self, number: int) -> tuple[int, int]:
        """Say where in the document's text a passage lies."""
        first, last = self.spans[number]
        return self.sentences[first].start, self.sentences[last].end

    def sentence(self, place: int) -> str:
        """Give the words of a sentence, by its number."""
        sentence = self.sentences[place]
        return self.document.text[sentence.start : sentence.end]

    def in_context(self, place: int) -> str:
        """Give a sentence with the one before it in its paragraph, which tells what "it" and "they" are."""
        sentence = self.sentences[place]
        before = self.sentences[place - 1] if place else sentence
        start = before.start if before.paragraph == sentence.paragraph else sentence.start
        return self.document.text[start : sentence.end]

    def around(self, character: int) -> str:
        """Give the sentence that a character of the document stands in, with the one before it."""
        return self.in_context(self.sentence_at(character))

    def sentence_at(self, character: int) -> int:
        """Give the number of the sentence that a character of the document stands in."""
        return max(0, bisect_right(self._starts, character) - 1)

    @cached_property
    def _starts(self) -> list[int]:
        return [sentence.start for sentence in self.sentences]

    def tokens(self, number: int) -> int:
        """How many tokens a passage has."""
        first, last = self.spans[number]
        return sum(sentence.tokens for sentence in self.sentences[first : last + 1])

    def ranked(self, question: str) -> list[int]:
        """Give the numbers of all passages, the most suitable first; of equals, the earlier first."""
        return _best_first(self.scores(question))

    def scores(self, question: str) -> list[float]:
        """Score every passage: 0 where it has no word of the question."""
        known = self._index.vocab_dict if self._searchable else {}
        words = [word for word in self.language.words(question) if word in known]
        if not words:
            return [0.0] * len(self.spans)
        return [float(score) for score in self._index.get_scores(words)]

    def find(self, question: str, count: int) -> tuple[Passage, ...]:
        """Give the `count` best passages at most, the best first; none that has no word of the question."""
        scores = self.scores(question)
        order = _best_first(scores)[: max(0, count)]
        return tuple(self.passage(number, scores[number]) for number in order if scores[number] > 0)

    def coverage(self, question: str, text: str) -> float:
        """Give the share of a question's words that stand in a text, weighed by how rare they are here.

        Words that say nothing by themselves ("who", "the") do not count.
        """
        words = set(self.language.words(question)) - self.language.common
        weights = {word: self._rarity(word) for word in words}
        whole = sum(weights.values())
        held = words & set(self.language.words(text))
        return sum(weights[word] for word in held) / whole if whole else 0.0

    def _rarity(self, word: str) -> float:
        """Give a word's inverse document frequency, as BM25 weighs it."""
        count, found = len(self.spans), self._frequencies[word]
        return math.log(1 + (count - found + 0.5) / (found + 0.5))

    @cached_property
    def _frequencies(self) -> Counter[str]:
        return Counter(
            word for number in range(len(self.spans)) for word in set(self.language.words(self.text(number)))
        )

    def best_starts(self, questions: Sequence[str]) -> list[int]:
        """Give, for every question, the character at which its best passage starts."""
        return [self.characters(self.ranked(question)[0])[0] for question in questions]

    def passage(self, number: int, score: float = 0.0) -> Passage:
        """Give a passage with its place."""
        start, end = self.characters(number)
        page = self.document.page_at(start)
        return Passage(self.text(number), page.source, page.number, start, end, round(score, 4))


def _best_first(scores: Sequence[float]) -> list[int]:
    """Order numbers by their scores; of equals, the earlier first."""
    return sorted(range(len(scores)), key=lambda number: -scores[number])


def _sentences(document: Document, language: Language, chat: Chat) -> Iterator[Sentence]:
    """Cut a document into sentences; headings are none, but are noted with the sentences below them."""
    text, heading, paragraph = document.text, "", 0
    held: list[Sentence] = []  # headings with nothing below them are text like any other
    for page in document.pages:
        for start, end in _paragraphs(text, page.start, page.end):
            paragraph += 1
            found = [
                Sentence(first, last, tokens, paragraph, heading)
                for sentence in language.sentences(text, start, end)
                for first, last, tokens in _short_enough(text, *sentence, chat)
            ]
            if title := _heading(text[start:end]):
                heading, held = title, [*held, *found]
                continue
            yield from found
            held = []
        yield from held
        held = []


def _heading(line: str) -> str:
    """Give the words of a heading; empty where the paragraph is none."""
    if "\n" in line:
        return ""
    if _HEADING_MARK.match(line):
        return _HEADING_MARK.sub("", line).strip()
    return line if len(line) <= LONGEST_HEADING and not _STOP.search(line) else ""


def _paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    place = start
    for found in _PARAGRAPH_END.finditer(text, start, end):
        if found.start() > place:
            yield place, found.start()
        place = found.end()
    if place < end:
        yield place, end


def _short_enough(text: str, start: int, end: int, chat: Chat) -> Iterator[tuple[int, int, int]]:
    """Cut a sentence where it is too long to be shown."""
    for span in spans_of(text[start:end], chat, MOST_TOKENS):
        yield start + span.start, start + span.end, span.tokens


def _windows(sentences: Sequence[Sentence], limit: int) -> Iterator[tuple[int, int]]:
    """Join neighbouring sentences of one paragraph, as (first, last)."""
    first = 0
    while first < len(sentences):
        last, tokens = first, sentences[first].tokens
        while (
            last + 1 < len(sentences)
            and sentences[last + 1].paragraph == sentences[first].paragraph
            and tokens + sentences[last + 1].tokens <= limit
        ):
            last += 1
            tokens += sentences[last].tokens
        yield first, last
        first = last + 1
