"""Summing up what methods made of the questions.

One rule for what a method fails on, such as a question that does not fit the window beside what it puts
there: whoever cannot answer has not answered right, and has recovered nothing. Questions that could be asked
of no method say nothing about any, and are left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from precis.calibration import AGREEING_F1
from precis.evaluation.bootstrap import mean_interval, recovery_interval, wilson_interval
from precis.evaluation.reliability import Reliability, reliability
from precis.evaluation.report import AnsweredQuestion, Comparison, MethodAnswer, MethodScores
from precis.evaluation.timing import Cost
from precis.measures import exact_match, recovery, token_f1


def scores_of(
    asked: Sequence[AnsweredQuestion], name: str, cost: Cost | None = None, reason: str | None = None
) -> MethodScores:
    """Sum up what a method made of all questions.

    Parameters
    ----------
    asked, name
        The questions, and the method.
    cost
        What it costs, if that was measured.
    reason
        Why it failed on all of them, if it did.
    """
    cost = cost or Cost()
    outcomes = outcomes_of(asked, name)
    records, mine = [record for record, _ in outcomes], [answer for _, answer in outcomes]
    answered = [record.methods[name] for record in records if name in record.methods]
    tokens = sum(record.tokens for record in records)
    judged = [answer.right for answer in mine if answer.right is not None]
    right = _mean(judged)
    texts = [answer.text for answer in answered if answer.text is not None]
    found, interval = bootstrap_recovery(asked, name)
    return MethodScores(
        right=right,
        right_interval=None if right is None else wilson_interval(right, len(judged)),
        right_count=sum(judged),
        judged=len(judged),
        kept=_mean(
            [answer.right or False for record, answer in outcomes if _is_right(record, "full")]
            if judged
            else []
        ),
        f1=_best(outcomes, token_f1),
        answer_words=_mean([len(text.split()) for text in texts]),
        prompt_positions=_mean([answer.positions for answer in answered]),
        prefix_bytes=round(statistics.mean(cost.bytes)) if cost.bytes else None,
        first_token_s=statistics.median(cost.first_token) if cost.first_token else None,
        tokens_per_s=statistics.median(cost.pace) if cost.pace else None,
        recovery=found,
        interval=interval,
        nll=sum(answer.nll for answer in mine) / tokens if tokens else None,
        kl=sum(answer.kl for answer in mine) / tokens if tokens else None,
        top1=sum(answer.top1 for answer in mine) / tokens if tokens else None,
        match=_mean([answer.match for answer in mine if answer.match is not None]),
        em=_best(outcomes, exact_match),
        failures=len(asked) - len(answered),
        reason=reason,
    )


def outcomes_of(asked: Sequence[AnsweredQuestion], name: str) -> list[tuple[AnsweredQuestion, MethodAnswer]]:
    """Give what a method made of every question that could be asked; nothing where it failed on all.

    A question that the method failed on counts as answered wrongly, and as well as without the document.
    """
    if not any(name in record.methods for record in asked):
        return []
    found = ((record, _outcome(record, name)) for record in asked)
    return [(record, answer) for record, answer in found if answer is not None]


def _outcome(record: AnsweredQuestion, name: str) -> MethodAnswer | None:
    if name in record.methods:
        return record.methods[name]
    return _failed(record.methods["none"]) if "none" in record.methods else None


def _failed(none: MethodAnswer) -> MethodAnswer:
    """Give what a failure counts as; what was not asked for or cannot be judged stays so."""
    return replace(
        none,
        text=None if none.text is None else "",
        match=None if none.match is None else 0.0,
        right=None if none.right is None else False,
        confidence=None,
    )


def _best(
    outcomes: Sequence[tuple[AnsweredQuestion, MethodAnswer]], measure: Callable[[str, str], float]
) -> float | None:
    """Compare a method's answers with the human ones: the mean over questions of the best."""
    return _mean(
        [
            max(measure(answer.text, human) for human in record.humans)
            for record, answer in outcomes
            if record.humans and answer.text is not None
        ]
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def reliability_of(asked: Sequence[AnsweredQuestion], method: str) -> Reliability | None:
    """Hold a method's confidence against whether its answers are right; None where it states none.

    Re-reading the document makes an answer agree with it, not right: what that buys is told by agreement.
    """
    said = [
        (answer.confidence, answer.right, answer.match >= AGREEING_F1)
        for record in asked
        if (answer := record.methods.get(method)) is not None
        and answer.confidence is not None
        and answer.match is not None
    ]
    judged = [(confidence, right) for confidence, right, _ in said if right is not None]
    by_right = reliability([confidence for confidence, _ in judged], [right for _, right in judged])
    by_agreement = reliability([confidence for confidence, _, _ in said], [agreed for _, _, agreed in said])
    if by_right is None or by_agreement is None:
        return by_agreement
    return replace(by_right, trade_off=by_agreement.trade_off)


def compare_methods(asked: Sequence[AnsweredQuestion], method: str, against: str) -> Comparison | None:
    """Compare the right answers of two methods; None where no question was judged for both."""
    if not all(any(name in record.methods for record in asked) for name in (method, against)):
        return None
    differences = [
        float(mine.right) - float(theirs.right)
        for record in asked
        if (mine := _outcome(record, method)) is not None
        and (theirs := _outcome(record, against)) is not None
        and mine.right is not None
        and theirs.right is not None
    ]
    if not differences:
        return None
    mean = sum(differences) / len(differences)
    return Comparison(method, against, mean, mean_interval([differences]), len(differences))


def _is_right(record: AnsweredQuestion, method: str) -> bool | None:
    return record.methods[method].right if method in record.methods else None


def bootstrap_recovery(
    asked: Sequence[AnsweredQuestion], method: str, *, seed: int = 0
) -> tuple[float | None, tuple[float, float] | None]:
    """Give a method's recovery, and its 95 % interval by bootstrap over questions.

    See `bootstrap.recovery_interval`.

    Parameters
    ----------
    asked
        The questions; what the method failed on recovers nothing.
    method
        Its name.
    seed
        Decides the draws: methods that answered the same questions get the same resamples.

    Returns
    -------
    Recovery, None where the document does not help the model on these questions; and its interval, None
    where that is so in any resample, as no bound can then be given.
    """
    gains, gaps = gains_and_gaps(asked, method)
    if not gains:
        return None, None
    # of sums of NLLs: without the document 0, with all of it −gap
    return recovery(0.0, -sum(gains), -sum(gaps)), recovery_interval([gains], [gaps], seed)


def gains_and_gaps(asked: Sequence[AnsweredQuestion], method: str) -> tuple[list[float], list[float]]:
    """Give, by question, by how much the method lowers the NLL of ŷ, and by how much the document does."""
    outcomes = outcomes_of(asked, method)
    nones = [record.methods["none"].nll for record, _ in outcomes]
    fulls = [record.methods["full"].nll for record, _ in outcomes]
    gains = [none - answer.nll for none, (_, answer) in zip(nones, outcomes, strict=True)]
    return gains, [none - full for none, full in zip(nones, fulls, strict=True)]
