"""The pieces of a line: plain, raised, lowered, struck out; and how a line is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from precis.text.readers.word.equations import raised

# What is raised after a number and yet no power: 1st, 2ᵉ, 3º.
_ORDINAL_ENDINGS = {"st", "nd", "rd", "th", "er", "re", "ère", "e", "ème", "º", "ª", "o", "a"}
# These carry their meaning whether they are raised or not.
_RAISED_ANYWAY = re.compile(r"[®©™°′″]+")


@dataclass(frozen=True)
class Piece:
    """Some text of a line.

    Attributes
    ----------
    text
        What it says.
    kind
        "^" raised, "_" lowered, "~" struck out, or empty.
    """

    text: str
    kind: str = ""


def line(pieces: Iterable[Piece]) -> str:
    """Join pieces: without its mark, a power, an index or a withdrawn sum would be another number."""
    written = ""
    for kind, group in groupby((piece for piece in pieces if piece.text), key=lambda piece: piece.kind):
        text = "".join(piece.text for piece in group)
        written += _marked(text, kind, written) if kind else text
    return written


def _marked(text: str, kind: str, before: str) -> str:
    inside = text.strip()
    if not inside:
        return text
    left, right = text[: text.index(inside)], text[text.index(inside) + len(inside) :]
    if kind == "~":
        return f"{left}~~{inside}~~{right}"
    is_ordinal = inside.casefold() in _ORDINAL_ENDINGS and before[-1:].isdigit()
    if kind == "^" and (is_ordinal or _RAISED_ANYWAY.fullmatch(inside)):
        return text
    return f"{left}{raised(kind, inside)}{right}"
