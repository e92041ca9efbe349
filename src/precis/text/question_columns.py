"""Which column of a table, or field of a record, holds the question, and which ones its answers."""

from __future__ import annotations

import re
from collections.abc import Sequence

_QUESTION_WORDS = """
question questions query queries q prompt prompts frage fragen fragetext fragestellung pregunta
preguntas domanda domande quesito pergunta perguntas vraag vragen fråga spørgsmål spørsmål pytanie
otázka soru вопрос вопросы 问题 問題 質問
"""
_ANSWER_WORDS = """
answer answers ans a antwort antworten antworttext musterlösung lösung respuesta respuestas réponse
réponses reponse reponses risposta risposte resposta respostas antwoord antwoorden svar odpowiedź
odpověď cevap ответ ответы 答案 回答 答え reference references referenz ref gold golden expected
erwartet truth solution solutions
"""
# These can mean something else beside an answer; alone they hold it.
_WEAK_ANSWER_WORDS = "correct right response responses output completion target richtig"
# Words that make another thing of a name: `question_id`, `answer_start`, `is_question_bad`, `wrong answer`.
_OTHER_WORDS = """
id ids uid type typ types category kategorie number num no nr nummer count index idx date datum source
quelle author autor difficulty level language lang sprache tokens token tokenized start end offset char
chars range ranges length len score rating points confidence is has absent bad impossible unanswerable
incorrect wrong false falsch distractor distractors url link page seite section location evidence
context passage validated embedding time status comment comments notes note model predicted prediction
predictions generated candidate option options choice choices title topic set split asker plausible
"""
_QUESTION = frozenset(_QUESTION_WORDS.split())
_ANSWER = frozenset(_ANSWER_WORDS.split())
_ANSWER_IF_ALONE = frozenset(_WEAK_ANSWER_WORDS.split())
_OTHER_THING = frozenset(_OTHER_WORDS.split())
_OPTION = re.compile(
    r"(?:answer|antwort|antwortmöglichkeit|option|choice|opt)[\s_.-]*\(?([a-j])\)?"
    r"|(?:option|choice|opt)[\s_.-]*(\d)",
    re.IGNORECASE,
)


def question_columns(names: Sequence[str]) -> list[str]:
    """Find the columns that can hold the question: one named just so before all others."""
    candidates = [name for name in names if _is_about(name, _QUESTION, ("frage",))]
    exact = [name for name in candidates if len(_words(name)) == 1 and not re.search(r"\d", name)]
    return exact[:1] or candidates


def answer_columns(names: Sequence[str]) -> list[str]:
    """Find all columns with right answers, in their order."""
    options = set(option_columns(names).values())
    left = [name for name in names if name not in options and name not in question_columns(names)]
    found = [name for name in left if _is_about(name, _ANSWER, ("antwort", "lösung"))]
    return found or [name for name in left if _is_about(name, _ANSWER_IF_ALONE, ())]


def option_columns(names: Sequence[str]) -> dict[str, str]:
    """Find the columns of a multiple-choice question's choices, by their letters."""
    found: dict[str, str] = {}
    for name in names:
        match = _OPTION.fullmatch(name.strip())
        if match:
            letter = match[1] or chr(ord("a") + len(found))
            found.setdefault(letter.lower(), name)
    bare = {name.strip().lower(): name for name in names if re.fullmatch(r"[A-Ja-j]", name.strip())}
    if not found and {"a", "b"} <= bare.keys():
        found = bare
    return found if len(found) > 1 else {}


def looks_like_header(names: Sequence[str]) -> bool:
    """Whether a row names columns, one of which holds questions; a question or a sentence is no name."""
    asked = [name for name in question_columns(names) if "?" not in name and len(_words(name)) <= 3]
    sentences = [name for name in names if len(name) > 60 or ("?" in name and len(_words(name)) > 2)]
    return bool(asked) and not sentences


def is_surely_header(names: Sequence[str]) -> bool:
    """Whether a row can be nothing else: short names only, of questions and of answers."""
    return (
        looks_like_header(names)
        and bool(answer_columns(names))
        and all(len(_words(name)) <= 2 for name in names)
    )


def is_question_name(text: str) -> bool:
    """Whether a line is nothing but the name of a column of questions."""
    name = text.strip().rstrip(":")
    return len(_words(name)) == 1 and "?" not in name and bool(question_columns([name]))


def _is_about(name: str, wanted: frozenset[str], endings: tuple[str, ...]) -> bool:
    words = _words(name)
    if any(word in _OTHER_THING or word.endswith("nummer") for word in words):
        return False
    return any(word in wanted or (bool(endings) and word.endswith(endings)) for word in words)


def _words(name: str) -> list[str]:
    """Give the words of a name: of `sourcerAnswers`, `answer_1` and `Expected answer` alike."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+", apart.casefold())
