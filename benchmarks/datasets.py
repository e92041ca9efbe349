"""Documents with human questions, from data sets in the formats in which they are published."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from precis.errors import DocumentError, QuestionsError
from precis.text.document import Document
from precis.text.questions import Question, merged, squad_documents

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
    near_misses
        Questions that sound like it, but that it does not answer.
    """

    name: str
    document: Document
    questions: list[Question]
    near_misses: list[Question] = field(default_factory=list)


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


def squad_subjects_without_paragraph(path: Path, groups: Iterable[str], paragraph: int = 3) -> list[Subject]:
    """Read articles as `squad_subjects` does, but leave a paragraph of each out.

    The questions about those paragraphs are the document's near misses: they are about its articles, and it
    does not answer them.

    Parameters
    ----------
    paragraph
        Which one, counted from 1; an article without one is read as a whole.
    """
    whole = squad_subjects(path, groups)  # which refuses a damaged file
    articles = json.loads(path.read_text(encoding="utf-8-sig"))["data"]
    subjects = []
    for subject in whole:
        chosen = [articles[int(number) - 1]["paragraphs"] for number in subject.name.split("+")]
        left_out = [each for paragraphs in chosen for each in paragraphs[paragraph - 1 : paragraph]]
        kept = [each for paragraphs in chosen for each in paragraphs if each not in left_out]
        questions = merged(_questions_about(kept))
        known = {question.text for question in questions}
        near = [question for question in merged(_questions_about(left_out)) if question.text not in known]
        name = f"{subject.name}-without-{paragraph}"
        text = "\n\n".join(each["context"] for each in kept)
        subjects.append(Subject(name, Document.from_text(text, name), questions, near))
    return subjects


def _questions_about(paragraphs: Iterable[dict[str, Any]]) -> Iterable[Question]:
    for each in paragraphs:
        for asked in each["qas"]:
            answers = (answer["text"].strip() for answer in asked["answers"])
            yield Question(asked["question"].strip(), tuple(dict.fromkeys(filter(None, answers))))


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
        Question(
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
