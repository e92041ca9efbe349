"""XLSX: every sheet with its tables, the numbers as the cells show them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from precis.text.readers import markdown
from precis.text.readers.packages import Package
from precis.text.readers.reader import Pages, Reader, UnreadableError

if TYPE_CHECKING:
    from openpyxl.cell import Cell
    from openpyxl.worksheet.worksheet import Worksheet

OLD_OFFICE_MAGIC = b"\xd0\xcf\x11\xe0"
# A formula whose result was never computed: some programs write only the formula.
_UNCOMPUTED = re.compile(rb"<f(?:\s[^>]*)?(?:/>|>[^<]*</f>)(?:<v\s*/>|<v></v>)?</c>")
_NUMBER = re.compile(r"[#0?][#0?,]*(?:\.([0#?]+))?(%?)")
_LITERAL = re.compile(r'"([^"]*)"|\\(.)')
_DIGITS = 15  # beyond these, what a cell stores is the noise of binary fractions


class Sheets(Reader):
    """Sheets with their names as headings, the first row of every table as its header."""

    name = "XLSX"
    suffixes = (".xlsx", ".xlsm", ".xltx")

    def pages(self, data: bytes) -> list[str]:
        """Give all sheets as one page."""
        return self.read(data).texts

    def read(self, data: bytes) -> Pages:
        """Give all sheets as one page, and tell of hidden ones, charts, and formulas without a result."""
        from openpyxl import load_workbook

        if data.startswith(OLD_OFFICE_MAGIC):
            raise UnreadableError(
                "locked with a password, or an old .xls; save it as XLSX without a password"
            )
        try:
            package = Package(data)
            book = load_workbook(io.BytesIO(data), data_only=True)
            shown = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
            texts = [text for sheet in shown if (text := _sheet(sheet))]
            notices = list(
                _notices(package, [sheet.title for sheet in book.worksheets if sheet not in shown])
            )
        except UnreadableError:
            raise
        except Exception as cause:  # whatever a parser raises, it is the file that it could not parse
            raise UnreadableError("a damaged or cut-off XLSX; open it and save it again") from cause
        return Pages(["\n\n".join(texts)], notices)


def _notices(package: Package, hidden: Sequence[str]) -> Iterator[str]:
    if hidden:
        yield f"hidden sheets are left out: {', '.join(hidden)}"
    sheets = [name for name in package.names if re.fullmatch(r"xl/worksheets/[^/]+\.xml", name)]
    if missing := sum(len(_UNCOMPUTED.findall(package.read(name))) for name in sheets):
        yield f"{missing} formulas without a stored result come out empty; open it in Excel and save it again"
    if charts := sum(1 for name in package.names if re.fullmatch(r"xl/charts/chart[^/]*\.xml", name)):
        yield f"not read: {charts} charts; what stands in them is not in the text"


def _sheet(sheet: Worksheet) -> str:
    rows = [[_shown(cell) for cell in row] for row in sheet.iter_rows()]
    blocks = [_block(rows[start:end]) for start, end in _between_empty(rows)]
    return "\n\n".join([f"# {sheet.title}", *blocks]) if blocks else ""


def _between_empty(rows: Sequence[Sequence[str]]) -> Iterator[tuple[int, int]]:
    """Give the half-open ranges of rows that no empty row parts."""
    start = 0
    for place in range(len(rows) + 1):
        if place == len(rows) or not any(rows[place]):
            if place > start:
                yield start, place
            start = place + 1


def _block(rows: Sequence[Sequence[str]]) -> str:
    """Write a table; lines with one cell above it are its title."""
    columns = [place for place in range(max(map(len, rows))) if any(row[place] for row in rows)]
    table = [[row[place] for place in columns] for row in rows]
    first = next((at for at, row in enumerate(table) if sum(map(bool, row)) > 1), len(table))
    title = [" ".join(filter(None, row)) for row in table[:first]]
    lines = [*title, *([""] if title and table[first:] else [])]
    return "\n".join(lines + markdown.table(table[first:], header=True).splitlines())


def _shown(cell: Cell) -> str:
    """Return what a cell shows."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, (datetime, date, time, timedelta)):
        return _moment(value)
    if isinstance(value, (int, float)):
        return shown_number(value, cell.number_format or "General")
    return str(value)


def _moment(value: datetime | date | time | timedelta) -> str:
    """Return a date in the one form that no country reads differently."""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")
    if isinstance(value, timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}" + (f":{seconds:02}" if seconds else "")
    return value.isoformat()


def shown_number(value: float, form: str) -> str:
    """Write a number in a spreadsheet's format: its decimals, thousands, percent and currency.

    In a format that says more (fractions, powers, conditions), the number comes as it is stored.
    """
    sections = form.split(";")
    has_own_negative = value < 0 and len(sections) > 1 and bool(sections[1])
    section = sections[1] if has_own_negative else sections[0]
    section = re.sub(r"\[\$([^\]-]*)[^\]]*\]", r'"\1"', section)  # a currency with its country
    section = re.sub(r"\[[^\]]*\]|_.|\*.", "", section)  # colours; spaces as wide as a character; filling
    bare = _LITERAL.sub("", section)
    found = _NUMBER.search(bare)
    if found is None or re.search(r"[A-Za-z@/?]", bare) or len(_NUMBER.findall(bare)) != 1:
        return _plain(value)
    whole, _, _ = found[0].removesuffix("%").partition(".")
    if whole.endswith(","):  # in thousands or millions
        return _plain(value)
    text = _in_digits(abs(value) if has_own_negative else value, whole, found[1] or "", bool(found[2]))
    around = _LITERAL.sub(lambda literal: literal[1] or literal[2] or "", section)
    return around.replace(found[0].removesuffix("%"), text, 1).strip()


def _in_digits(value: float, whole: str, decimals: str, percent: bool) -> str:
    """Write a number as digits; `whole` and `decimals` say where a digit must stand (0) and may (#)."""
    amount = Decimal(repr(value)) * (100 if percent else 1)
    rounded = amount.quantize(Decimal(1).scaleb(-len(decimals)), ROUND_HALF_UP)
    text = f"{rounded:{',' * (',' in whole)}.{len(decimals)}f}"
    front, _, back = text.partition(".")
    needed = len(decimals.rstrip("#"))
    back = back[:needed] + back[needed:].rstrip("0")
    front = front.zfill(whole.count("0") + front.startswith("-"))
    return f"{front}.{back}" if back else front


def _plain(value: float) -> str:
    if isinstance(value, int) or (value.is_integer() and abs(value) < 10**_DIGITS):
        return str(int(value))
    return f"{value:.{_DIGITS}g}"
