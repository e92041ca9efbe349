"""Documents with human questions, from data sets in the formats in which they are published."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from precis.document import Document
from precis.errors import DocumentError, QuestionsError
from precis.questions_file import UserQuestion, merged, squad_documents

STORY, QUESTIONS = "-story.csv", "-questions.csv"
# The two annotators of FairytaleQA; the other answer columns repeat or vary these.
REFERENCES = ("answer1", "answer4")


@dataclass(frozen=True)
class Subject:
    """A document, and what people asked about it.

    Parameters
    ----------
    name
        What tables call it; fit for a file name.
    document
        The text.
    questions
        Distinct, each with its distinct human answers.
    """

    name: str
    document: Document
    questions: list[UserQuestion]


def squad_subjects(path: Path, groups: Iterable[str]) -> list[Subject]:
    """Read articles of a SQuAD file (Rajpurkar et al., 2016), several of them as one document.

    Parameters
    ----------
    path
        SQuAD JSON, 1.1 or 2.0.
    groups
        One a document: the numbers of its articles, counted from 1, as in `7` or `4+15`.

    Raises
    ------
    QuestionsError
        The file is not SQuAD JSON, or has no article of that number.
    """
    articles = squad_documents(path)
    subjects = []
    for group in groups:
        numbers = [int(number) if number.isdecimal() else 0 for number in group.split("+")]
        if not all(1 <= number <= len(articles) for number in numbers):
            raise QuestionsError(
                f"{path} has the articles 1 to {len(articles)}, not '{group}'; give numbers as in 7 or 4+15"
            )
        chosen = [articles[number - 1] for number in numbers]
        text = "\n\n".join(article.text for article in chosen)
        questions = merged(question for article in chosen for question in article.questions)
        subjects.append(Subject(group, Document.from_text(text, group), questions))
    return subjects


def fairytales(folder: Path, names: Iterable[str]) -> list[Subject]:
    """Read stories of FairytaleQA (Xu et al., 2022), the sections of each joined by blank lines.

    Parameters
    ----------
    folder
        Has `section-stories/NAME-story.csv` and `questions/NAME-questions.csv`.
    names
        Which stories.

    Raises
    ------
    DocumentError, QuestionsError
        There is no such story, or a file of it lacks a column.
    """
    return [_fairytale(folder, name) for name in names]


def shortest_fairytales(folder: Path, shortest_words: int, count: int) -> list[Subject]:
    """Read the `count` shortest stories of those that have `shortest_words` words or more."""
    files = sorted((folder / "section-stories").glob(f"*{STORY}"))
    stories = fairytales(folder, [file.name.removesuffix(STORY) for file in files])
    lengths = {story.name: len(story.document.text.split()) for story in stories}
    long = [story for story in stories if lengths[story.name] >= shortest_words]
    if len(long) < count:
        raise DocumentError(
            f"{folder} has {len(long)} stories of {shortest_words} words or more, and {count} are wanted; "
            "ask for fewer or shorter ones"
        )
    return sorted(long, key=lambda story: lengths[story.name])[:count]


def _fairytale(folder: Path, name: str) -> Subject:
    sections = _table(folder / "section-stories" / f"{name}{STORY}", ("text",))
    text = "\n\n".join(section["text"].strip() for section in sections)
    rows = _table(folder / "questions" / f"{name}{QUESTIONS}", ("question", *REFERENCES))
    questions = [
        UserQuestion(
            row["question"].strip(),
            tuple(dict.fromkeys(row[column].strip() for column in REFERENCES if row[column].strip())),
        )
        for row in rows
        if row["question"].strip()
    ]
    return Subject(name, Document.from_text(text, name), merged(questions))


def _table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a table with a heading; a cell that a short row lacks is empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows = list(reader)
    except OSError as error:
        raise DocumentError(f"{path} cannot be read ({error.strerror}); check the name and folder") from error
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing or not rows:
        raise QuestionsError(
            f"{path}: expected rows with the columns {', '.join(columns)}; "
            + (f"there is no column {', '.join(missing)}" if missing else "there is no row")
        )
    return rows
