"""Answering a question from a prefix: σ's, the document's, or none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from precis.calibration import Calibration
from precis.errors import QuestionsError
from precis.model.conditioned import Conditioned
from precis.model.decoding import Token
from precis.text.passages import Passage, Passages
from precis.text.recall import NOTHING, REFUSAL, Recalled, features_of

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
        How many positions stood before the question, those of recalled passages included; where heads hold
        different numbers of slots, their mean.
    prefix_bytes
        Memory of their keys and values.
    first_token_s, seconds
        Time to the first token, and in all, from when the prefix was ready.
    confidence
        Calibrated probability that the answer is right and stands in the document; None where no calibration
        was given.
    passages
        What was recalled of the document, word for word: the answer was made from these beside σ.
    withheld
        What the model said, where `text` says that the document does not say: its confidence was under the
        threshold.
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
    withheld: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)


def answer(
    given: Conditioned,
    question: str,
    *,
    longest: int = LONGEST,
    on_text: Callable[[str], None] = lambda _: None,
    recalled: Recalled = NOTHING,
    passages: Passages | None = None,
    calibration: Calibration | None = None,
    refuse_below: float = 0.0,
) -> Answer:
    """Answer one question greedily.

    Parameters
    ----------
    given
        The model with what stands before the question.
    longest
        The most tokens.
    on_text
        Called with every new piece of text as soon as it is known; once, where the answer may be refused.
    recalled, passages
        What stands before the question, and the document's passages that it is from.
    calibration
        Gives the answer its confidence; it must have been fitted to answers given from this prefix, with as
        many passages.
    refuse_below
        Under this confidence the answer is that the document does not say; 0: never.

    Raises
    ------
    QuestionsError
        The question is empty, or does not fit the model's window.
    """
    if not question.strip():
        raise QuestionsError("The question is empty. Ask something, in quotation marks.")
    chat = given.model.chat
    prompt = chat.question_prompt(question, recalled.text)
    added = len(prompt) - len(chat.question_prompt(question))
    may_refuse = calibration is not None and refuse_below > 0
    start = time.perf_counter()
    first = 0.0
    chosen: list[Token] = []
    tokens: list[int] = []
    said = ""
    for token in given.stream(prompt, max_tokens=longest):
        first = first or time.perf_counter() - start
        chosen.append(token)
        tokens.append(token.id)
        text = chat.decode(tokens)
        # a character may need more than one token: wait until it is whole
        if may_refuse:
            continue
        if text.startswith(said) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            on_text(text[len(said) :])
            said = text
    finished = bool(tokens) and tokens[-1] in chat.stop_tokens
    text = chat.decode(tokens)
    confidence = None
    if calibration is not None:
        probabilities, entropies = ([token[place] for token in chosen] for place in (1, 2))
        confidence = calibration.probability(
            features_of(probabilities, entropies, question, text, recalled, passages)
        )
    refused = may_refuse and confidence is not None and confidence < refuse_below
    shown = REFUSAL if refused else text
    if shown.startswith(said):
        on_text(shown[len(said) :])
    return Answer(
        text=shown,
        tokens=tokens,
        finish_reason="stop" if finished else "length",
        prompt_positions=given.prefix.slots_per_head + added,
        prefix_bytes=given.prefix.nbytes + added * given.model.token_bytes,
        first_token_s=first,
        seconds=time.perf_counter() - start,
        confidence=confidence,
        passages=recalled.passages,
        withheld=text if refused else None,
    )
