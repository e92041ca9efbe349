"""Answering a question from a prefix: σ's, the document's, or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from precis.confidence import Calibration, features_of
from precis.decoding import Token
from precis.errors import QuestionsError
from precis.language_model import Conditioned
from precis.support import Passage

LONGEST = 256


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Parameters
    ----------
    text
        The answer.
    tokens
        Its token ids, the stop token included where the model ended by itself.
    finish_reason
        `stop`, or `length` if the limit ended it.
    prompt_positions
        How many positions stood before the question; where heads hold different numbers of slots,
        their mean.
    prefix_bytes
        Memory of their keys and values.
    first_token_s, seconds
        Time to the first token, and in all, from when the prefix was ready.
    confidence
        Calibrated probability that the answer agrees with the full document's; None where no calibration
        was given.
    passages
        What the document says on the question, where that was asked for: found by the question's words, not
        what the answer was made from.
    """

    text: str
    tokens: list[int]
    finish_reason: str
    prompt_positions: int
    prefix_bytes: int
    first_token_s: float
    seconds: float
    confidence: float | None = None
    passages: tuple[Passage, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)


def answer(
    given: Conditioned,
    question: str,
    *,
    longest: int = LONGEST,
    hear: Callable[[str], None] = lambda _: None,
    calibration: Calibration | None = None,
) -> Answer:
    """Answer one question greedily.

    Parameters
    ----------
    given
        The model with what stands before the question.
    longest
        The most tokens.
    hear
        Called with every new piece of text as soon as it is known.
    calibration
        Gives the answer its confidence; it must have been fitted to answers given from this prefix.

    Raises
    ------
    QuestionsError
        The question is empty, or does not fit the model's window.
    """
    if not question.strip():
        raise QuestionsError("The question is empty. Ask something, in quotation marks.")
    chat = given.model.chat
    start = time.perf_counter()
    first = 0.0
    chosen: list[Token] = []
    tokens: list[int] = []
    said = ""
    for token in given.stream(chat.asking(question), max_tokens=longest):
        first = first or time.perf_counter() - start
        chosen.append(token)
        tokens.append(token.id)
        text = chat.decode(tokens)
        # a character may need more than one token: wait until it is whole
        if text.startswith(said) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            hear(text[len(said) :])
            said = text
    finished = bool(tokens) and tokens[-1] in chat.stop_tokens
    text = chat.decode(tokens)
    if text.startswith(said):
        hear(text[len(said) :])
    return Answer(
        text=text,
        tokens=tokens,
        finish_reason="stop" if finished else "length",
        prompt_positions=given.prefix.slots_a_head,
        prefix_bytes=given.prefix.nbytes,
        first_token_s=first,
        seconds=time.perf_counter() - start,
        confidence=None if calibration is None else _confidence(calibration, chosen),
    )


def _confidence(calibration: Calibration, tokens: Sequence[Token]) -> float:
    log_probabilities = [token.log_probability for token in tokens]
    return calibration.probability(features_of(log_probabilities, [token.entropy for token in tokens]))
