"""What methods cost: the time to an answer, and the memory of what stands before the question."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from precis.answer import LONGEST
from precis.baselines import Prepared
from precis.compilation.teacher import Teacher
from precis.evaluation.examination import with_bounds
from precis.model.language_model import LanguageModel
from precis.text.passages import Passages
from precis.text.recall import NOTHING, Recalled, recall

TIMED_QUESTIONS = 5
TIMED_TOKENS = 16


@dataclass
class Cost:
    """What a method costs, one entry a question that was timed."""

    bytes: list[int] = field(default_factory=list)
    first_token: list[float] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)


def measure_costs(
    teacher: Teacher,
    prepared: Mapping[str, Prepared],
    recalling: Mapping[str, Passages],
    texts: Sequence[str],
) -> dict[str, Cost]:
    """Time a few questions, the methods in turn, each doing all that one question costs it."""
    methods = with_bounds(teacher, prepared)
    costs = {name: Cost() for name in methods}
    for text in texts[:TIMED_QUESTIONS]:
        for name, method in methods.items():
            teacher.forget()
            _time(teacher.model, method, recalling.get(name), text, costs[name])
    return costs


def _time(model: LanguageModel, method: Prepared, passages: Passages | None, text: str, cost: Cost) -> None:
    start = time.perf_counter()
    recalled = NOTHING if passages is None else recall(passages, text)
    ((prefix, _),) = method([text])
    prompt = model.chat.question_prompt(text, recalled.text)
    given = model.given(prefix)
    if len(prompt) >= given.room():
        return
    stream = given.stream(prompt, max_tokens=LONGEST)  # as `ask` does, which decides how it is laid out
    next(stream)
    first = time.perf_counter()
    more = sum(1 for _ in itertools.islice(stream, TIMED_TOKENS - 1))
    if more:
        cost.pace.append(more / (time.perf_counter() - first))
    cost.first_token.append(first - start)
    cost.bytes.append(prefix.nbytes + model.token_bytes * _added(model, text, recalled))


def _added(model: LanguageModel, text: str, recalled: Recalled) -> int:
    """How many tokens what was recalled adds to a prompt."""
    return len(model.chat.question_prompt(text, recalled.text)) - len(model.chat.question_prompt(text))
