"""Tables on a page: those with ruled lines, and those whose cells merely stand below each other."""

from __future__ import annotations

import re
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from precis.text.readers import markdown
from precis.text.readers.page.glyphs import Rule
from precis.text.readers.page.hyphens import join
from precis.text.readers.page.lines import Row, Segment, is_right_to_left

# Points by which lines that meet may miss each other.
_SLACK = 3.0
# With more lines that do not touch, a page is a drawing.
_MOST_GROUPS = 300
# Of the font's size: in two justified lines, narrower gaps may lie below each other by chance.
_CERTAIN_GAP = 2.0
_MARKER = re.compile(r"#+|//|[•·▪▫◦‣–—*✓-]|\(?\w{1,4}[.)]|\(?\d+(?:\.\d+)*[.)]?")

Cells = list[list[list[Segment]]]


@dataclass
class Grid:
    """Ruled lines that hang together.

    Attributes
    ----------
    xs, ys
        Where its columns and rows begin and end.
    rules
        Its lines.
    """

    xs: list[float]
    ys: list[float]
    rules: list[Rule] = field(repr=False)

    def holds(self, segment: Segment) -> bool:
        """Whether a piece of text lies within it."""
        middle, height = (segment.x0 + segment.x1) / 2, segment.y - 0.3 * segment.size
        return self.xs[0] <= middle <= self.xs[-1] and self.ys[0] <= height <= self.ys[-1]

    def cell_of(self, segment: Segment) -> tuple[int, int]:
        """Give the row and column of a piece of text; of cells that are merged, the first."""
        middle, height = (segment.x0 + segment.x1) / 2, segment.y - 0.3 * segment.size
        row = min(max(bisect_right(self.ys, height) - 1, 0), len(self.ys) - 2)
        column = min(max(bisect_right(self.xs, middle) - 1, 0), len(self.xs) - 2)
        y = (self.ys[row] + self.ys[row + 1]) / 2
        while column and not self._is_ruled(self.xs[column], y, upright=True):
            column -= 1
        x = (self.xs[column] + self.xs[column + 1]) / 2
        while row and not self._is_ruled(self.ys[row], x, upright=False):
            row -= 1
        return row, column

    def _is_ruled(self, at: float, along: float, upright: bool) -> bool:
        for rule in self.rules:
            if rule.is_vertical != upright:
                continue
            place, start, end = (rule.x0, rule.y0, rule.y1) if upright else (rule.y0, rule.x0, rule.x1)
            if abs(place - at) <= _SLACK and start - _SLACK <= along <= end + _SLACK:
                return True
        return False


def with_ruled_tables(rows: Sequence[Row], rules: Sequence[Rule]) -> list[Row]:
    """Put a table in the place of the lines that each grid of rules holds."""
    found = list(rows)
    for grid in _grids(rules):
        inside = [segment for row in found for segment in row if not segment.is_table and grid.holds(segment)]
        made = _ruled_table(grid, inside)
        if made is not None:
            taken = set(map(id, inside))
            found = [kept for row in found if (kept := [each for each in row if id(each) not in taken])]
            found.append([made])
    return sorted(found, key=lambda row: row[0].top)


def _grids(rules: Sequence[Rule]) -> list[Grid]:
    grids = []
    for group in _connected(rules):
        upright = [rule for rule in group if rule.is_vertical]
        level = [rule for rule in group if not rule.is_vertical]
        if not upright or not level:
            continue
        # Tables are often open at their sides: then the ends of the lines are where they end.
        xs = _distinct([rule.x0 for rule in upright] + [end for rule in level for end in (rule.x0, rule.x1)])
        ys = _distinct([rule.y0 for rule in level] + [end for rule in upright for end in (rule.y0, rule.y1)])
        if len(xs) > 2 and len(ys) > 1:
            grids.append(Grid(xs, ys, group))
    return grids


def _connected(rules: Sequence[Rule]) -> list[list[Rule]]:
    """Group the rules that touch each other."""
    groups: list[tuple[Rule, list[Rule]]] = []
    for rule in sorted(rules, key=lambda rule: (rule.y0, rule.x0)):
        touching = [group for group in groups if _touch(group[0], rule)]
        merged = [rule, *(each for group in touching for each in group[1])]
        box = Rule(
            min(each.x0 for each in merged),
            min(each.y0 for each in merged),
            max(each.x1 for each in merged),
            max(each.y1 for each in merged),
        )
        groups = [group for group in groups if group not in touching]
        groups.append((box, merged))
        if len(groups) > _MOST_GROUPS:
            return []
    return [group for _, group in groups]


def _touch(one: Rule, other: Rule) -> bool:
    return (
        one.x0 - _SLACK <= other.x1
        and other.x0 - _SLACK <= one.x1
        and one.y0 - _SLACK <= other.y1
        and other.y0 - _SLACK <= one.y1
    )


def _distinct(places: Sequence[float]) -> list[float]:
    found: list[float] = []
    for place in sorted(places):
        if not found or place - found[-1] > _SLACK:
            found.append(place)
    return found


def _ruled_table(grid: Grid, inside: Sequence[Segment]) -> Segment | None:
    cells: Cells = [[[] for _ in grid.xs[1:]] for _ in grid.ys[1:]]
    for segment in inside:
        row, column = grid.cell_of(segment)
        cells[row][column].append(segment)
    cells = _filled([part for row in cells for part in _parted(row)])
    if len(cells) < 2 or len(cells[0]) < 2:
        return None
    return _made(cells, inside)


def _filled(cells: Cells) -> Cells:
    """Leave out rows and columns that are empty from end to end."""
    rows = [row for row in cells if any(row)]
    columns = [number for number in range(len(cells[0])) if any(row[number] for row in rows)]
    return [[row[number] for number in columns] for row in rows]


def _parted(row: list[list[Segment]]) -> Cells:
    """Divide a ruled row that holds several lines of the table: its cells have their lines in common."""
    lines = [sorted({round(segment.y) for segment in cell}) for cell in row if cell]
    if len(lines) < 2 or any(len(each) < 2 for each in lines[:1]):
        return [row]
    starts = lines[0]
    numeric = any(_is_number(segment.text) for cell in row for segment in cell)
    aligned = all(any(abs(y - start) <= 2 for start in starts) for each in lines for y in each)
    if not aligned or not (numeric or len(starts) > 3):
        return [row]
    return [[[s for s in cell if abs(s.y - start) <= 2] for cell in row] for start in starts]


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[^\w]*\d[\d.,:\s'’%–-]*\S{0,3}", text))


def _made(cells: Cells, inside: Sequence[Segment]) -> Segment:
    texts = [[_cell_text(cell) for cell in row] for row in cells]
    if is_right_to_left("".join(map("".join, texts))):
        texts = [row[::-1] for row in texts]
    return Segment(
        markdown.table(texts, header=True).rstrip(),
        min(each.x0 for each in inside),
        max(each.x1 for each in inside),
        min(each.top for each in inside),
        max(each.y for each in inside),
        statistics.median(each.size for each in inside),
        is_table=True,
    )


def _cell_text(cell: Sequence[Segment]) -> str:
    lines: list[list[Segment]] = []
    for segment in sorted(cell, key=lambda each: each.y):
        if lines and abs(lines[-1][0].y - segment.y) <= 2:
            lines[-1].append(segment)
        else:
            lines.append([segment])
    texts = [" ".join(each.text for each in sorted(line, key=lambda each: each.x0)) for line in lines]
    return join(texts).replace("\n", " ")


def aligned_table(columns: Sequence[tuple[float, float]], rows: Sequence[Row]) -> Segment | None:
    """Make a table of lines whose pieces stand in columns, or None where they are none.

    Parameters
    ----------
    columns
        The left and right edge of each.
    rows
        The lines.
    """
    cells: Cells = [[[] for _ in columns] for _ in rows]
    for number, row in enumerate(rows):
        for segment in row:
            cells[number][_column_of(segment, columns)].append(segment)
    size = statistics.median(each.size for row in rows for each in row)
    gap = min(right[0] - left[1] for left, right in pairwise(columns))
    if not _is_table(cells, is_wide=gap > _CERTAIN_GAP * size):
        return None
    return _made(_with_wrapped_lines(cells), [segment for row in rows for segment in row])


def _column_of(segment: Segment, columns: Sequence[tuple[float, float]]) -> int:
    middle = (segment.x0 + segment.x1) / 2
    return min(
        range(len(columns)),
        key=lambda n: (
            abs((columns[n][0] + columns[n][1]) / 2 - middle)
            if not (columns[n][0] - 0.1 <= middle <= columns[n][1] + 0.1)
            else -1.0
        ),
    )


def _is_table(cells: Cells, is_wide: bool) -> bool:
    full = [row for row in cells if sum(map(bool, row)) > 1]
    alone = sum(bool(row[0]) and sum(map(bool, row)) == 1 for row in cells)
    if len(full) < (2 if is_wide else 3) or alone > len(full):
        return False
    first = [row[0][0].text for row in full if row[0]]
    if len(cells[0]) == 2:
        # The numbers of a list, and the labels of a form, go on in the same line.
        markers = sum(bool(_MARKER.fullmatch(text)) for text in first)
        labels = sum(text.endswith(":") for text in first)
        return markers < len(first) and labels < 0.5 * len(first)
    return True


def _with_wrapped_lines(cells: Cells) -> Cells:
    """Put lines that go on with a cell's text into the row where it began."""
    done: Cells = []
    heights = [min(each.y for cell in row for each in cell) for row in cells]
    pitch = min(
        (b - a for (a, b), row in zip(pairwise(heights), cells[1:], strict=True) if row[0]), default=0.0
    )
    for row in cells:
        if done and _goes_on(done[-1], row, pitch):
            for above, cell in zip(done[-1], row, strict=True):
                above.extend(cell)
        else:
            done.append([list(cell) for cell in row])
    return done


def _goes_on(above: list[list[Segment]], row: list[list[Segment]], pitch: float) -> bool:
    """Whether a row goes on with the text of the row above: closer than rows are, or within a sentence."""
    if row[0] or not above[0]:
        return False
    pairs = [(over, cell) for over, cell in zip(above, row, strict=True) if cell]
    if any(not over or _is_number(cell[0].text) for over, cell in pairs):
        return False
    return all(
        cell[0].y - over[-1].y < 0.85 * pitch
        or (cell[0].text[:1].islower() and cell[0].y - over[-1].y < 1.6 * cell[0].size)
        for over, cell in pairs
    )
