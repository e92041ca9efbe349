"""Questions in plain text, one on each line, as people write lists: numbered, with dashes, as Q and A."""

from __future__ import annotations

import re

from precis.errors import QuestionsError
from precis.text.question_columns import is_question_name
from precis.text.question_entry import Question, made

# "[1] Where …?" stays as it is: a number in brackets is how documents cite.
_NUMBER = re.compile(
    r"(?:№\s*\d{1,4}[.):]?|#\d{1,4}[.):]?|#\s*\d{1,4}[.):]|\d{1,3}(?:\.\d{1,3})*[.):]|\d{1,3}\.\)|\(\d{1,3}\)|\(?[a-h]\))\s+(?=\S)"
)
_BULLET = re.compile(r"[-*+•·‣–—]\s+(?=\S)")
_ASKED = re.compile(
    r"(?:q|question|frage|f)\s*(?:(?:no\.?|nr\.?|#)?\s*\d{1,4}\s*[.:)]|:)\s*(?=\S)", re.IGNORECASE
)
_ANSWERED = re.compile(r"(?:a|ans|answer|antwort)\s*\d{0,4}\s*:\s*", re.IGNORECASE)
_ANSWER_FOLLOWS = re.compile(r"(?<=[?？])\s+(?:a|ans|answer|antwort)\s*\d{0,4}\s*:\s*", re.IGNORECASE)


def from_lines(lines: list[tuple[str, str]]) -> list[Question]:
    """Read one question a line, without what numbers it; a line "A: …" has the answer to the one before.

    Parameters
    ----------
    lines
        Where each line is, for messages, and its text.

    Raises
    ------
    QuestionsError
        An answer stands before any question.
    """
    if lines and is_question_name(lines[0][1]):
        lines = lines[1:]
    found: list[tuple[str, list[str]]] = []
    for where, whole in lines:
        line, *same_line = _ANSWER_FOLLOWS.split(whole, maxsplit=1)
        answer = _ANSWERED.match(_unbulleted(line))
        if answer is None:
            found.append((_question_in(line), same_line))
        elif found:
            found[-1][1].append(_unbulleted(line)[answer.end() :])
        else:
            raise QuestionsError(f"{where}: found the answer '{line[:80]}' before any question; ask first")
    return [made(text, answers) for text, answers in found]


def is_remark(line: str) -> bool:
    """Whether a line is a remark: it begins with a # that numbers nothing."""
    return line.lstrip().startswith("#") and not _NUMBER.match(line.strip())


def unnumbered(text: str) -> str:
    """Take off the number before a question: "1. ", "2) ", "#3 "."""
    return _NUMBER.sub("", text.strip(), count=1) if _NUMBER.match(text.strip()) else text.strip()


def _question_in(line: str) -> str:
    bare = unnumbered(_unbulleted(line))
    asked = _ASKED.match(bare)
    return unnumbered(bare[asked.end() :]) if asked else bare


def _unbulleted(line: str) -> str:
    bare = line.strip()
    bullet = _BULLET.match(bare)
    return bare[bullet.end() :] if bullet else bare
