"""Questions that a user brings: JSON lines, SQuAD, a JSON list, or one question on each line of text.

The format is told by the content, since the same questions go by `.json`, `.jsonl` and `.txt`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precis.errors import QuestionsError

QUESTION_FORM = 'a text, or {"question": "…", "answers": ["…"]}'
FILE_FORMS = "JSON lines, SQuAD JSON, a JSON list, or text with one question on each line"


@dataclass(frozen=True)
class Question:
    """A question about a document.

    Parameters
    ----------
    text
        The question.
    answers
        What people hold to be right answers, if they gave any: σ is taught the first of them, and answers are
        judged by all.
    place
        The character of the document's text at which the sentence starts that the question was written about;
        None where that is not known.
    """

    text: str
    answers: tuple[str, ...] = ()
    place: int | None = None


@dataclass(frozen=True)
class SquadArticle:
    """One article of a SQuAD file: its paragraphs joined by blank lines, and all of its questions."""

    title: str
    text: str
    questions: tuple[Question, ...]


def read_questions(path: str | Path) -> list[Question]:
    """Read the questions of a file in any of the known formats.

    A question that comes twice is kept at its first place, with the answers of both.

    Raises
    ------
    QuestionsError
        When the file cannot be read, is not UTF-8, is malformed or holds no question.
    """
    path = Path(path)
    text = _read_text(path)
    lines = [
        (f"{path}, line {number}", line.strip())
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if _looks_like_json(lines):
        questions = _from_json(path, text, lines)
    else:
        questions = [Question(line) for _, line in lines]
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
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as cause:
        raise QuestionsError(f"{path}: expected SQuAD JSON, found what is not JSON ({cause})") from cause
    articles = list(_squad_articles(content, str(path)))
    if not articles:
        raise QuestionsError(f"{path}: the file holds no article; expected SQuAD JSON with some in 'data'")
    return articles


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as cause:
        raise QuestionsError(f"{path}: no such file; check the path") from cause
    except OSError as cause:
        raise QuestionsError(f"{path}: cannot be read ({cause.strerror}); check the file") from cause
    except UnicodeDecodeError as cause:
        raise QuestionsError(f"{path}: not UTF-8 text (see byte {cause.start}); save it as UTF-8") from cause
    if not text.strip():
        raise QuestionsError(f"{path}: the file is empty; expected {FILE_FORMS}")
    return text


def _looks_like_json(lines: list[tuple[str, str]]) -> bool:
    """Tell JSON by how it begins; "[1] Who …?" in plain text is none."""
    beginning = "".join(line for _, line in lines[:2])
    return beginning.startswith("{") or (beginning[:1] == "[" and beginning[1:].lstrip()[:1] in {*'"{]', ""})


def _from_json(path: Path, text: str, lines: list[tuple[str, str]]) -> list[Question]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as cause:
        if lines[0][1].startswith("["):
            raise QuestionsError(f"{path}: damaged JSON list ({cause}); repair it") from cause
        return [_question(_json_line(line, where), where) for where, line in lines]
    if isinstance(content, list):
        return [_question(item, f"{path}, item {number}") for number, item in enumerate(content, start=1)]
    if "data" in content:
        return [each for article in _squad_articles(content, str(path)) for each in article.questions]
    return [_question(content, lines[0][0])]


def _json_line(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as cause:
        raise QuestionsError(f"{where}: not JSON ({cause}); expected {QUESTION_FORM}") from cause


def _question(item: Any, where: str) -> Question:
    """Make a question of a JSON value: a string, or an object with `question` and perhaps its answers."""
    if isinstance(item, str):
        item = {"question": item}
    text = item.get("question") if isinstance(item, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise QuestionsError(f"{where}: found {_short(item)}; expected {QUESTION_FORM}")
    found = item.get("answers") or item.get("answer")
    if item.get("is_impossible") or not found:
        return Question(text.strip())
    answers = [answer.get("text") if isinstance(answer, dict) else answer for answer in _listed(found)]
    if not all(isinstance(answer, str) for answer in answers):
        raise QuestionsError(f"{where}: found the answers {_short(found)}; expected a list of texts")
    stripped = (str(answer).strip() for answer in answers)
    return Question(text.strip(), tuple(dict.fromkeys(answer for answer in stripped if answer)))


def _listed(answers: Any) -> list[Any]:
    """Return answers as a list; SQuAD as a table keeps all of a question's texts in one object."""
    if isinstance(answers, dict) and isinstance(answers.get("text"), list):
        answers = answers["text"]
    return answers if isinstance(answers, list) else [answers]


def _squad_articles(content: Any, where: str) -> Iterator[SquadArticle]:
    for number, article in enumerate(_field(content, "data", list, where), start=1):
        at = f"{where}, article {number}"
        contexts: list[str] = []
        questions: list[Question] = []
        for index, paragraph in enumerate(_field(article, "paragraphs", list, at), start=1):
            within = f"{at}, paragraph {index}"
            contexts.append(_field(paragraph, "context", str, within))
            entries = enumerate(_field(paragraph, "qas", list, within), start=1)
            questions += [_question(entry, f"{within}, question {place}") for place, entry in entries]
        title = str(article.get("title") or f"article {number}")
        yield SquadArticle(title, "\n\n".join(contexts), tuple(merged(questions)))


def _field(holder: Any, name: str, kind: type, where: str) -> Any:
    """Return a field of a SQuAD object, or say where it is missing."""
    value = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(value, kind):
        wanted = "a list" if kind is list else "a text"
        raise QuestionsError(
            f"{where}: found {_short(holder)}; expected SQuAD JSON with {wanted} as '{name}'"
        )
    return value


def merged(questions: Iterable[Question]) -> list[Question]:
    """Keep a question that comes twice at its first place, with the answers of both."""
    answers: dict[str, dict[str, None]] = {}
    for question in questions:
        answers.setdefault(question.text, {}).update(dict.fromkeys(question.answers))
    return [Question(text, tuple(known)) for text, known in answers.items()]


def _short(value: Any, characters: int = 80) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= characters else f"{shown[:characters]}…"
