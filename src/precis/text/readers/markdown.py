"""Tables as Markdown, as every reader writes them."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], header: bool) -> str:
    """Write rows of cells, each row as wide as the widest; without padding, which is many tokens of nothing.

    Parameters
    ----------
    rows
        The cells' texts; what would break a row is written so that it does not.
    header
        Whether the first row says what the columns are.
    """
    width = max(map(len, rows), default=0)
    lines = [_row([*map(cell_text, row), *[""] * (width - len(row))]) for row in rows]
    if header and lines:
        lines.insert(1, _row(["---"] * width))
    return "".join(f"{line}\n" for line in lines)


def cell_text(text: str) -> str:
    """Return a cell's text in one line, without what would end the cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _row(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)
