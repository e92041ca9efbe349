"""Questions that a user brings: JSON, tables, published question sets, or one question on each line of text.

The format is told by the content, since the same questions go by `.json`, `.jsonl`, `.csv` and `.txt`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from precis.errors import QuestionsError
from precis.text.question_entry import QUESTION_FORM, Question, merged
from precis.text.question_files import decoded, is_workbook, read_bytes
from precis.text.question_lines import from_lines, is_remark
from precis.text.question_shapes import SquadArticle, from_json, squad_articles
from precis.text.question_tables import from_delimited, from_workbook

__all__ = [
    "FILE_FORMS",
    "QUESTION_FORM",
    "Question",
    "SquadArticle",
    "merged",
    "read_questions",
    "squad_documents",
]

FILE_FORMS = (
    "JSON lines, a JSON list, SQuAD JSON or another published set, CSV, TSV or Excel with a first line that "
    "names the columns, or text with one question on each line"
)


def read_questions(path: str | Path) -> list[Question]:
    """Read the questions of a file in any of the known formats.

    Of published sets it knows SQuAD, FairytaleQA, NewsQA, QuALITY, QASPER, LongHealth, NarrativeQA and
    TriviaQA. A question that comes twice is kept at its first place, with the answers of both.

    Raises
    ------
    QuestionsError
        When the file cannot be read, is not UTF-8 or UTF-16, is malformed or holds no question.
    """
    path = Path(path)
    data = read_bytes(path)
    if is_workbook(data, str(path)):
        questions = from_workbook(data, str(path))
    else:
        questions = _from_text(_text_of(data, path), str(path))
    if not questions:
        raise QuestionsError(f"{path}: the file holds no question; expected {FILE_FORMS}")
    return merged(questions)


def squad_documents(path: str | Path) -> list[SquadArticle]:
    """Read every article of a SQuAD file (1.1 or 2.0) with its questions, for benchmarks.

    Raises
    ------
    QuestionsError
        When the file cannot be read, is not UTF-8, or is not SQuAD JSON with at least one article.
    """
    path = Path(path)
    try:
        content = json.loads(_text_of(read_bytes(path), path))
    except (ValueError, RecursionError) as cause:
        if isinstance(cause, QuestionsError):
            raise
        raise QuestionsError(f"{path}: expected SQuAD JSON, found what is not JSON ({cause})") from cause
    articles = list(squad_articles(content, str(path)))
    if not articles:
        raise QuestionsError(f"{path}: the file holds no article; expected SQuAD JSON with some in 'data'")
    return articles


def _text_of(data: bytes, path: Path) -> str:
    text = decoded(data, str(path)).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise QuestionsError(f"{path}: the file is empty; expected {FILE_FORMS}")
    return text


def _from_text(text: str, name: str) -> list[Question]:
    lines = [
        (f"{name}, line {number}", line.strip())
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not is_remark(line)
    ]
    if _looks_like_json(lines):
        return _from_json_text(name, text, lines)
    table = from_delimited(text, name)
    return from_lines(lines) if table is None else table


def _looks_like_json(lines: list[tuple[str, str]]) -> bool:
    """Tell JSON by how it begins; "[1] Who …?" in plain text is none."""
    beginning = "".join(line for _, line in lines[:3])
    return re.match(r'\{|\[\s*(\[\s*"|["{\]]|$)', beginning) is not None


def _from_json_text(name: str, text: str, lines: list[tuple[str, str]]) -> list[Question]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as cause:
        if lines[0][1].startswith("["):
            raise QuestionsError(f"{name}: damaged JSON list ({cause}); repair it") from cause
        parts = [(_json_line(line, where), where) for where, line in lines]
        return [question for part, where in parts for question in from_json(part, where)]
    # one object alone is JSON lines with one line; a published set is named by its file
    single = (
        isinstance(content, dict)
        and isinstance(content.get("question", ""), str)
        and "\n" not in text.strip()
    )
    return from_json(content, lines[0][0] if single and "data" not in content else name)


def _json_line(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as cause:
        raise QuestionsError(f"{where}: not JSON ({cause}); expected {QUESTION_FORM}") from cause
