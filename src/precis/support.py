"""The passages of a document that bear on a question, so that an answer can be checked.

They are found by the question's words (BM25) in the text that the artifact keeps. They are not what the
answer was made from: that is σ. Each is one sentence or a few of one page, short enough to read at a glance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from precis.artifact import Artifact
from precis.chat import Chat
from precis.document import Document
from precis.errors import ArtifactError
from precis.passages import Passages
from precis.spans import Span, spans_of

MOST_SENTENCES = 3
# A passage takes in the next sentence as long as it has no more characters than these.
GOOD_LENGTH = 200
# A passage that is shorter, a heading say, is read together with what follows.
SHORT_LENGTH = 40
# A sentence of more tokens (a list without stops, say) is cut.
MOST_TOKENS = 128

_PARAGRAPH_END = re.compile(r"\n\s*\n\s*")
_STOP = re.compile(r"[.!?。！？]")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|(?<=[。！？])\s*|\n")


@dataclass(frozen=True)
class Passage:
    """A passage that was found.

    Parameters
    ----------
    text
        Its words.
    source, page
        The file, and the page in it, that it stands on.
    score
        BM25's: comparable within one document and question only.
    """

    text: str
    source: str
    page: int
    score: float

    @property
    def place(self) -> str:
        """Say where it stands."""
        return f"{self.source}, page {self.page}"


class Support:
    """Finds passages of one document.

    Parameters
    ----------
    document
        What is searched.
    chat
        Counts tokens.
    """

    def __init__(self, document: Document, chat: Chat) -> None:
        self.document = document
        self._passages = Passages(document.text, chat, list(_spans(document, chat)))

    @classmethod
    def of(cls, artifact: Artifact, chat: Chat) -> Support:
        """Search the text that an artifact keeps.

        Raises
        ------
        ArtifactError
            It keeps none.
        """
        document = artifact.document()
        if document is None:
            raise ArtifactError(
                f"The text of {artifact.manifest.document['name']} is not kept in this file, so no passages "
                "can be shown from it. Compile the document again with --keep-text, or ask without passages."
            )
        return cls(document, chat)

    def find(self, question: str, count: int) -> tuple[Passage, ...]:
        """Give the `count` best passages at most, the best first; none that has no word of the question."""
        scores = self._passages.scores(question)
        order = sorted(range(len(scores)), key=lambda number: -scores[number])[: max(0, count)]
        return tuple(self._passage(number, scores[number]) for number in order if scores[number] > 0)

    def _passage(self, number: int, score: float) -> Passage:
        span = self._passages.spans[number]
        page = self.document.page_at(span.start)
        text = self.document.text[span.start : span.end].strip()
        return Passage(text, page.source, page.number, round(score, 4))


def _spans(document: Document, chat: Chat) -> Iterator[Span]:
    """Cut a document into passages, none of which goes over the end of a page."""
    for page in document.pages:
        held: Span | None = None  # a heading that waits for its paragraph
        for start, end in _cuts(_PARAGRAPH_END, document.text, page.start, page.end):
            spans = list(_of_paragraph(document.text, held.start if held else start, end, chat))
            held = spans.pop() if len(spans) == 1 and _is_short(spans[0]) else None
            yield from spans
        if held is not None:
            yield held


def _of_paragraph(text: str, start: int, end: int, chat: Chat) -> Iterator[Span]:
    """Join a paragraph's sentences to passages."""
    open_: Span | None = None
    sentences = 0
    for first, last in _cuts(_SENTENCE_END, text, start, end):
        for span in _short_enough(text, first, last, chat):
            ends = bool(_STOP.search(text, span.start, span.end))
            if open_ is None:
                open_, sentences = span, int(ends)
                continue
            joined = Span(open_.start, span.end, open_.tokens + span.tokens)
            fits = joined.end - joined.start <= GOOD_LENGTH and sentences < MOST_SENTENCES
            if fits or (_is_short(open_) and not sentences):
                open_, sentences = joined, sentences + ends
            else:
                yield open_
                open_, sentences = span, int(ends)
    if open_ is not None:
        yield open_


def _is_short(span: Span) -> bool:
    return span.end - span.start < SHORT_LENGTH


def _short_enough(text: str, start: int, end: int, chat: Chat) -> Iterator[Span]:
    """Cut a sentence where it is too long to be shown."""
    for span in spans_of(text[start:end], chat, MOST_TOKENS):
        yield Span(start + span.start, start + span.end, span.tokens)


def _cuts(ends: re.Pattern[str], text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Give the pieces of a stretch of text between such ends, the end with the piece before it."""
    place = start
    for found in ends.finditer(text, start, end):
        if found.end() > place:
            yield place, found.end()
            place = found.end()
    if place < end:
        yield place, end
