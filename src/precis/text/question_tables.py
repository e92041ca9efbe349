"""Questions in tables: CSV, TSV and Excel workbooks, with the columns found by their names."""

from __future__ import annotations

import ast
import csv
import datetime
import io
import json
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from precis.errors import QuestionsError
from precis.text.question_columns import (
    answer_columns,
    is_question_name,
    is_surely_header,
    looks_like_header,
    option_columns,
    question_columns,
)
from precis.text.question_entry import Question, answers_of, made, short
from precis.text.question_lines import is_remark, unnumbered

TABLE_FORM = (
    "a first line that names the columns: one 'question' (or query, prompt, Frage …), and for the answers "
    "'answer' (or answers, reference, gold, Antwort …)"
)
# A title may stand above the line that names the columns.
_ROWS_ABOVE = 10
_DELIMITERS = "\t;,|"


@dataclass(frozen=True)
class Row:
    """One row of a table: where it is, for messages, and its cells."""

    where: str
    cells: tuple[Any, ...]

    @property
    def width(self) -> int:
        """How many cells it has, up to the last that is not empty."""
        return len(self.texts)

    @property
    def texts(self) -> list[str]:
        """Its cells as texts, without empty ones at the end."""
        texts = [str("" if cell is None else cell).strip() for cell in self.cells]
        while texts and not texts[-1]:
            texts.pop()
        return texts


def from_delimited(text: str, name: str) -> list[Question] | None:
    """Read a table in text; None where the text is none.

    It is one where a line names a question's column beside others, where every line has a question and then a
    further cell, where all lines have tabs, or where the file's name ends in `.csv`, `.tsv` or `.tab`.

    Raises
    ------
    QuestionsError
        It is a table, but it is damaged, or its columns are not known.
    """
    named = name.lower().endswith((".csv", ".tsv", ".tab"))
    text, given = _declared_delimiter(text)
    tables = [_parsed(text, delimiter, name) for delimiter in given or _DELIMITERS]
    for rows in tables:
        place = _header_place(rows, at_least=2)
        if place is not None and (named or _heads_a_table(rows[place], rows[place + 1 :])):
            return from_rows(rows, name)
    for rows in tables:
        if pairs := _pairs(rows):
            return pairs
    rows = _parsed(text, given or max(_DELIMITERS, key=text.lstrip().partition("\n")[0].count), name)
    if any(row.width > 1 for row in rows):
        return from_rows(rows, name) if named or _has_tabs(text) else None
    if not rows or not (named or is_question_name(rows[0].texts[0])):
        return None
    start = 1 if is_question_name(rows[0].texts[0]) else 0
    return [made(unnumbered(row.texts[0])) for row in rows[start:]]


def from_workbook(data: bytes, name: str) -> list[Question]:
    """Read all sheets of an Excel workbook that have a column of questions.

    Raises
    ------
    QuestionsError
        It is no workbook, is damaged, or no sheet has such a column.
    """
    sheets = {title: rows for title, rows in _sheets(data, name).items() if rows}
    if not sheets:
        raise QuestionsError(f"{name}: the workbook is empty; expected a sheet with {TABLE_FORM}")
    known = [rows for rows in sheets.values() if _header_place(rows, at_least=1) is not None]
    if not known:  # told of the first sheet, which is the one that people see
        return from_rows(next(iter(sheets.values())), name)
    return [question for rows in known for question in from_rows(rows, name)]


def from_rows(rows: Sequence[Row], name: str) -> list[Question]:
    """Make questions of a table's rows, below the one that names the columns.

    Raises
    ------
    QuestionsError
        No row names a column of questions, or a row does not fit the names.
    """
    place = _header_place(rows, at_least=1)
    if place is None:
        if pairs := _pairs(rows):
            return pairs
        if rows and all(row.width == 1 for row in rows):
            return [made(unnumbered(row.texts[0])) for row in rows]
        found = ", ".join(f"'{cell}'" for cell in rows[0].texts[:8]) if rows else "nothing"
        raise QuestionsError(f"{name}: found a table that begins with {found}; expected {TABLE_FORM}")
    names = _told_apart(rows[place].texts)
    candidates = question_columns(names)
    if len(candidates) > 1:
        raise QuestionsError(
            f"{name}: found {len(candidates)} columns of questions ({', '.join(candidates)}); expected one: "
            "name it 'question'"
        )
    if option_columns(names) and not answer_columns(names):
        raise QuestionsError(
            f"{name}: found columns of choices ({', '.join(option_columns(names).values())}), but none that "
            "says which is right; add a column 'answer' with the right one's letter or text"
        )
    records = (_record(row, names) for row in rows[place + 1 :] if any(row.texts))
    return [_question(record, candidates[0], where) for record, where in records]


def _record(row: Row, names: Sequence[str]) -> tuple[dict[str, Any], str]:
    if len(row.texts) > len(names):
        raise QuestionsError(
            f"{row.where}: found {len(row.texts)} cells under {len(names)} columns; put every cell that "
            "holds the separator between quotation marks"
        )
    cells = [*row.cells, *[None] * len(names)]
    return {name: cell for name, cell in zip(names, cells, strict=False) if name}, row.where


def _question(record: dict[str, Any], column: str, where: str) -> Question:
    text = str("" if record[column] is None else record[column]).strip()
    if not text:
        raise QuestionsError(f"{where}: found {short(record)}; expected a question under '{column}'")
    if "answer_char_ranges" in record:
        return made(unnumbered(text), _newsqa_answers(record))
    cells = {name: _listed(cell) for name, cell in record.items() if name != column}
    return made(unnumbered(text), answers_of(cells, answer_columns(list(cells)), where))


def _newsqa_answers(record: dict[str, Any]) -> list[str]:
    """Cut the answers out of the story: NewsQA's table has them as "294:297|None", one crowd worker each."""
    story = str(record.get("story_text") or "")
    ranges = [
        part.split(":") for part in str(record["answer_char_ranges"] or "").replace(",", "|").split("|")
    ]
    return [story[int(ends[0]) : int(ends[1])] for ends in ranges if len(ends) == 2 and ends[0].isdigit()]


def _listed(cell: Any) -> Any:
    """Take a cell apart that holds a list, as JSON or as Python writes it."""
    if not isinstance(cell, str) or not (cell.strip().startswith("[") and cell.strip().endswith("]")):
        return cell
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(cell.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) else cell
    return cell


def _declared_delimiter(text: str) -> tuple[str, str]:
    """Take off the line in which Excel says what separates cells ("sep=;")."""
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:
        return rest, first.strip()[4]
    return text, ""


def _parsed(text: str, delimiter: str, name: str) -> list[Row]:
    """Split text into rows; quotation marks that are none of CSV's stay as they are."""
    try:
        return list(_rows(text, delimiter, name, csv.QUOTE_MINIMAL))
    except csv.Error as cause:
        # what speaks for CSV is a name or a header; prose with a stray quotation mark is text
        plain = list(_rows(text, delimiter, name, csv.QUOTE_NONE))
        if delimiter != "\t" and _header_place(plain, at_least=2) is not None:
            raise QuestionsError(
                f"{name}: damaged CSV ({cause}); a cell with quotation marks in it stands between quotation "
                "marks, with the inner ones doubled"
            ) from cause
        return plain


def _rows(text: str, delimiter: str, name: str, quoting: Any) -> Iterator[Row]:
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # a cell may hold a document
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            quoting=quoting,
            strict=True,
            skipinitialspace=True,
        )
        for cells in reader:
            row = Row(f"{name}, line {reader.line_num}", tuple(_without_frame(cells, delimiter)))
            if any(row.texts) and not _is_rule(row) and not _is_remark(row):
                yield row
    finally:
        csv.field_size_limit(limit)


def _without_frame(cells: list[str], delimiter: str) -> list[str]:
    """Take off the outer bars of a Markdown table."""
    framed = delimiter == "|" and len(cells) > 2 and not cells[0].strip() and not cells[-1].strip()
    return cells[1:-1] if framed else cells


def _is_rule(row: Row) -> bool:
    """Whether it is the line below the header of a Markdown table."""
    return all(cell and set(cell) <= {"-", ":", " "} and "--" in cell for cell in row.texts)


def _is_remark(row: Row) -> bool:
    return row.width == 1 and is_remark(row.texts[0])


def _header_place(rows: Sequence[Row], at_least: int) -> int | None:
    """Find the row that names the columns: with answers before without, and a longer one before a title."""
    named = [
        (bool(answer_columns(row.texts)), row.width > 1, -place)
        for place, row in enumerate(rows[:_ROWS_ABOVE])
        if row.width >= at_least and looks_like_header(row.texts)
    ]
    return -max(named)[2] if named else None


def _heads_a_table(header: Row, below: Sequence[Row]) -> bool:
    """Whether lines are a table's rows: prose has a comma now and then, and can begin like a header."""
    fitting = sum(1 < row.width <= header.width for row in below)
    return is_surely_header(header.texts) or 2 * fitting > len(below)


def _pairs(rows: Sequence[Row]) -> list[Question]:
    """Read rows that are, without a header, a question and its answers each; a number may stand before it."""
    cells = [_without_number(row.texts) for row in rows]
    if not all(len(row) > 1 and _asks(row[0]) and not any(map(_asks, row[1:])) for row in cells):
        return []
    return [made(unnumbered(row[0]), row[1:]) for row in cells]


def _without_number(texts: list[str]) -> list[str]:
    return texts[1:] if texts and texts[0].strip("#. ").isdigit() else texts


def _asks(text: str) -> bool:
    return text.endswith(("?", "？", "؟"))


def _told_apart(names: Sequence[str]) -> list[str]:
    """Give columns of the same name numbers, so that none hides another."""
    return [
        f"{name} {names[:place].count(name) + 1}" if name and name in names[:place] else name
        for place, name in enumerate(names)
    ]


def _has_tabs(text: str) -> bool:
    return all("\t" in line.strip() for line in text.split("\n") if line.strip())


def _sheets(data: bytes, name: str) -> dict[str, list[Row]]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with warnings.catch_warnings():  # of drop-down lists and the like, which hold no text
            warnings.simplefilter("ignore")
            # not read_only: it trusts the extent that a sheet claims, which some programs write wrongly
            book = load_workbook(io.BytesIO(data), data_only=True)
        return {
            sheet.title: [
                Row(f"{name}, sheet {sheet.title}, row {number}", tuple(_shown(cell) for cell in cells))
                for number, cells in enumerate(sheet.iter_rows(), start=1)
                if any(cell.value is not None for cell in cells)
            ]
            for sheet in book.worksheets
        }
    # openpyxl checks little of what it reads: a damaged part ends in whatever error comes first
    except (
        InvalidFileException,
        zipfile.BadZipFile,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        SyntaxError,
        RuntimeError,
        NotImplementedError,
    ) as cause:
        raise QuestionsError(
            f"{name}: a workbook that cannot be read ({cause}); save it again as .xlsx or as CSV"
        ) from cause


def _shown(cell: Any) -> Any:
    """Give a cell's value as Excel shows it, where that is simple: dates, percentages, whole numbers."""
    value = cell.value
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, int | float) and not isinstance(value, bool) and "%" in str(cell.number_format):
        return f"{100 * value:.10g}%"
    return value if isinstance(value, str | bool | int | float) or value is None else str(value)
