"""Questions in JSON, in the shapes in which question sets are published, told apart by what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from precis.errors import QuestionsError
from precis.text.question_entry import (
    QUESTION_FORM,
    Question,
    made,
    merged,
    plain_answers,
    question_of,
    short,
)


@dataclass(frozen=True)
class SquadArticle:
    """One article of a SQuAD file: its paragraphs joined by blank lines, and all of its questions."""

    title: str
    text: str
    questions: tuple[Question, ...]


def from_json(item: Any, where: str) -> list[Question]:
    """Make questions of a JSON value in any known shape.

    Raises
    ------
    QuestionsError
        It is in none, or something in it is not as its shape has it.
    """
    if isinstance(item, list):
        parts = [(part, f"{where}, item {number}") for number, part in enumerate(item, start=1)]
        return [each for part, at in parts for each in _from_item(part, at)]
    if not isinstance(item, dict):
        return [question_of(item, where)]
    if "data" in item:
        return _from_data(item, where)
    if "Data" in item:  # TriviaQA
        return from_json(item["Data"], where)
    if "paragraphs" in item:
        return list(squad_article(item, "article", where).questions)
    for name in ("questions", "qas"):
        if name in item:
            return _from_holder(item, name, where)
    if "question" not in item and "Question" not in item and _are_holders(item):
        documents = item.items()
        return [each for name, held in documents for each in from_json(held, f"{where}, {short(name)}")]
    if isinstance(item.get("question"), list):
        return from_json(_as_rows(item, where), where)
    return [question_of(item, where)]


def _from_item(item: Any, where: str) -> list[Question]:
    """Read an item of a list; a list within is a question and then its answers."""
    if not isinstance(item, list):
        return from_json(item, where)
    if not item or not isinstance(item[0], str) or not item[0].rstrip().endswith("?"):
        raise QuestionsError(f"{where}: found {short(item)}; expected {QUESTION_FORM}")
    return [made(item[0], plain_answers(item[1:], where))]


def squad_articles(content: Any, where: str) -> Iterator[SquadArticle]:
    """Read the articles of SQuAD JSON, 1.1 or 2.0.

    Raises
    ------
    QuestionsError
        It is none.
    """
    for number, article in enumerate(_field(content, "data", list, where), start=1):
        yield squad_article(article, f"article {number}", f"{where}, article {number}")


def squad_article(article: Any, untitled: str, where: str) -> SquadArticle:
    """Read one article of SQuAD JSON.

    Raises
    ------
    QuestionsError
        It is none.
    """
    contexts: list[str] = []
    questions: list[Question] = []
    for index, paragraph in enumerate(_field(article, "paragraphs", list, where), start=1):
        within = f"{where}, paragraph {index}"
        contexts.append(_field(paragraph, "context", str, within))
        entries = enumerate(_field(paragraph, "qas", list, within), start=1)
        questions += [question_of(entry, f"{within}, question {place}") for place, entry in entries]
    return SquadArticle(
        str(article.get("title") or untitled), "\n\n".join(contexts), tuple(merged(questions))
    )


def _from_data(content: Mapping[str, Any], where: str) -> list[Question]:
    """Read what stands under `data`: SQuAD's articles, NewsQA's stories, or plain entries."""
    held = content["data"]
    if isinstance(held, list) and held and all(isinstance(each, dict) for each in held):
        if all("storyId" in story for story in held):
            return [each for story in held for each in _newsqa(story, f"{where}, {short(story['storyId'])}")]
        if not any("paragraphs" in each for each in held) and all("question" in each for each in held):
            return from_json(held, where)
    return [each for article in squad_articles(content, where) for each in article.questions]


def _newsqa(story: Mapping[str, Any], where: str) -> Iterator[Question]:
    """Read a story of NewsQA, whose answers are places in its text."""
    for number, entry in enumerate(_field(story, "questions", list, where), start=1):
        at = f"{where}, question {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("q"), str):
            raise QuestionsError(f"{at}: found {short(entry)}; expected NewsQA with a text as 'q'")
        agreed = [entry.get("consensus") or {}, *(entry.get("validatedAnswers") or [])]
        if agreed[0].get("badQuestion"):
            continue
        if not any(agreed):  # nobody judged what the crowd workers had marked
            agreed = [span for worker in entry.get("answers") or [] for span in worker["sourcerAnswers"]]
        spans = [(span["s"], span["e"]) for span in agreed if "s" in span]
        text = story.get("text")
        if spans and not isinstance(text, str):
            raise QuestionsError(
                f"{where}: found NewsQA without the stories, in which its answers are places; join it with "
                "the stories, as the set's own scripts do"
            )
        yield made(entry["q"], [str(text)[start:end] for start, end in spans])


def _from_holder(holder: Mapping[str, Any], name: str, where: str) -> list[Question]:
    """Read the questions of one document: QuALITY's, LongHealth's or QASPER's, or any list of them."""
    held = holder[name]
    if isinstance(held, dict) and isinstance(held.get("question"), list):
        held = _as_rows(held, where)
    if not isinstance(held, list):
        raise QuestionsError(f"{where}: found {short(held)} as '{name}'; expected a list of questions")
    return [question_of(entry, f"{where}, question {place}") for place, entry in enumerate(held, start=1)]


def _are_holders(item: Mapping[str, Any]) -> bool:
    """Whether it is documents by their names, each with its questions."""
    documents = list(item.values())
    return bool(documents) and all(
        isinstance(each, dict) and ("questions" in each or "qas" in each) for each in documents
    )


def _as_rows(columns: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Turn a table that is kept by columns into one object a row."""
    lists: dict[str, Sequence[Any]] = {name: held for name, held in columns.items() if isinstance(held, list)}
    count = len(lists["question"])
    odd = [name for name, held in lists.items() if len(held) != count and "answer" in name]
    if odd:
        raise QuestionsError(f"{where}: found {count} questions beside {len(lists[odd[0]])} in '{odd[0]}'")
    fitting = {name: held for name, held in lists.items() if len(held) == count}
    return [{name: held[place] for name, held in fitting.items()} for place in range(count)]


def _field(holder: Any, name: str, kind: type, where: str) -> Any:
    """Return a field of a published set's object, or say where it is missing."""
    value = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(value, kind):
        wanted = "a list" if kind is list else "a text"
        raise QuestionsError(f"{where}: found {short(holder)}; expected SQuAD JSON with {wanted} as '{name}'")
    return value
