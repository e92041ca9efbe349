"""Superscripts, subscripts and footnote marks in plain text: 10^-6, CO_2, [3].

Without a mark, 10 to the 6th would be read as 106, and the third footnote to 1841 as the number 18413.
"""

from __future__ import annotations

import re
from collections.abc import Set

_NUMBERS = re.compile(r"\[?\d{1,3}(?:\s*[,–-]\s*\d{1,3})*\]?")
_SYMBOLS = re.compile(r"[^\w\s+=−–-]+")
_SIMPLE = re.compile(r"[+-]?\w+(?:[.,]\d+)?")
# 1st, 2nd, 3ème, 1º
_ORDINALS = {
    "st",
    "nd",
    "rd",
    "th",
    "er",
    "re",
    "e",
    "ème",
    "eme",
    "o",
    "a",
    "º",
    "ª",
    "ter",
    "de",
    "tm",
    "sm",
}


def raised(text: str, before: str, notes: Set[str] = frozenset()) -> str:
    """Write a superscript.

    Parameters
    ----------
    text
        The superscript.
    before
        What stands before it in its line.
    notes
        The marks that notes on the same page begin with: they tell 1841[3] from 10^3.
    """
    text = text.strip()
    if not text or _SYMBOLS.fullmatch(text) or (text.lower() in _ORDINALS and before[-1:].isalnum()):
        return text
    if _is_note(text, before, notes):
        return f"[{text.strip('[]')}]" + ("" if before.strip() else " ")
    return "^" + _grouped(text)


def lowered(text: str) -> str:
    """Write a subscript."""
    text = text.strip()
    # Signs such as * stand lower in some fonts than in others.
    return "_" + _grouped(text) if any(map(str.isalnum, text)) else text


def _is_note(text: str, before: str, notes: Set[str]) -> bool:
    if not before.strip() or (text.startswith("[") and text.endswith("]")):
        return bool(re.fullmatch(r"\[?\w{1,3}\]?", text)) or bool(_NUMBERS.fullmatch(text))
    if text in notes and before[-1].isdigit():
        return True
    if not _NUMBERS.fullmatch(text):
        return text in notes and bool(re.search(r"[^\W\d_]{2}$", before))
    # Units and variables are short; what follows a longer word or a full stop is no power.
    after_word = re.search(r"[^\W\d_]{4}$|\S[.,;:!?]$|[\"'”’»“]$", before)
    # A year has no powers.
    after_year = re.search(r"(?:^|[^\w.,×*^=/+-])\s*(?:1\d|20)\d\d$", before)
    return bool(after_word or after_year) or (text in notes and not re.search(r"(?:^|[^\w])\w$", before))


def _grouped(text: str) -> str:
    text = re.sub(r"^[−–‐]", "-", text)
    return text if _SIMPLE.fullmatch(text) else f"{{{text}}}"
