"""The order in which the pieces of a page are read: columns one after another, tables row by row."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from itertools import pairwise

from precis.text.readers.page.glyphs import WIDE_GAP
from precis.text.readers.page.lines import Row, Segment, is_right_to_left
from precis.text.readers.page.tables import aligned_table

Span = tuple[float, float]
_LEADER = re.compile(r"(?:\. ?){4,}")


def in_order(rows: Sequence[Row]) -> list[Segment]:
    """Give the lines and the tables of a page in reading order, one piece each."""
    if all(len(row) == 1 for row in rows) and not any(_beside(a[0], b[0]) for a, b in pairwise(rows)):
        return [segment for row in rows for segment in row]  # a page of plain lines needs no more
    found: list[Segment] = []
    for band in _bands(rows):
        found += _read_band(band)
    return found


def _beside(one: Segment, other: Segment) -> bool:
    """Whether two pieces on different baselines stand side by side."""
    apart = other.x0 - one.x1 > WIDE_GAP * one.size or one.x0 - other.x1 > WIDE_GAP * one.size
    return apart and other.top < one.y and one.top < other.y


def _bands(rows: Sequence[Row]) -> list[list[Row]]:
    """Divide the lines where the gaps between their columns end."""
    bands: list[list[Row]] = []
    for row in rows:
        if bands and _fits(bands[-1], row):
            bands[-1].append(row)
        elif bands and len(row) == len(bands[-1][-1]) == 1 and _beside(bands[-1][-1][0], row[0]):
            # Columns whose lines are not level begin: the line above was the first of one.
            bands.append([bands[-1].pop(), row])
        else:
            bands.append([row])
    return [band for band in bands if band]


def _fits(band: list[Row], row: Row) -> bool:
    had = columns_of(band)
    last = band[-1]
    if any(each.is_table for each in (*row, *last)):
        return False
    if len(had) == 1:
        return len(row) == 1 and (not _beside(last[0], row[0]) or len(columns_of([*band, row])) > 1)
    if len(columns_of([*band, row])) < 2:
        return False
    pitch = row[0].y - last[0].y
    usual = (
        statistics.median(b[0].y - a[0].y for a, b in pairwise(band)) if len(band) > 1 else 1.8 * row[0].size
    )
    return pitch <= (1.35 if len(row) == 1 else 2.2) * max(usual, 1.2 * row[0].size) + 1


def columns_of(rows: Sequence[Row]) -> list[Span]:
    """Give the spans that text fills in at least one of the lines; what no line fills divides them."""
    spans = sorted((each.x0, each.x1) for row in rows for each in row)
    gap = WIDE_GAP * min(each.size for row in rows for each in row)
    found = [spans[0]]
    for left, right in spans[1:]:
        if left - found[-1][1] < gap:
            found[-1] = (found[-1][0], max(right, found[-1][1]))
        else:
            found.append((left, right))
    return found


def _read_band(band: list[Row]) -> list[Segment]:
    spans = columns_of(band)
    if len(spans) == 1 or len(band) == 1:
        return [_line(row) for row in band]
    columns = [[_within(row, span) for row in band] for span in spans]
    lines = [[_line(part) for part in column if part] for column in columns]
    if all(map(_is_prose, lines)):
        backwards = is_right_to_left("".join(each.text for column in lines for each in column))
        found: list[Segment] = []
        for column in reversed(columns) if backwards else columns:
            found += in_order([part for part in column if part])
        return found
    after = _sentences_after(band)
    made = aligned_table(spans, band[: len(band) - after])
    if made is None:
        return [_line(row) for row in band]
    return [made, *(_line(row) for row in band[len(band) - after :])]


def _sentences_after(band: list[Row]) -> int:
    """How many of the last lines are no row of a table, but a short sentence close below it."""
    for after, row in enumerate(reversed(band)):
        if len(row) > 1 or not row[0].text.endswith((".", ":", "!", "?")):
            return after
    return 0


def _within(row: Row, span: Span) -> Row:
    return [each for each in row if span[0] - 0.1 <= each.x0 and each.x1 <= span[1] + 0.1]


def _line(row: Row) -> Segment:
    """Make one piece of a line's pieces."""
    if len(row) == 1:
        return row[0]
    texts = [each.text for each in row]
    if is_right_to_left("".join(texts)):
        texts.reverse()
    first = row[0]
    return Segment(" ".join(texts), first.x0, row[-1].x1, first.top, first.y, max(each.size for each in row))


def _is_prose(lines: Sequence[Segment]) -> bool:
    """Whether the lines of a column read on from one to the next; those of a table end in every cell.

    The entries of an index do not, but dots lead to their page numbers.
    """
    if sum(bool(_LEADER.search(each.text)) for each in lines) >= max(2, 0.4 * len(lines)):
        return True
    if len(lines) < 2 or statistics.median(len(each.text) for each in lines) < 14:
        return False
    left, right = min(each.x0 for each in lines), max(each.x1 for each in lines)
    going_on = sum(b.text[:1].islower() or a.text.endswith("-") for a, b in pairwise(lines))
    full = sum(each.x1 - left > 0.8 * (right - left) for each in lines[:-1])
    has_case = any(each.text.lower() != each.text.upper() for each in lines)
    if not has_case:
        return full >= 0.7 * (len(lines) - 1)
    return going_on >= 0.3 * (len(lines) - 1) and full >= 0.4 * (len(lines) - 1)
