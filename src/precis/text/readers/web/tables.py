"""Tables of a page: those of data in Markdown, those for layout and of code lines as what they hold."""

from __future__ import annotations

import re
from itertools import pairwise

from precis.text.readers import markdown
from precis.text.readers.web.frame import Frame
from precis.text.readers.web.space import LINE, PARAGRAPH, kept, shown

_MOST_SPANNED = 1000


def is_line_numbers(text: str) -> bool:
    """Whether a text is nothing but numbers that count up, or empty."""
    numbers = text.split()
    if not all(number.isdecimal() for number in numbers):
        return False
    return all(int(b) == int(a) + 1 for a, b in pairwise(numbers))


def close_cell(frame: Frame, outer: Frame) -> None:
    """Add a cell to its row, a caption to its table."""
    if outer.tag in ("tr", "table"):
        outer.items.append(frame)
    else:
        outer.parts += [PARAGRAPH, *frame.parts, PARAGRAPH]


def close_row(frame: Frame, outer: Frame) -> None:
    """Add a row to its table."""
    frame.items = _without_line_numbers(frame.items)
    if outer.tag == "table":
        outer.items.append(frame)
    else:
        outer.parts += [PARAGRAPH, *(part for cell in frame.items for part in (*cell.parts, " ")), PARAGRAPH]


def _without_line_numbers(cells: list[Frame]) -> list[Frame]:
    """Drop a cell that only numbers the lines of the code in the cell beside it."""
    if len(cells) != 2 or not is_line_numbers(_unfenced(cells[0])):
        return cells
    lines = len(_unfenced(cells[0]).split())
    code = shown(cells[1].text)
    is_code = code.startswith("```") or "\n" in _unfenced(cells[1])
    return (
        cells[1:]
        if lines > 1 and is_code and abs(len(_unfenced(cells[1]).split("\n")) - lines) <= 1
        else cells
    )


def _unfenced(cell: Frame) -> str:
    return re.sub(r"^`{3,}\S*\n|\n`{3,}$", "", shown(cell.text))


def close_table(frame: Frame, outer: Frame) -> None:
    """Write a table into the text around it."""
    for caption in (item for item in frame.items if item.tag == "caption"):
        outer.parts += [PARAGRAPH, *caption.parts, PARAGRAPH]
    rows = [row for row in frame.items if row.tag == "tr" and row.items]
    if not rows:
        outer.parts += [PARAGRAPH, *frame.parts, PARAGRAPH]
        return
    if _is_layout(frame, rows):
        outer.parts.append(PARAGRAPH + _laid_out(rows) + PARAGRAPH)
        return
    grid = _grid(rows)
    if grid:
        outer.parts.append(PARAGRAPH + kept(markdown.table(grid, header=True).rstrip()) + PARAGRAPH)


def _is_layout(frame: Frame, rows: list[Frame]) -> bool:
    if (frame.attributes.get("role") or "") in ("presentation", "none") or all(
        len(row.items) == 1 for row in rows
    ):
        return True
    # What has lines of its own is code or a table: cells of data have none.
    return any("\n" in shown(cell.text) and "\x1d" in cell.text for row in rows for cell in row.items)


def _laid_out(rows: list[Frame]) -> str:
    cells = [cell for row in rows for cell in row.items]
    texts = [text for cell in cells if (text := shown(cell.text))]
    is_listing = all(len(row.items) == 1 for row in rows) and not any("\n" in text for text in texts)
    return (LINE if is_listing else PARAGRAPH).join(map(kept, texts))


def _grid(rows: list[Frame]) -> list[list[str]]:
    """Place the cells: one that spans several is written in the first of them."""
    placed: dict[tuple[int, int], str] = {}
    for number, row in enumerate(rows):
        column = 0
        for cell in row.items:
            while (number, column) in placed:
                column += 1
            wide, tall = _span(cell, "colspan"), min(_span(cell, "rowspan"), len(rows) - number)
            for down in range(tall):
                for right in range(wide):
                    placed[number + down, column + right] = ""
            placed[number, column] = shown(cell.text)
            column += wide
    width = 1 + max((column for (_, column), text in placed.items() if text), default=-1)
    grid = [[placed.get((number, column), "") for column in range(width)] for number in range(len(rows))]
    return [row for row in grid if any(row)]


def _span(cell: Frame, name: str) -> int:
    value = cell.attributes.get(name) or "1"
    return min(max(int(value), 1), _MOST_SPANNED) if value.strip().isdecimal() else 1
