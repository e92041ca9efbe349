"""Word's tables: their rows and cells, every cell under its column."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from precis.text.readers.word.xml import attribute, child, children, is_on, number, tag

_WIDEST = 1000  # more columns than Word allows: a damaged file could ask for any number of empty cells


def rows_of(table: Element) -> Iterator[Element]:
    """Give the rows of a table, those in content controls too; not those of tables within it."""
    for node in table:
        if tag(node) == "tr":
            if child(node, "trPr", "del") is None:
                yield node
        elif tag(node) in {"sdt", "sdtContent", "customXml", "ins", "moveTo"}:
            yield from rows_of(node)


def cells_of(row: Element) -> Iterator[Element]:
    """Give the cells of a row, those in content controls too."""
    for node in row:
        if tag(node) == "tc":
            yield node
        elif tag(node) in {"sdt", "sdtContent", "customXml"}:
            yield from cells_of(node)


def places(row: Element) -> Iterator[Element | None]:
    """Give a row column by column: a cell, or None where one from the left or from above reaches in."""
    properties = child(row, "trPr")
    yield from [None] * min(number(child(properties, "gridBefore"), 0), _WIDEST)
    for cell in cells_of(row):
        above = child(cell, "tcPr", "vMerge")
        yield None if above is not None and attribute(above) != "restart" else cell
        yield from [None] * (min(number(child(cell, "tcPr", "gridSpan"), 1), _WIDEST) - 1)
    yield from [None] * min(number(child(properties, "gridAfter"), 0), _WIDEST)


def has_header(table: Element) -> bool:
    """Whether the first row is a header: it repeats on every page, or the table's style sets it off."""
    first = next(rows_of(table), None)
    if first is not None and is_on(child(first, "trPr", "tblHeader")):
        return True
    look = child(table, "tblPr", "tblLook")
    return child(table, "tblPr", "tblStyle") is not None and (
        attribute(look, "firstRow") in {"1", "true"} or bool(_hexadecimal(attribute(look)) & 0x20)
    )


def cell_of_single(table: Element) -> Element | None:
    """Return the cell of a table that has no other: it is a frame around text, not a table."""
    cells = [cell for row in rows_of(table) for cell in children(row, "tc")]
    return cells[0] if len(cells) == 1 else None


def _hexadecimal(text: str | None) -> int:
    try:
        return int(text or "0", 16)
    except ValueError:
        return 0
