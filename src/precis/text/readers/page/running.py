"""Running heads and feet: lines that repeat at the edges of pages, within the sentences that cross them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from precis.text.readers.page.lines import Row

# How many lines at each edge of a page may be heads or feet.
_DEPTH = 4
_NUMBER = re.compile(r"\d+")


def take_out(pages: list[list[Row]], pictured: Sequence[bool]) -> tuple[list[str], list[int]]:
    """Take running lines out of pages, in place.

    Parameters
    ----------
    pages
        The lines of every page.
    pictured
        For every page, whether it is a picture: only of such a page may nothing be left.

    Returns
    -------
    list of str, list of int
        Each of the lines once, as it first stood; and the pages (from 0) that they were taken from.
    """
    said: dict[str, str] = {}
    touched: list[int] = []
    for number, places in sorted(_running(pages).items()):
        rows = pages[number]
        if len(places) == len(rows) and not pictured[number]:
            continue
        touched.append(number)
        for place in sorted(places):
            said.setdefault(_shape(text_of(rows[place])), text_of(rows[place]))
        pages[number] = [row for at, row in enumerate(rows) if at not in places]
    return list(said.values()), touched


def text_of(row: Row) -> str:
    """Give a line's text."""
    return " ".join(segment.text for segment in row)


def _shape(text: str) -> str:
    return _NUMBER.sub("#", text)


def _running(pages: Sequence[list[Row]]) -> dict[int, set[int]]:
    """Find, for each page that has some, the places of its running lines."""
    found: dict[int, set[int]] = {}
    for from_top in (True, False):
        left = set(range(len(pages)))
        for depth in range(_DEPTH):
            # A line is at the edge where all that lie beyond it are running, too.
            left = _repeating(pages, {n for n in left if depth < len(pages[n])}, depth, from_top)
            for number in left:
                found.setdefault(number, set()).add(_place(pages[number], depth, from_top))
    return found


def _place(rows: list[Row], depth: int, from_top: bool) -> int:
    return depth if from_top else len(rows) - 1 - depth


def _repeating(pages: Sequence[list[Row]], numbers: set[int], depth: int, from_top: bool) -> set[int]:
    """Of the pages `numbers`, those whose line at this depth another page near them has in the same place."""
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number in sorted(numbers):
        rows = pages[number]
        place = _place(rows, depth, from_top)
        if _is_apart(rows, place, from_top):
            groups[_shape(text_of(rows[place])), round(rows[place][0].y / 4)].append(number)
    found: set[int] = set()
    for group in groups.values():
        values = {
            number: [
                int(value)
                for value in _NUMBER.findall(text_of(pages[number][_place(pages[number], depth, from_top)]))
            ]
            for number in group
        }
        for at, number in enumerate(group):
            # Heads of left and right pages take turns.
            for other in group[at + 1 : at + 3]:
                if other - number <= 2 and _same(values[number], values[other], other - number):
                    found |= {number, other}
    return found


def _same(one: Sequence[int], other: Sequence[int], pages: int) -> bool:
    """Whether the numbers of two lines are equal, or count the pages."""
    return all(b - a in (0, pages) for a, b in zip(one, other, strict=True))


def _is_apart(rows: list[Row], place: int, from_top: bool) -> bool:
    """Whether a wider gap than those of the text divides the lines at the edge from it.

    The header of a table that goes on overleaf repeats as well, close above its rows.
    """
    gaps = [below[0].y - above[0].y for above, below in pairwise(rows)]
    if not gaps:
        return True
    usual = sorted(gaps)[len(gaps) // 2] if len(gaps) > 3 else min(gaps)
    near = gaps[place : place + _DEPTH] if from_top else gaps[max(place - _DEPTH, 0) : place]
    return any(gap > 1.3 * usual or gap > 2.2 * rows[place][0].size for gap in near)
