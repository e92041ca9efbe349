"""`/v1/chat/completions` and `/v1/completions`: questions about documents, as OpenAI's clients ask them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from precis.calibration import Calibration
from precis.errors import PrecisError
from precis.model.decoding import Sampling
from precis.serve.api.api_error import ApiError
from precis.serve.api.limits import Limits, bounded
from precis.serve.api.requests import Asking, ChatRequest, CompletionRequest, conversation
from precis.serve.api.responses import ChatCompletion, Completion, error_responses
from precis.serve.engine.answering import Answering, Choice, Piece
from precis.serve.engine.engine import BusyError, ClosingError, EngineError, Text, Work
from precis.serve.engine.text_stream import Placed, token_bytes
from precis.serve.library import BrokenDocumentError, Opened, UnknownDocumentError
from precis.serve.logs import log
from precis.serve.metrics import GONE
from precis.serve.service import Service, new_seed
from precis.text.passages import Passages
from precis.text.recall import NOTHING, RECALL, REFUSAL, Recalled, features_of, recall

router = APIRouter(tags=["answers"])
Result = TypeVar("Result")
# Below so low a temperature the most likely token is certain, and dividing by it overflows.
LOWEST_TEMPERATURE = 1e-3
CLOSING_RETRY_S = 5
# JSON has no infinity; what is that improbable is described as OpenAI does.
LEAST_LOGPROB = -9999.0


@dataclass(frozen=True)
class Ask:
    """What a request of either kind asks for.

    Parameters
    ----------
    body
        The request.
    longest
        The most tokens of an answer, where it says so.
    top
        How many of the most likely tokens to tell; None: no log-probabilities.
    questions
        What is asked.
    before
        What was asked before it in the conversation.
    prompts
        Gives the tokens that stand after the document, one list a question; of the text that was recalled for
        each.
    param
        The field that the questions are in.
    """

    body: Asking
    longest: int | None
    top: int | None
    questions: Sequence[str]
    before: str
    prompts: Callable[[Sequence[str]], list[list[int]]]
    param: str

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
        One a question.
    calibration
        Gives the answers their confidence, where it is known.
    wanted
        How many passages were to be recalled for each question, at most.
    recalled, recalled_tokens
        What was, a question, and how many tokens that is.
    passages
        The document's, where any were to be recalled.
    positions, prefix_bytes
        Of what stands before the questions and what was recalled for them.
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
        """Tokens of the questions, and of what was recalled for them."""
        return sum(len(work.prompt) for work in self.works)


@router.post("/v1/chat/completions", responses=error_responses(ChatCompletion, stream=True))
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """Answer the last message of a conversation about a document."""
    instruction, turns, question = conversation(body.messages)
    chat = _service(request).model.chat
    ask = Ask(
        body,
        body.longest(),
        body.top(),
        [question],
        turns[-1].said if turns else "",
        lambda recalled: [chat.conversation_prompt(turns, question, instruction, text) for text in recalled],
        "messages",
    )
    return await _respond(request, ask, ChatShape())


@router.post("/v1/completions", responses=error_responses(Completion, stream=True))
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Answer a question, or several, about a document."""
    chat = _service(request).model.chat
    ask = Ask(
        body,
        body.max_tokens,
        body.logprobs,
        body.prompts,
        "",
        lambda recalled: [
            chat.question_prompt(prompt, text) for prompt, text in zip(body.prompts, recalled, strict=True)
        ],
        "prompt",
    )
    return await _respond(request, ask, CompletionShape())


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _respond(request: Request, ask: Ask, shape: Shape) -> Response:
    """Answer, in one piece or as a stream; who hangs up is let go at once."""
    service = _service(request)
    _check(ask, service)
    answering = Answering(
        service.engine,
        service.tokenizer,
        ask.body.stops,
        time.perf_counter(),
        in_one_piece=ask.body.extension.refuse_below > 0,
    )
    end = asyncio.get_running_loop().time() + service.limits.answer_s
    with ExitStack() as at_end:
        at_end.enter_context(service.request_under_way())
        at_end.callback(answering.drop)
        try:
            async with asyncio.timeout_at(end):
                prepared = await _unless_gone(request, _answer(service, ask, answering))
        except TimeoutError:
            raise _too_slow(service.limits) from None
        except PrecisError as error:
            raise api_error_of(error) from error
        if prepared is None:
            return Response(status_code=GONE)
        at_end.callback(_count, service, answering, prepared)
        reply = Reply(ask, answering, prepared, service, shape)
        if not ask.body.stream:
            return JSONResponse(reply.whole())
        # the stream goes on after this function: what is to be done at its end goes with it
        return EventStream(reply.events(end), service.limits.send_s, at_end.pop_all().close)


async def _answer(service: Service, ask: Ask, answering: Answering) -> PreparedRequest:
    """Begin, and wait for the first token of a stream, or for the whole of an answer."""
    opened = await service.in_library(service.library.open, ask.body.model)
    prepared = await _prepare(service, ask, opened)
    answering.begin(prepared.works)
    await (answering.begun() if ask.body.stream else answering.finished())
    return prepared


async def _unless_gone(request: Request, answer: Coroutine[Any, Any, Result]) -> Result | None:
    """Wait for an answer, or, where that comes first, for the client to hang up."""
    tasks = (asyncio.ensure_future(answer), asyncio.ensure_future(_gone(request)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        # nobody else may listen to the connection while one of them still does
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _check(ask: Ask, service: Service) -> None:
    """Refuse what asks for too much, before anything is done for it."""
    if service.closing:
        raise api_error_of(ClosingError())
    body, limits = ask.body, service.limits
    if body.stream_options is not None and not body.stream:
        raise ApiError(
            400,
            "'stream_options' is only for 'stream': true; leave it out.",
            param="stream_options",
            code="invalid_value",
        )
    rows = ask.answers_each * len(ask.questions)
    name = "n" if len(ask.questions) == 1 else f"n times the number of {ask.param}s"
    bounded("n" if body.n else ask.param, rows, limits.choices, name)
    named = "max_tokens" if body.max_tokens is not None else "max_completion_tokens"
    bounded(named, ask.longest or 0, limits.answer_tokens)
    bounded("precis.recall", body.extension.recall or 0, limits.passages)


async def _prepare(service: Service, ask: Ask, opened: Opened) -> PreparedRequest:
    """Make the prompts, and find what is to stand before them.

    Raises
    ------
    ApiError
        400: something does not fit, or is not there.
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
            ask.longest or service.limits.default_answer_tokens,
            samplings,
            ask.top or 0,
            calibration is not None,
            text,
        )
        for prompt in prompts
    ]
    for work, tokens in zip(works, recalled_tokens, strict=True):
        _check_prompt(work, tokens, service, ask.param)
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
    """Give how many passages to recall for each question: as asked for, or as `Compiled.ask` does."""
    extension = ask.body.extension
    if extension.recall is not None:
        return extension.recall
    return RECALL if opened.passages is not None and extension.source == "soft_prompt" else 0


def _calibration(ask: Ask, opened: Opened, wanted: int, sampling: Sampling) -> Calibration | None:
    """Give what the answers' confidence comes from, if it was fitted to answers that are given as these are.

    Raises
    ------
    ApiError
        400: there is none, and answers are to be refused by it.
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
    """Give each question's tokens, and how many of them are what was recalled for it."""
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


def api_error_of(error: PrecisError) -> ApiError:
    """Put an error into OpenAI's shape."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BusyError):
        return ApiError(429, str(error), code="queue_full", retry_s=error.retry_s)
    if isinstance(error, ClosingError):
        return ApiError(503, str(error), code="shutting_down", retry_s=CLOSING_RETRY_S)
    if isinstance(error, UnknownDocumentError):
        return ApiError(404, str(error), param="model", code="model_not_found")
    if isinstance(error, BrokenDocumentError):
        return ApiError(404, str(error), param="model", code="model_broken")
    if isinstance(error, EngineError):
        return ApiError(500, str(error), code="internal_error")
    return ApiError(400, str(error), code="invalid_value")


def _too_slow(limits: Limits) -> ApiError:
    return ApiError(
        408,
        f"The answer was not there after {limits.answer_s:g} s, waiting included. Try again later, or ask "
        "for a shorter one.",
        code="answer_timeout",
        retry_s=CLOSING_RETRY_S,
    )


def _count(service: Service, answering: Answering, prepared: PreparedRequest) -> None:
    metrics = service.metrics
    metrics.tokens.labels("question").inc(prepared.prompt_tokens)
    metrics.tokens.labels("answer").inc(sum(choice.tokens for choice in answering.choices))
    if answering.first_token_s is not None:
        metrics.first_token.observe(answering.first_token_s)


class Shape(Protocol):
    """How one of the two APIs writes an answer down."""

    prefix: str
    whole: str
    chunk: str

    def openings(self, index: int) -> list[dict[str, Any]]:
        """Give what stands in a stream before any text of an answer."""
        ...

    def part(self, piece: Piece, logprobs: Any) -> list[dict[str, Any]]:
        """Give what stands in a stream for something new."""
        ...

    def choice(self, piece: Piece, logprobs: Any) -> dict[str, Any]:
        """Give a whole answer."""
        ...

    def logprobs(self, tokenizer: Any, placed: Sequence[Placed]) -> dict[str, Any]:
        """Give tokens with their log-probabilities."""
        ...


class ChatShape:
    """`/v1/chat/completions`."""

    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def openings(self, index: int) -> list[dict[str, Any]]:
        """Tell the role."""
        return [_delta(index, {"role": "assistant", "content": ""}, None, None)]

    def part(self, piece: Piece, logprobs: Any) -> list[dict[str, Any]]:
        """Give the text, then its end."""
        parts = [_delta(piece.index, {"content": piece.text}, logprobs, None)] if piece.text else []
        if piece.finish_reason:
            parts.append(_delta(piece.index, {}, None, piece.finish_reason))
        return parts

    def choice(self, piece: Piece, logprobs: Any) -> dict[str, Any]:
        """Give a message."""
        return {
            "index": piece.index,
            "message": {"role": "assistant", "content": piece.text, "refusal": None},
            "logprobs": logprobs,
            "finish_reason": piece.finish_reason,
        }

    def logprobs(self, tokenizer: Any, placed: Sequence[Placed]) -> dict[str, Any]:
        """Give one object a token."""

        def described(token: int, log_probability: float) -> dict[str, Any]:
            text = tokenizer.decode([token])
            logprob = max(LEAST_LOGPROB, log_probability)
            return {"token": text, "logprob": logprob, "bytes": token_bytes(tokenizer, token)}

        content = [
            {
                **described(item.chosen.token, item.chosen.log_probability),
                "top_logprobs": [described(*likely) for likely in item.chosen.top],
            }
            for item in placed
        ]
        return {"content": content, "refusal": None}


def _delta(index: int, delta: dict[str, Any], logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


class CompletionShape:
    """`/v1/completions`."""

    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"

    def openings(self, index: int) -> list[dict[str, Any]]:
        """Nothing stands before the text."""
        return []

    def part(self, piece: Piece, logprobs: Any) -> list[dict[str, Any]]:
        """Give text and end together."""
        return [
            {
                "index": piece.index,
                "text": piece.text,
                "logprobs": logprobs if piece.text else None,
                "finish_reason": piece.finish_reason,
            }
        ]

    def choice(self, piece: Piece, logprobs: Any) -> dict[str, Any]:
        """Give a text."""
        return {
            "index": piece.index,
            "text": piece.text,
            "logprobs": logprobs,
            "finish_reason": piece.finish_reason,
        }

    def logprobs(self, tokenizer: Any, placed: Sequence[Placed]) -> dict[str, Any]:
        """Give one list a property."""

        def described(log_probability: float) -> float:
            return max(LEAST_LOGPROB, log_probability)

        return {
            "tokens": [tokenizer.decode([item.chosen.token]) for item in placed],
            "token_logprobs": [described(item.chosen.log_probability) for item in placed],
            "top_logprobs": [
                {tokenizer.decode([token]): described(value) for token, value in item.chosen.top}
                for item in placed
            ],
            "text_offset": [item.start for item in placed],
        }


class Reply:
    """Writes down what comes of an answer."""

    def __init__(
        self, ask: Ask, answering: Answering, prepared: PreparedRequest, service: Service, shape: Shape
    ) -> None:
        self._ask = ask
        self._answering = answering
        self._prepared = prepared
        self._service = service
        self._shape = shape
        self._head = {
            "id": f"{shape.prefix}-{uuid.uuid4().hex}",
            "object": shape.chunk if ask.body.stream else shape.whole,
            "created": int(time.time()),
            "model": ask.body.model,
            "system_fingerprint": service.fingerprint,
        }

    def whole(self) -> dict[str, Any]:
        """Give the whole answer."""
        choices = []
        for choice in self._answering.choices:
            piece = self._as_told(Piece(choice.index, *choice.stream.take(), choice.finish_reason))
            choices.append(self._shape.choice(piece, self._logprobs(piece.placed)))
        return {**self._head, "choices": choices, "usage": self._usage(), "precis": self._about()}

    async def events(self, end: float) -> AsyncIterator[str]:
        """Give the answer as it comes, as server-sent events; what goes wrong is one of them.

        Parameters
        ----------
        end
            By when it must be there, as the event loop counts.
        """
        options = self._ask.body.stream_options
        with_usage = options is not None and bool(options.include_usage)
        usage: dict[str, Any] = {"usage": None} if with_usage else {}
        opened = [part for choice in self._answering.choices for part in self._shape.openings(choice.index)]
        if opened:
            yield "".join(self._event([part], usage) for part in opened)
        try:
            async with asyncio.timeout_at(end):
                while pieces := await self._answering.pieces():
                    parts = [
                        part
                        for piece in map(self._as_told, pieces)
                        for part in self._shape.part(piece, self._logprobs(piece.placed))
                    ]
                    last = {} if with_usage or not self._answering.all_sent else {"precis": self._about()}
                    yield "".join(self._event([part], usage) for part in parts[:-1]) + self._event(
                        parts[-1:], {**usage, **last}
                    )
            if with_usage:
                yield self._event([], {"usage": self._usage(), "precis": self._about()})
            yield "data: [DONE]\n\n"
        except TimeoutError:
            yield _sse(_too_slow(self._service.limits).to_json())
        except PrecisError as error:
            yield _sse(api_error_of(error).to_json())

    def _event(self, choices: list[dict[str, Any]], more: dict[str, Any]) -> str:
        return _sse({**self._head, "choices": choices, **more})

    def _logprobs(self, placed: Sequence[Placed]) -> dict[str, Any] | None:
        return None if self._ask.top is None else self._shape.logprobs(self._service.tokenizer, placed)

    def _usage(self) -> dict[str, int]:
        asked = self._prepared.prompt_tokens
        answered = sum(choice.tokens for choice in self._answering.choices)
        return {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
        }

    def _as_told(self, piece: Piece) -> Piece:
        """Put the refusal in the place of an answer that is too unsure; those come in one piece."""
        if not self._refuses(self._answering.choices[piece.index]):
            return piece
        return Piece(piece.index, REFUSAL, [], "stop")

    def _refuses(self, choice: Choice) -> bool:
        threshold = self._ask.body.extension.refuse_below
        if not threshold:
            return False
        confidence = self._confidence(choice)
        return confidence is not None and confidence < threshold

    def _confidence(self, choice: Choice) -> float | None:
        """Give the probability that an answer is right and stands in the document, where that is known."""
        prepared, number = self._prepared, self._question(choice)
        if prepared.calibration is None or not choice.entropies:
            return None
        features = features_of(
            choice.log_probabilities,
            choice.entropies,
            self._ask.questions[number],
            choice.stream.text,
            prepared.recalled[number],
            prepared.passages,
        )
        return prepared.calibration.probability(features)

    def _question(self, choice: Choice) -> int:
        """Give the number of the question that it answers."""
        return choice.index // self._ask.answers_each

    def _about_answer(self, choice: Choice) -> dict[str, Any]:
        prepared, number = self._prepared, self._question(choice)
        return {
            "confidence": self._confidence(choice),
            "withheld": choice.stream.text if self._refuses(choice) else None,
            "passages": [asdict(passage) for passage in prepared.recalled[number].passages],
            "positions": prepared.positions + prepared.recalled_tokens[number],
        }

    def _about(self) -> dict[str, Any]:
        prepared, answering = self._prepared, self._answering
        answers = [self._about_answer(choice) for choice in answering.choices]
        several = [{"index": index, **described} for index, described in enumerate(answers)]
        return {
            **answers[0],
            "answers": several if len(several) > 1 else [],
            "recall": prepared.wanted,
            "from": self._ask.body.extension.source,
            "prefix_bytes": prepared.prefix_bytes
            + prepared.recalled_tokens[0] * self._service.model.token_bytes,
            "first_token_s": round(answering.first_token_s or 0.0, 4),
            "seconds": round(answering.seconds, 4),
        }


def _sse(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"


class EventStream(StreamingResponse):
    """A stream of server-sent events whose client may hang up, or not read.

    Parameters
    ----------
    content
        The events.
    send_s
        How long the client may leave a piece unread once the connection's buffers are full.
    at_end
        Called when it is over, however it ends.
    """

    def __init__(self, content: AsyncIterator[str], send_s: float, at_end: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._send_s = send_s
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._at_end()

    async def stream_response(self, send: Send) -> None:
        """Send it to a client that reads."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(self._send_s):
                await send(message)

        try:
            await super().stream_response(in_time)
        except TimeoutError:
            log.info("A client that did not read its answer was let go")
