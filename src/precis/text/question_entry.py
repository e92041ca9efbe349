"""One question, and how it is made of what a file says of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from precis.errors import QuestionsError
from precis.model.encoding import well_formed
from precis.text.question_columns import answer_columns, option_columns

QUESTION_FORM = 'a text, or {"question": "…", "answers": ["…"]}'


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


def made(text: str, answers: Iterable[str] = ()) -> Question:
    """Make a question of raw texts: stripped, well-formed, and without empty or repeated answers."""
    stripped = (well_formed(answer).strip() for answer in answers)
    return Question(well_formed(text).strip(), tuple(dict.fromkeys(answer for answer in stripped if answer)))


def merged(questions: Iterable[Question]) -> list[Question]:
    """Keep a question that comes twice at its first place, with the answers of both."""
    answers: dict[str, dict[str, None]] = {}
    for question in questions:
        answers.setdefault(question.text, {}).update(dict.fromkeys(question.answers))
    return [Question(text, tuple(known)) for text, known in answers.items()]


def question_of(item: Any, where: str) -> Question:
    """Make a question of a JSON value: a text, or an object with `question` and perhaps its answers.

    Raises
    ------
    QuestionsError
        It is neither, or its answers are no texts, numbers, yes or no.
    """
    if isinstance(item, str):
        item = {"question": item}
    text = _text_of(item) if isinstance(item, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise QuestionsError(f"{where}: found {short(item)}; expected {QUESTION_FORM}")
    if item.get("is_impossible"):
        return made(text)
    return made(text, answers_of(item, _answer_fields(item), where))


def _text_of(item: Mapping[str, Any]) -> Any:
    """Find the question; TriviaQA writes its name large, NarrativeQA has its tokens beside its text."""
    text = item.get("question", item.get("Question"))
    return text.get("text") if isinstance(text, dict) else text


def _answer_fields(item: Mapping[str, Any]) -> list[str]:
    """Find where the answers are: under their usual names, or else under others of the same meaning."""
    usual = [name for name in ("answers", "answer", "Answer") if name in item]
    if usual:
        return [name for name in usual if _is_given(item[name])][:1]
    return [name for name in answer_columns(list(item)) if not isinstance(item[name], dict)]


def answers_of(record: Mapping[str, Any], columns: Sequence[str], where: str) -> list[str]:
    """Give all right answers that stand under some names of a record.

    Raises
    ------
    QuestionsError
        They are no texts, numbers, yes or no, or it is not said which of several choices is right.
    """
    answers = [answer for column in columns for answer in plain_answers(record[column], where)]
    return _chosen(answers, _options(record, where), record, where)


def plain_answers(found: Any, where: str) -> list[str]:
    """Give answers as texts: of one value, a list, or an object in which a published set keeps them."""
    while isinstance(found, dict):
        found = _unpacked(found)
    if isinstance(found, list):
        return [answer for each in found for answer in plain_answers(each, where)]
    if found is None:
        return []
    if isinstance(found, bool):  # people ask whether, and models answer, yes or no
        return ["yes" if found else "no"]
    if isinstance(found, int):
        return [str(found)]
    if isinstance(found, float):
        if not math.isfinite(found):  # how tables write that there is nothing
            return []
        return [str(int(found)) if found.is_integer() else str(found)]
    if not isinstance(found, str):
        raise QuestionsError(f"{where}: found the answers {short(found)}; expected a list of texts")
    return [found]


class _Unknown:
    """An object of answers in no known form; `plain_answers` refuses it."""


def _unpacked(found: dict[str, Any]) -> Any:
    """Take the answers out of an object: SQuAD's, TriviaQA's or QASPER's."""
    lowered = {key.lower(): value for key, value in found.items()}
    if "value" in lowered:  # TriviaQA
        return [lowered["value"], lowered.get("aliases") or []]
    if "extractive_spans" in found:
        return _qasper_answer(found)
    # SQuAD as a table keeps all of a question's texts in one object; QASPER wraps every annotator's answer
    for name in ("text", "answer"):
        if name in found:
            return found[name]
    return _Unknown() if found else None


def _qasper_answer(found: Mapping[str, Any]) -> Any:
    if found.get("unanswerable"):
        return None
    if found.get("yes_no") is not None:
        return bool(found["yes_no"])
    # the set's own scoring joins the spans of one annotator in this way
    return ", ".join(found["extractive_spans"] or []) or found.get("free_form_answer")


def _is_given(found: Any) -> bool:
    return found is not None and found not in ("", [], {})


def _options(record: Mapping[str, Any], where: str) -> dict[str, str]:
    """Find the choices of a multiple-choice question, by their letters: of a list, or of columns."""
    found = record.get("options", record.get("choices"))
    if isinstance(found, dict) and isinstance(found.get("text"), list):
        found = found["text"]
    if isinstance(found, dict):
        return {str(letter).lower(): str(option) for letter, option in found.items()}
    if isinstance(found, list) and all(isinstance(option, str) for option in found):
        return {chr(ord("a") + number): option for number, option in enumerate(found)}
    columns = option_columns(list(record))
    shown = {letter: plain_answers(record[column], where) for letter, column in columns.items()}
    return {letter: texts[0] for letter, texts in shown.items() if texts}


def _chosen(answers: list[str], options: dict[str, str], record: Mapping[str, Any], where: str) -> list[str]:
    """Put the text of a choice in place of its letter; a bare letter is no answer to learn."""
    if not options:
        return answers
    label = record.get("gold_label")  # QuALITY counts from 1
    if isinstance(label, int) and 1 <= label <= len(options):
        return [list(options.values())[label - 1]]
    texts = {option.strip() for option in options.values()}
    chosen = []
    for answer in answers:
        text = options.get(answer.strip().strip("().").lower(), answer)
        if text.strip() not in texts and text.strip().isdigit():
            raise QuestionsError(
                f"{where}: the right answer is given as number {text.strip()} of {len(options)} choices, "
                "which can be counted from 0 or from 1; give its letter or its text"
            )
        chosen.append(text)
    return chosen


def short(value: Any, characters: int = 80) -> str:
    """Show a value of JSON in a message, cut where it is long."""
    shown = well_formed(json.dumps(value, ensure_ascii=False, default=lambda _: "…"))
    return shown if len(shown) <= characters else f"{shown[:characters]}…"
