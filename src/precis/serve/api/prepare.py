"""From a request to the engine's work: bounds, prompts, and the prefix before each prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from precis.calibration import Calibration
from precis.model.decoding import Sampling
from precis.serve.api.api_error import ApiError
from precis.serve.api.limits import bounded
from precis.serve.api.requests import Asking
from precis.serve.engine.engine import ClosingError, Text, Work
from precis.serve.library import Opened
from precis.serve.service import Service, new_seed
from precis.text.passages import Passages
from precis.text.recall import NOTHING, RECALL, Recalled, recall

# Below so low a temperature the most likely token is certain, and dividing by it overflows.
LOWEST_TEMPERATURE = 1e-3


@dataclass(frozen=True)
class Ask:
    """What a request of either kind asks.

    Parameters
    ----------
    body
        The request.
    questions
        What is asked.
    prompts
        Gives the tokens that stand after the document, one list a question; takes the text that was
        recalled for each question.
    before
        What was asked before it in the conversation.
    """

    body: Asking
    questions: Sequence[str]
    prompts: Callable[[Sequence[str]], list[list[int]]]
    before: str = ""

    @property
    def answers_each(self) -> int:
        """How many answers each question gets."""
        return self.body.n or 1


@dataclass(frozen=True)
class PreparedRequest:
    """What can be begun, and what is described with the answer.

    Parameters
    ----------
    works
        The engine's work, one a question.
    calibration
        Gives the answers their confidence, where it is known.
    wanted
        How many passages were to be recalled for each question, at most.
    recalled, recalled_tokens
        For each question, what was recalled, and how many tokens that has.
    passages
        The document's, where any were to be recalled.
    positions, prefix_bytes
        Of the prefix before the questions and their passages.
    """

    works: list[Work]
    calibration: Calibration | None
    wanted: int
    recalled: list[Recalled]
    recalled_tokens: list[int]
    passages: Passages | None
    positions: int
    prefix_bytes: int

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the questions and of their passages."""
        return sum(len(work.prompt) for work in self.works)


def check(ask: Ask, service: Service) -> None:
    """Refuse a request that asks for too much, before any work is done.

    Raises
    ------
    ApiError
        400: the request asks for more than the limits allow.
    ClosingError
        The server is shutting down.
    """
    if service.closing:
        raise ClosingError
    body, limits = ask.body, service.limits
    rows = ask.answers_each * len(ask.questions)
    name = "n" if len(ask.questions) == 1 else f"n times the number of {body.questions_field}s"
    bounded("n" if body.n else body.questions_field, rows, limits.choices, name)
    named = "max_tokens" if body.max_tokens is not None else "max_completion_tokens"
    bounded(named, body.longest or 0, limits.answer_tokens)
    bounded("precis.recall", body.extension.recall or 0, limits.passages)


async def prepare(ask: Ask, opened: Opened, service: Service) -> PreparedRequest:
    """Make the prompts, and find the prefix and the passages that stand before the questions.

    Raises
    ------
    ApiError
        400: something does not fit, or is missing.
    """
    extension, model = ask.body.extension, service.model
    _check_text(ask, opened)
    wanted = _passages_wanted(ask, opened)
    samplings = _samplings(ask.body)
    calibration = _calibration(ask, opened, wanted, samplings[0])
    passages = opened.passages if wanted else None
    recalled = [NOTHING] * len(ask.questions)
    if passages is not None:
        found = passages
        recalled = await service.in_library(
            lambda: [recall(found, question, wanted, before=ask.before) for question in ask.questions]
        )
    prompts, recalled_tokens = await service.with_tokenizer(lambda: _prompts(ask, recalled))
    prefix, text = opened.prefix, None
    positions, prefix_bytes = prefix.slots_per_head, prefix.nbytes
    if extension.source == "document":
        reading = await service.in_library(lambda: opened.reading)
        _check_document(reading, service)
        prefix, text = model.empty_prefix(), Text(opened.manifest.document.sha256, reading)
        positions = len(reading)
        prefix_bytes = positions * model.token_bytes
    works = [
        Work(
            prefix,
            prompt,
            ask.body.longest or service.limits.default_answer_tokens,
            samplings,
            ask.body.top or 0,
            calibration is not None,
            text,
        )
        for prompt in prompts
    ]
    for work, tokens in zip(works, recalled_tokens, strict=True):
        _check_prompt(work, tokens, service, ask.body.questions_field)
    return PreparedRequest(
        works, calibration, wanted, recalled, recalled_tokens, passages, positions, prefix_bytes
    )


def _check_text(ask: Ask, opened: Opened) -> None:
    """Refuse what needs the document's text, where that is not kept."""
    extension = ask.body.extension
    for name, wanted in (
        ("precis.from", extension.source == "document"),
        ("precis.recall", bool(extension.recall)),
    ):
        if wanted and opened.document is None:
            raise ApiError(
                400,
                f"'{name}' needs the document's text, which {ask.body.model} does not keep. Compile it again "
                "with its text, or leave this out.",
                param=name,
                code="text_not_kept",
            )


def _passages_wanted(ask: Ask, opened: Opened) -> int:
    """Give how many passages to recall for each question: as asked for, or the default of `Compiled.ask`."""
    extension = ask.body.extension
    if extension.recall is not None:
        return extension.recall
    return RECALL if opened.passages is not None and extension.source == "soft_prompt" else 0


def _calibration(ask: Ask, opened: Opened, wanted: int, sampling: Sampling) -> Calibration | None:
    """Give what the answers' confidence comes from, if it was fitted to answers that are given as these are.

    Raises
    ------
    ApiError
        400: there is no calibration, and answers are to be refused by their confidence.
    """
    extension, calibration = ask.body.extension, opened.calibration
    # it was fitted to answers from σ to whose tokens no chance belonged
    alike = sampling.temperature == 0 and extension.source == "soft_prompt"
    if calibration is not None and alike and calibration.recall == wanted:
        return calibration
    if extension.refuse_below:
        raise ApiError(
            400,
            "'precis.refuse_below' needs a confidence, which is not known for this request: it must ask from "
            "the soft prompt, at temperature 0, with the usual number of passages, and the file of "
            f"{ask.body.model} must hold a calibration. Leave this out, or ask so.",
            param="precis.refuse_below",
            code="confidence_not_known",
        )
    return None


def _prompts(ask: Ask, recalled: Sequence[Recalled]) -> tuple[list[list[int]], list[int]]:
    """Give each question's tokens, and how many of those come from its passages."""
    prompts = ask.prompts([each.text for each in recalled])
    if not any(each.text for each in recalled):
        return prompts, [0] * len(prompts)
    alone = ask.prompts([""] * len(prompts))
    return prompts, [len(whole) - len(part) for whole, part in zip(prompts, alone, strict=True)]


def _check_document(reading: Sequence[int], service: Service) -> None:
    window = service.model.window
    most = min(window - 1, service.memory_tokens)
    if len(reading) > most:
        why = "the model's window" if most == window - 1 else "the memory set aside for it"
        raise ApiError(
            400,
            f"'precis.from' cannot be 'document' here: the document has {len(reading):,} tokens, and {why} "
            f"takes {most:,}. Ask from the soft prompt.",
            param="precis.from",
            code="context_length_exceeded",
        )


def _check_prompt(work: Work, recalled_tokens: int, service: Service, param: str) -> None:
    tokens = len(work.prompt)
    room = service.model.window - (work.end - tokens) - 1
    most = min(room, service.limits.prompt_tokens)
    if tokens > most:
        why = "are left of the model's window" if room == most else "are taken by this server"
        recalled = f" with the {recalled_tokens:,} that were recalled" if recalled_tokens else ""
        fewer = ", or recall fewer passages ('precis.recall')" if recalled_tokens else ""
        raise ApiError(
            400,
            f"'{param}' has {tokens:,} tokens{recalled}; {max(0, most):,} {why}. Ask more shortly, or "
            f"leave out earlier turns{fewer}.",
            param=param,
            code="context_length_exceeded",
        )


def _samplings(body: Asking) -> list[Sampling]:
    """Give how each of the answers to a question chooses its tokens."""
    temperature = body.temperature or 0.0
    if temperature < LOWEST_TEMPERATURE:
        return [Sampling()] * (body.n or 1)
    top_p = 1.0 if body.top_p is None else body.top_p
    seed = new_seed() if body.seed is None else body.seed
    return [Sampling(temperature, top_p, (seed + number) % 2**63) for number in range(body.n or 1)]
