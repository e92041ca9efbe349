"""Cutting a document into spans of a paragraph or two, none of it left out.

Self-study asks about every span, and a document longer than the model's window is read a few spans at
a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from precis.model.chat import Chat

SPAN_TOKENS = 256

# From coarse to fine: paragraphs, lines, sentences, words.
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|(?<=[。！？])\s*")
_BREAKS = (re.compile(r"\n\n+"), re.compile(r"\n"), _SENTENCE_END, re.compile(r"\s+"))


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` of a document's text, and how many tokens they are."""

    start: int
    end: int
    tokens: int


def spans_of(text: str, chat: Chat, limit: int = SPAN_TOKENS) -> list[Span]:
    """Cut a text at paragraph, line or sentence ends into spans of at most `limit` tokens.

    Together they cover all the text; what has no such end (an encoded picture, say) is cut anywhere.
    """
    merged: list[Span] = []
    for piece in _pieces(text, 0, len(text), chat, limit, 0):
        if merged and merged[-1].tokens + piece.tokens <= limit:
            last = merged.pop()
            piece = Span(last.start, piece.end, last.tokens + piece.tokens)
        merged.append(piece)
    return merged


def _pieces(text: str, start: int, end: int, chat: Chat, limit: int, level: int) -> Iterator[Span]:
    tokens = len(chat.encode_plainly(text[start:end]))
    if tokens <= limit or end - start == 1:
        if tokens:
            yield Span(start, end, tokens)
        return
    if level == len(_BREAKS):
        middle = (start + end) // 2
        yield from _pieces(text, start, middle, chat, limit, level)
        yield from _pieces(text, middle, end, chat, limit, level)
        return
    place = start
    for found in _BREAKS[level].finditer(text, start, end):
        yield from _pieces(text, place, found.end(), chat, limit, level + 1)
        place = found.end()
    yield from _pieces(text, place, end, chat, limit, level + 1)


def spread_out(count: int) -> Iterator[int]:
    """Visit 0 … count−1 so that every beginning of the order is spread over the whole."""
    stride = max(1, round(count**0.5))
    for first in range(stride):
        yield from range(first, count, stride)
