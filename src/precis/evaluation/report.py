"""What an evaluation found: plain values, question by question and method by method."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from precis.evaluation.reliability import Reliability

BY_HUMANS, BY_THE_DOCUMENT = "human answers", "the full document's answers"


@dataclass(frozen=True)
class MethodAnswer:
    """What one method made of one question.

    Parameters
    ----------
    text
        Its greedy answer; None where answers were not asked for (that of `full` is always known).
    nll
        Negative log-likelihood of ŷ, the full-document answer, summed over its tokens.
    kl
        KL divergence, over the whole vocabulary, from the teacher with the full document, summed over
        the tokens of ŷ.
    top1
        At how many tokens of ŷ the most likely token is the same.
    match
        Token F1 between `text` and ŷ; None without `text`.
    confidence
        Calibrated probability that `text` is right; None where the method has no calibration.
    right
        Whether a human's answer occurs in `text`; where no question of the set has any, whether `text` agrees
        with ŷ. None without `text`, and where only other questions have human answers.
    positions
        How many positions stood before the question, what was recalled for it included.
    """

    text: str | None
    nll: float
    kl: float
    top1: int
    match: float | None
    confidence: float | None = None
    right: bool | None = None
    positions: int = 0


@dataclass(frozen=True)
class AnsweredQuestion:
    """One question, and what every method made of it.

    Parameters
    ----------
    question, humans
        Its text, and the answers that a human gave, if any.
    tokens
        Length of ŷ; 0 for a question that was not asked since it does not fit the model's window.
    place
        The character of the document's text at which the passage starts that suits the question best
        (BM25).
    methods
        By name: `none`, `full`, and the others. A method that failed on the question is absent.
    """

    question: str
    humans: list[str]
    tokens: int
    place: int
    methods: dict[str, MethodAnswer]


@dataclass(frozen=True)
class MethodScores:
    """One row of the report.

    Parameters
    ----------
    right, right_interval
        Share of the questions that are answered right, with its 95 % interval (Wilson's).
    right_count, judged
        How many are; and of how many it is known whether they are.
    kept
        Of the questions that the full document answers right, the share that the method answers right, too;
        None where there is none.
    f1
        Mean token F1 against human answers, by SQuAD's rules; None if there are none.
    answer_words
        Mean length of an answer in words: whoever quotes much is right more often.
    prompt_positions, prefix_bytes
        Positions before the question, those of recalled passages included, in the mean; and the memory of
        their keys and values, in the mean of those questions that were timed. Where heads hold different
        numbers of keys, their mean; what pads them to the same length does not count.
    first_token_s, tokens_per_s
        Median time from a question to the first token of its answer, finding passages and reading the
        document (if the method does) included; and the pace after it, one question at a time.
    recovery
        (NLL_none − NLL) / (NLL_none − NLL_full), None
        where the document does not help the model.
    interval
        Its 95 % bootstrap interval over questions; see `scoring.bootstrap_recovery`.
    nll
        Mean negative log-likelihood a token of ŷ, the full-document answer.
    kl
        Mean KL divergence, over the whole vocabulary, from the teacher with the full document, at the
        positions of ŷ.
    top1
        Share of those positions at which the most likely token is the same.
    match
        Mean token F1 between the method's own greedy answer and ŷ.
    em
        Exact match against human answers, by SQuAD's rules; None if there are none.
    failures
        Questions without a result. Those that could be asked of no method, since they do not fit the window,
        are left out of the means; what this method alone failed on counts as answered wrongly, and as well
        as without the document.
    reason
        Why the method failed on all of them; None where it did not.
    """

    right: float | None
    right_interval: tuple[float, float] | None
    right_count: int
    judged: int
    kept: float | None
    f1: float | None
    answer_words: float | None
    prompt_positions: float | None
    prefix_bytes: int | None
    first_token_s: float | None
    tokens_per_s: float | None
    recovery: float | None
    interval: tuple[float, float] | None
    nll: float | None
    kl: float | None
    top1: float | None
    match: float | None
    em: float | None
    failures: int
    reason: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same questions.

    Parameters
    ----------
    method, against
        Their names.
    difference
        By how much the first one's share of right answers is greater.
    interval
        Its 95 % interval: a bootstrap over questions, the two methods' answers to a question staying
        together.
    questions
        How many both answered.
    """

    method: str
    against: str
    difference: float
    interval: tuple[float, float] | None
    questions: int


@dataclass(frozen=True)
class Report:
    """What `evaluate` found.

    Parameters
    ----------
    model, document
        Their names.
    questions
        How many were asked.
    ratio
        Document tokens a slot.
    judged_by
        What makes an answer right: "human answers"; or "the full document's answers", where no question comes
        with human ones: right is then what agrees with them.
    recovery
        That of σ alone; None where the document does not help the model.
    methods
        By name: `none`, `full` (the whole document), `full-recall` (and the recalled passage), `soft-prompt`
        (σ alone), `precis` (σ and the recalled passage, as `ask` answers), `other-recall` (the same passage
        after the σ of another document, where one was given), `retrieve` (with as many tokens as `precis`
        uses in all), and the baselines that were asked for.
    comparisons
        Pairs of methods; see `evaluate.COMPARED`.
    asked
        Every question with what each method made of it, in the order given.
    reliability
        How far confidence can be believed: that of `precis`, or of `soft-prompt` where the calibration is for
        answers from σ alone; None where there is none. What re-reading the document buys is told by agreement
        with it, all else by right answers.
    """

    model: str
    document: str
    questions: int
    ratio: float
    judged_by: str
    recovery: float | None
    methods: dict[str, MethodScores]
    comparisons: list[Comparison] = field(default_factory=list)
    asked: list[AnsweredQuestion] = field(default_factory=list)
    reliability: Reliability | None = None

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)
