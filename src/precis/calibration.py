"""Confidence: a calibrated probability that an answer is right, and stands in the document.

What is seen of an answer says a lot about whether it is right, but not as a probability: the model's own
doubt (Kadavath et al., 2022, arXiv 2207.05221), whether the document speaks of what is asked, and whether
the answer was read there. So at the end of a compile σ answers the held-out self-study questions, whose gold
answers are known, and questions about other texts, which the document does not answer. A logistic regression
on those features is fitted to whether the answers are right: Platt's scaling (Platt, 1999).

There are few such questions. Three things keep the fit honest. Its slopes have a Gaussian prior, so that
they leave zero, and confidence leaves the base rate, only as far as the points bear it. They are never
negative: less doubt never means less confidence. And where the fitted probabilities are counted on to choose
a threshold, each point's comes from a fit to all the others.

Questions that σ was trained on are not used: it has seen their gold answers, and a fit to them would
promise for new questions what holds for those alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precis.errors import SettingsError
from precis.measures import normalised, token_f1

# Two answers agree where the words that they add to the question have this F1 or more: "Ada Lund" and "the
# harbour master, Ada Lund" do, "Ada Lund" and "Boris Lund, of Milo" do not.
AGREEING_F1 = 0.5
# Or where one says so much of the other.
AGREEING_SHARE = 0.7
# What is seen of an answer; each is greater the surer the model was.
FEATURES = (
    "mean log-probability",
    "negative highest entropy",
    "question's words in the passages",
    "answer's words in the passages",
)
# Standard deviation of the prior of a slope: one more standard deviation of a feature then changes the
# odds by a factor of e or so.
SLOPE_DEVIATION = 1.0
NEWTON_STEPS = 50
# Share of the slopes that is kept where they were fitted to questions about other texts, too: self-study's
# questions use the document's words more than people's do, and differ more from those (docs/experiments.md).
STEEPNESS = 0.4
LARGEST_SHIFT = 50.0
# Median answers, half of them right, that stand beside the held-out ones: those are few, and self-study's
# questions are easier than people's (docs/experiments.md). Two would be Laplace's rule.
DOUBT = 4

Floats = NDArray[np.float64]


def agrees(said: str, gold: str, question: str = "") -> bool:
    """Whether an answer says what the gold answer says, as far as words can tell.

    What they repeat of the question tells nothing, and does not count unless the gold answer is no more than
    that. An answer may say more than the gold one, as long as it says that.
    """
    asked = set(normalised(question).split())
    words, wanted = normalised(said).split(), normalised(gold).split()
    if new := [word for word in wanted if word not in asked]:
        words, wanted = [word for word in words if word not in asked], new
    held = len(set(words) & set(wanted)) / len(set(wanted)) if wanted else 0.0
    return held >= AGREEING_SHARE or token_f1(" ".join(words), " ".join(wanted)) >= AGREEING_F1


@dataclass(frozen=True)
class FallbackStep:
    """What re-reading the document below one threshold brings.

    Parameters
    ----------
    threshold
        Answers with less confidence are answered again from the full document.
    share
        Share of the held-out questions for which that happens.
    agreement
        Share that is then expected to agree with the full document.
    """

    threshold: float
    share: float
    agreement: float


@dataclass(frozen=True)
class Calibration:
    """From an answer's features to a probability.

    Parameters
    ----------
    mean, scale
        `[feature]`: what standardises the features.
    slopes
        `[feature]`, none negative, on the standardised features.
    intercept
        Logit of the probability where all features are at their mean.
    base_rate
        Share of the points that agree.
    points
        How many answers it was fitted to.
    fallback
        From the lowest threshold, which re-reads nothing, to 1, which re-reads everything.
    recall
        How many passages stood beside σ; answers that are given otherwise have no confidence.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    slopes: tuple[float, ...]
    intercept: float
    base_rate: float
    points: int
    fallback: tuple[FallbackStep, ...]
    recall: int = 0

    @classmethod
    def fit(
        cls,
        features: Sequence[Sequence[float]],
        agreed: Sequence[bool],
        *,
        unanswerable: Sequence[Sequence[float]] = (),
        recall: int = 0,
    ) -> Calibration:
        """Fit to answers of which it is known whether they agree.

        Parameters
        ----------
        features
            `[answer, feature]`, at least one answer.
        agreed
            `[answer]`.
        unanswerable
            Those of answers to questions that the document does not answer, each of them wrong. However many
            they are, they weigh together as much as the others.
        recall
            How many passages stood beside σ.
        """
        answered, outcomes = np.asarray(features, dtype=np.float64), np.asarray(agreed, dtype=np.float64)
        unanswered = np.asarray(unanswerable, dtype=np.float64).reshape(-1, answered.shape[1])
        mean, scale, intercept, slopes = _fit_all(answered, outcomes, unanswered)
        return cls(
            mean=_rounded(mean),
            scale=_rounded(scale),
            slopes=_rounded(slopes),
            intercept=round(intercept, 9),
            base_rate=float(outcomes.mean()),
            points=len(outcomes),
            fallback=_fallback_steps(_left_out_probabilities(answered, outcomes, unanswered), outcomes),
            recall=recall,
        )

    def probability(self, features: Sequence[float]) -> float:
        """Give the confidence in an answer with these features, in (0, 1)."""
        surer = (np.asarray(features) - np.asarray(self.mean)) / np.asarray(self.scale)
        return float(_sigmoid(self.intercept + surer @ np.asarray(self.slopes)))

    def threshold(self, agreement: float) -> float:
        """Give the confidence below which to re-read, so that a share of all answers agrees.

        It is the lowest one that reaches the target on the held-out questions, so that no more is
        re-read than must be.

        Raises
        ------
        SettingsError
            The target is not in (0, 1].
        """
        if not 0 < agreement <= 1:
            raise SettingsError(
                f"The agreement aimed at is {agreement}; it must be more than 0 and at most 1 (1 re-reads "
                "the document for every question)."
            )
        return next(step.threshold for step in self.fallback if step.agreement >= agreement)

    def to_json(self) -> dict[str, Any]:
        """Give plain values, for the manifest."""
        values = {"agreeing_f1": AGREEING_F1, "features": FEATURES, **asdict(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Calibration | None:
        """Read what `to_json` gave; None where it was fitted to other features than are used now."""
        if tuple(values["features"]) != FEATURES:
            return None
        return cls(
            mean=tuple(values["mean"]),
            scale=tuple(values["scale"]),
            slopes=tuple(values["slopes"]),
            intercept=values["intercept"],
            base_rate=values["base_rate"],
            points=values["points"],
            fallback=tuple(FallbackStep(**step) for step in values["fallback"]),
            recall=values["recall"],
        )


def _fit_all(answered: Floats, outcomes: Floats, unanswered: Floats) -> tuple[Floats, Floats, float, Floats]:
    """Give mean and scale of the features, the intercept and the slopes.

    Both kinds of questions together tell what doubt looks like: the slopes. How sure to be of an answer is
    told by those that the document answers.
    """
    if not len(unanswered):
        return _standardise_and_fit(answered, outcomes, np.ones(len(outcomes)))
    points = np.vstack([answered, unanswered])
    known = np.append(outcomes, np.zeros(len(unanswered)))
    share = len(outcomes) / len(unanswered)
    weights = np.append(np.ones(len(outcomes)), np.full(len(unanswered), share))
    mean, scale, _, slopes = _standardise_and_fit(points, known, weights)
    eased = STEEPNESS * slopes
    return mean, scale, _intercept((answered - mean) / scale @ eased, outcomes), eased


def _intercept(logits: Floats, outcomes: Floats) -> float:
    """Shift log-odds so that they come true in the mean of the answers and of `DOUBT` more."""
    logits = np.append(logits, [np.median(logits)] * DOUBT)
    right = outcomes.sum() + DOUBT / 2
    low, high = -LARGEST_SHIFT, LARGEST_SHIFT
    for _ in range(NEWTON_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logits + middle).sum() < right else (low, middle)
    return float(low + high) / 2


def _standardise_and_fit(
    features: Floats, agreed: Floats, weights: Floats
) -> tuple[Floats, Floats, float, Floats]:
    """Give mean and scale of the features, the intercept and the slopes."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale < 1e-9] = 1.0
    intercept, slopes = _fit((features - mean) / scale, agreed, weights)
    return mean, scale, intercept, slopes


def _fit(features: Floats, agreed: Floats, point_weights: Floats) -> tuple[float, Floats]:
    """Most probable intercept and slopes, no slope negative.

    The optimum lies inside or on a face of the orthant of non-negative slopes; with four features there
    are sixteen such sets of free slopes, and the best admissible one is the answer.
    """
    count = features.shape[1]
    best = (-math.inf, 0.0, np.zeros(count))
    for size in range(count + 1):
        for free in combinations(range(count), size):
            height, weights = _maximise(features[:, free], agreed, point_weights)
            if height > best[0] and (weights[1:] >= 0).all():
                slopes = np.zeros(count)
                slopes[list(free)] = weights[1:]
                best = (height, float(weights[0]), slopes)
    return best[1], best[2]


def _maximise(features: Floats, agreed: Floats, point_weights: Floats) -> tuple[float, Floats]:
    """Maximise the log-posterior by Newton's method; its height, and intercept and slopes.

    The intercept's prior is two more answers with average features, one that agrees and one that does
    not: without slopes the probability is then Laplace's (agreed + 1) / (points + 2), never 0 or 1.
    """
    width = features.shape[1] + 1
    average = np.eye(1, width).repeat(2, axis=0)
    inputs = np.vstack([np.column_stack([np.ones(len(features)), features]), average])
    outcomes = np.append(agreed, [0.0, 1.0])
    counts = np.append(point_weights, [1.0, 1.0])
    precision = np.diag([0.0, *[SLOPE_DEVIATION**-2] * (width - 1)])

    def height(weights: Floats) -> float:
        logits = inputs @ weights
        likelihood = counts * (outcomes * logits - np.logaddexp(0, logits))
        return float(likelihood.sum() - weights @ precision @ weights / 2)

    weights = np.zeros(width)
    for _ in range(NEWTON_STEPS):
        likely = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (counts * (outcomes - likely)) - precision @ weights
        curvature = (inputs.T * (counts * likely * (1 - likely))) @ inputs + precision
        step = np.linalg.solve(curvature, gradient)
        while height(weights + step) < height(weights) and np.abs(step).max() > 1e-9:
            step /= 2
        weights = weights + step
        if np.abs(step).max() <= 1e-9:
            break
    return height(weights), weights


def _left_out_probabilities(answered: Floats, outcomes: Floats, unanswered: Floats) -> Floats:
    """Probability of each answered point by a fit to all the others, `[point]`."""
    if len(outcomes) == 1:
        return np.array([0.5])
    found = []
    for point in range(len(outcomes)):
        others = np.arange(len(outcomes)) != point
        mean, scale, intercept, slopes = _fit_all(answered[others], outcomes[others], unanswered)
        found.append(_sigmoid(intercept + (answered[point] - mean) / scale @ slopes))
    return np.array(found)


def _fallback_steps(probabilities: Floats, agreed: Floats) -> tuple[FallbackStep, ...]:
    """Agreement to expect at every threshold between two points, and beyond them all.

    A re-read answer agrees. Of the kept ones the share is estimated by Laplace's rule, since so few can
    all agree by luck; the estimate grows with the threshold all the same.
    """
    values = np.unique(probabilities)
    steps = []
    for threshold in (0.0, *((values[:-1] + values[1:]) / 2).tolist(), 1.0):
        kept = agreed[probabilities >= threshold]
        agreeing = len(kept) * (kept.sum() + 1) / (len(kept) + 2)
        re_read = len(agreed) - len(kept)
        share, agreement = re_read / len(agreed), (re_read + agreeing) / len(agreed)
        steps.append(FallbackStep(round(threshold, 6), round(share, 6), round(float(agreement), 6)))
    return tuple(steps)


def _sigmoid(logits: Any) -> Any:
    """Give 1 / (1 + e^−logit), kept clear of 0 and 1, where a probability would claim to be certain."""
    return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(value), 9) for value in values)
