"""After how many questions a compile has paid for itself, from measured times.

Whoever does not compile has two choices: read the document again at every question, which takes time, or
keep its keys and values, which takes memory and makes every token that is answered attend to all of them.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from precis.answer import LONGEST
from precis.model.conditioned import Conditioned

# Questions that are timed one by one, and the tokens of each answer.
TIMED_QUESTIONS, TIMED_TOKENS = 3, 16


@dataclass(frozen=True)
class Pace:
    """How fast one question after another is answered from a prefix.

    Parameters
    ----------
    first_token
        Seconds to the first token of an answer: the median.
    token
        Seconds for each token after it.
    prefix_bytes
        Memory of the prefix.
    """

    first_token: float
    token: float
    prefix_bytes: int

    def seconds(self, answer_tokens: float) -> float:
        """Time of a whole answer."""
        return self.first_token + max(0.0, answer_tokens - 1) * self.token


def measure_pace(given: Conditioned, prompts: Sequence[Sequence[int]]) -> Pace:
    """Answer some prompts one by one; a first one that is not counted warms up."""
    firsts: list[float] = []
    later: list[float] = []
    for number, prompt in enumerate(prompts[: TIMED_QUESTIONS + 1]):
        moments = [time.perf_counter()]
        moments += [
            time.perf_counter()
            for _ in itertools.islice(given.stream(prompt, max_tokens=LONGEST), TIMED_TOKENS)
        ]
        if number or len(prompts) == 1:
            firsts.append(moments[1] - moments[0])
            later += [end - start for start, end in itertools.pairwise(moments[1:])]
    return Pace(statistics.median(firsts), statistics.median(later or [0.0]), given.prefix.nbytes)


@dataclass(frozen=True)
class BreakEven:
    """When a compile has paid for itself.

    Parameters
    ----------
    compile_seconds
        What it took.
    reading_seconds
        What it takes to read the document once.
    answer_tokens
        How long answers are on average.
    full, soft_prompt
        How fast questions are answered after the whole document, once it is read, and from σ.
    """

    compile_seconds: float
    reading_seconds: float
    answer_tokens: float
    full: Pace
    soft_prompt: Pace

    @property
    def question_seconds(self) -> dict[str, float]:
        """Seconds a question: `soft prompt`, `reading` the document each time, its `cache` kept."""
        cache = self.full.seconds(self.answer_tokens)
        return {
            "soft prompt": self.soft_prompt.seconds(self.answer_tokens),
            "reading": self.reading_seconds + cache,
            "cache": cache,
        }

    def questions_against(self, other: str) -> int | None:
        """After how many questions the compile has saved, against `reading` or `cache`, what it took.

        Returns
        -------
        None where an answer from σ takes as long or longer: then it never does. The document is read once
        for a cache, too, which is counted.
        """
        seconds = self.question_seconds
        saved = seconds[other] - seconds["soft prompt"]
        spent = self.compile_seconds - (self.reading_seconds if other == "cache" else 0.0)
        return max(1, math.ceil(spent / saved)) if saved > 0 else None
