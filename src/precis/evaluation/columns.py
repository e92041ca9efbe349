"""The measures of a report: their names, what they mean, and how they are shown.

The command line and the page show the same ones in the same order: first what a user wants, right answers;
then what they cost; then how near the optimisation came to its aim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from precis.evaluation.report import BY_HUMANS, Comparison, MethodScores, Report

NOTHING = "–"


def percent(share: float, sign: str = " %") -> str:
    """Show a share in whole percent."""
    return f"{round(100 * share)}{sign}".replace("-", "−")


def decimals(count: int) -> Callable[[float], str]:
    """Show numbers with so many digits after the point."""
    return lambda value: f"{value:,.{count}f}".replace("-", "−")


def _megabytes(value: float) -> str:
    return f"{value / 1e6:,.2f}"


@dataclass(frozen=True)
class Measure:
    """One measure.

    Parameters
    ----------
    name
        The head of its column.
    field
        Where `MethodScores` has it.
    meaning
        What it is, in a few words.
    show
        How a value is written.
    interval
        Where `MethodScores` has its 95 % interval; empty where it has none.
    """

    name: str
    field: str
    meaning: str
    show: Callable[[float], str]
    interval: str = ""

    def value(self, scores: MethodScores) -> float | None:
        """Give what a method has."""
        found: float | None = getattr(scores, self.field)
        return found

    def text(self, scores: MethodScores) -> str:
        """Write what a method has."""
        value = self.value(scores)
        return NOTHING if value is None else self.show(value)

    def bounds(self, scores: MethodScores) -> str:
        """Write the interval; empty where there is none."""
        found = getattr(scores, self.interval) if self.interval else None
        return "" if found is None else f"{percent(found[0], sign='')} to {percent(found[1])}"


RIGHT = Measure("Right", "right", "answers that are right", percent, "right_interval")
ANSWERS = (
    RIGHT,
    Measure(
        "Kept", "kept", "of those that the full document gets right, the part that is right here", percent
    ),
    Measure("F1", "f1", "token F1 with human answers, which long answers lose", percent),
    Measure("Words", "answer_words", "mean length of an answer in words", decimals(1)),
    Measure("Positions", "prompt_positions", "before the question, what is recalled included", decimals(0)),
    Measure("MB", "prefix_bytes", "memory of their keys and values", _megabytes),
    Measure("First s", "first_token_s", "seconds to the first token, finding passages included", decimals(2)),
    Measure("Tokens/s", "tokens_per_s", "after the first", decimals(1)),
    Measure("Failed", "failures", "questions without a result", decimals(0)),
)
OPTIMISATION = (
    Measure(
        "Recovery",
        "recovery",
        "of what the document adds to the probability of its own answers, the part kept",
        percent,
        "interval",
    ),
    Measure("NLL", "nll", "negative log-likelihood of the full document's answer, a token", decimals(3)),
    Measure("KL", "kl", "divergence from the full document's predictions, a token", decimals(3)),
    Measure("Top-1", "top1", "the most likely token is the full document's", percent),
    Measure("Match", "match", "token F1 of the answer with the full document's", percent),
    Measure("EM", "em", "exact match with human answers", percent),
)
MEASURES = (*ANSWERS, *OPTIMISATION)


def shown(report: Report, measures: tuple[Measure, ...]) -> list[Measure]:
    """Leave out measures that no method has, and failures where there are none."""
    methods = report.methods.values()
    return [
        measure
        for measure in measures
        if any(measure.value(scores) is not None for scores in methods)
        and (measure.field != "failures" or any(scores.failures for scores in methods))
    ]


def headline(report: Report) -> str:
    """Say in a sentence what came out: how many answers are right."""
    mine, full = report.methods["precis"], report.methods["full"]
    if mine.right is None:
        return "None of the questions could be answered, so there is nothing to judge."
    interval = RIGHT.bounds(mine)
    counted = f"{mine.right_count} of {mine.judged} questions"
    shares = f"({percent(mine.right)}, 95 % interval {interval})"
    if report.judged_by != BY_HUMANS:
        return f"precis answers {counted} as the model with the whole document before it does {shares}."
    return (
        f"precis answers {counted} right {shares}; the model with the whole document before it "
        f"{full.right_count}{'' if full.judged == mine.judged else f' of {full.judged}'}."
    )


def basis(report: Report) -> str:
    """Say what makes an answer right."""
    if report.judged_by == BY_HUMANS:
        return "An answer is right if a human's answer to the question occurs in it, word for word."
    return (
        "These questions come without human answers, so nothing here says what is true: an answer counts as "
        "right if it agrees with the full document's, which may be wrong."
    )


def comparison(found: Comparison) -> str:
    """Say how two methods compare."""
    text = f"{found.method} against {found.against}: {_points(found.difference)} percentage points"
    if found.interval is None:
        return text
    low, high = found.interval
    return f"{text} (95 % interval {_points(low)} to {_points(high)})"


def _points(difference: float) -> str:
    points = round(100 * difference)
    return f"{points:+d}".replace("-", "−") if points else "0"
